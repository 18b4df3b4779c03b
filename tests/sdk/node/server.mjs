// One replica of a stateful, resumable MCP server on the TypeScript SDK.
//
// Usage: server.mjs NAME PORT (0: a free one). Prints `listening PORT` once it accepts.
// The tools are those of python/server.py: the tests ask both servers the same questions.

import { setTimeout as delay } from 'node:timers/promises';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { CreateMessageResultSchema, ElicitResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { serve } from './sessions.mjs';

const [name, port] = process.argv.slice(2);

const text = (value) => ({ content: [{ type: 'text', text: value }] });

const ANSWER_SCHEMA = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] };

function report(extra, progress, total) {
  const progressToken = extra._meta?.progressToken;
  return extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress, total } });
}

function newServer() {
  const server = new McpServer({ name, version: '1.0.0' }, { capabilities: { logging: {} } });
  let count = 0;
  let release = () => {};
  const tool = (toolName, inputSchema, run) => server.registerTool(toolName, { inputSchema }, run);

  tool('where', {}, () => text(name));
  tool('count', {}, () => text(`${name}:${++count}`));
  // The session's id as it stood in this request's header.
  tool('seen_id', {}, (_, extra) => text(extra.requestInfo.headers['mcp-session-id']));

  tool('progress', { steps: z.number(), gap_ms: z.number() }, async ({ steps, gap_ms }, extra) => {
    for (let step = 1; step <= steps; step++) {
      await report(extra, step, steps);
      await delay(gap_ms);
    }
    return text(name);
  });

  tool('ask', { question: z.string() }, async ({ question }, extra) => {
    const params = { mode: 'form', message: question, requestedSchema: ANSWER_SCHEMA };
    const reply = await extra.sendRequest({ method: 'elicitation/create', params }, ElicitResultSchema);
    return text(`${name}:${reply.content.answer}`);
  });

  tool('sample', { prompt: z.string() }, async ({ prompt }, extra) => {
    const params = { messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 10 };
    const reply = await extra.sendRequest({ method: 'sampling/createMessage', params }, CreateMessageResultSchema);
    return text(`${name}:${reply.content.text}`);
  });

  // Belongs to no request, so it takes the standalone stream.
  tool('announce', { text: z.string() }, async ({ text: data }) => {
    await server.sendLoggingMessage({ level: 'info', data });
    return text(name);
  });

  // Ends its own stream after the first step: the rest is heard by those who resume.
  tool('interrupted', { steps: z.number() }, async ({ steps }, extra) => {
    await report(extra, 1, steps);
    extra.closeSSEStream();
    for (let step = 2; step <= steps; step++) await report(extra, step, steps);
    return text(name);
  });

  // Stays under way until the same session calls `release`.
  tool('hold', {}, async (_, extra) => {
    const released = new Promise((resolve) => (release = resolve));
    await report(extra, 1, 2);
    await released;
    await report(extra, 2, 2);
    return text(name);
  });
  tool('release', {}, () => {
    release();
    return text(name);
  });
  return server;
}

serve(Number(port), newServer);
