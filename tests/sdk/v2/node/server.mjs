// One replica of an MCP server on the TypeScript SDK 2.x that serves both eras at /mcp: sessions of the revisions up to
// 2025-11-25, kept in this process as the SDK's examples do it, and stateless requests of 2026-07-28.
//
// Usage: server.mjs NAME PORT (0: a free one). Prints `listening PORT` once it accepts, and `cancelled MILLISECONDS`
// (of the epoch) when the client of a modern `hold` leaves.
// The tools are those of ../python/server.py: the tests ask both servers the same questions.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import {
  localhostHostValidation,
  localhostOriginValidation,
  NodeStreamableHTTPServerTransport,
  toNodeHandler,
  toWebRequest
} from '@modelcontextprotocol/node';
import {
  acceptedContent,
  createMcpHandler,
  inputRequired,
  inputResponse,
  isInitializeRequest,
  isLegacyRequest,
  McpServer
} from '@modelcontextprotocol/server';
import { z } from 'zod';
import { SessionEventStore } from '../../node/event-store.mjs';

const [name, port] = process.argv.slice(2);
const RETRY_MS = 500;

const text = (value) => ({ content: [{ type: 'text', text: value }] });

const answerTo = (message) => ({
  mode: 'form',
  message,
  requestedSchema: { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] }
});
const completionOf = (prompt) => ({
  messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
  maxTokens: 10
});

function report(ctx, progress, total) {
  const params = { progressToken: ctx.mcpReq._meta?.progressToken, progress, total, message: name };
  return ctx.mcpReq.notify({ method: 'notifications/progress', params });
}

// Without it the SDK asks on the standalone stream, which not every client opens.
const onItsStream = (ctx) => ({ relatedRequestId: ctx.mcpReq.id });

// Resolves when the call is released, or its client has left.
function held(ctx, keep) {
  return new Promise((resolve) => {
    keep(resolve);
    ctx.mcpReq.signal.addEventListener('abort', () => {
      console.log(`cancelled ${Date.now()}`);
      resolve();
    });
  });
}

function newServer({ era }) {
  const capabilities = { logging: {}, tools: { listChanged: true } };
  const server = new McpServer({ name, version: '1.0.0' }, { capabilities });
  let count = 0;
  let release = () => {};
  const tool = (toolName, shape, run) => server.registerTool(toolName, { inputSchema: z.object(shape) }, run);

  tool('where', {}, () => text(name));
  tool('count', {}, () => text(`${name}:${++count}`));

  // The session's id as it stood in this request's header.
  tool('seen_id', {}, (_, ctx) => text(`${ctx.http.req.headers.get('mcp-session-id')}`));

  tool('progress', { steps: z.number(), gap_ms: z.number() }, async ({ steps, gap_ms }, ctx) => {
    for (let step = 1; step <= steps; step++) {
      await report(ctx, step, steps);
      await delay(gap_ms);
    }
    return text(name);
  });

  tool('ask', { question: z.string() }, async ({ question }, ctx) => {
    if (era === 'legacy') {
      const reply = await ctx.mcpReq.elicitInput(answerTo(question), onItsStream(ctx));
      return text(`${name}:${reply.content.answer}`);
    }
    const reply = acceptedContent(ctx.mcpReq.inputResponses, 'answer');
    if (!reply) return inputRequired({ inputRequests: { answer: inputRequired.elicit(answerTo(question)) } });
    return text(`${name}:${reply.answer}`);
  });

  tool('sample', { prompt: z.string() }, async ({ prompt }, ctx) => {
    if (era === 'legacy') {
      const reply = await ctx.mcpReq.requestSampling(completionOf(prompt), onItsStream(ctx));
      return text(`${name}:${reply.content.text}`);
    }
    const reply = inputResponse(ctx.mcpReq.inputResponses, 'completion');
    if (reply.kind !== 'sampling') {
      return inputRequired({ inputRequests: { completion: inputRequired.createMessage(completionOf(prompt)) } });
    }
    return text(`${name}:${reply.result.content.text}`);
  });

  // Belongs to no request, so it takes the standalone stream: of the session, or every `subscriptions/listen` here.
  tool('announce', { text: z.string() }, async ({ text: data }) => {
    if (era === 'legacy') await server.sendLoggingMessage({ level: 'info', data });
    else modern.notify.toolsChanged();
    return text(name);
  });

  // Ends its own stream after the first step: the rest is heard by those who resume.
  tool('interrupted', { steps: z.number() }, async ({ steps }, ctx) => {
    await report(ctx, 1, steps);
    ctx.http.closeSSE();
    for (let step = 2; step <= steps; step++) await report(ctx, step, steps);
    return text(name);
  });

  // Stays under way until the same session calls `release`, or the client of a modern call leaves.
  tool('hold', {}, async (_, ctx) => {
    const released = held(ctx, (resolve) => (release = resolve));
    await report(ctx, 1, 2);
    await released;
    await report(ctx, 2, 2);
    return text(name);
  });
  tool('release', {}, () => {
    release();
    return text(name);
  });
  return server;
}

const modern = createMcpHandler(newServer, { legacy: 'reject' });
const serveModern = toNodeHandler(modern);
const transports = new Map();

async function openSession() {
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    eventStore: new SessionEventStore(),
    retryInterval: RETRY_MS,
    onsessioninitialized: (id) => transports.set(id, transport)
  });
  transport.onclose = () => transports.delete(transport.sessionId);
  await newServer({ era: 'legacy' }).connect(transport);
  return transport;
}

function refuse(response, status, code, message) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null }));
}

async function serveLegacy(request, response, body) {
  const id = request.headers['mcp-session-id'];
  let transport = transports.get(id);
  if (!transport && id) return refuse(response, 404, -32001, 'Session not found');
  if (!transport && !isInitializeRequest(body)) return refuse(response, 400, -32000, 'No valid session ID provided');
  transport ??= await openSession();
  await transport.handleRequest(request, response, body);
}

async function bodyOf(request) {
  const chunks = await Array.fromAsync(request);
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return undefined;
  }
}

const validHost = localhostHostValidation();
const validOrigin = localhostOriginValidation();

async function serve(request, response) {
  if (!validHost(request, response) || !validOrigin(request, response)) return;
  const body = request.method === 'POST' ? await bodyOf(request) : undefined;
  const isLegacy = body === undefined || (await isLegacyRequest(await toWebRequest(request, body), body));
  if (isLegacy) await serveLegacy(request, response, body);
  else await serveModern(request, response, body);
}

// A client that leaves within its request must not end the server.
const listener = createServer((request, response) => serve(request, response).catch(() => response.destroy()));
listener.listen(Number(port), '127.0.0.1', () => console.log(`listening ${listener.address().port}`));
