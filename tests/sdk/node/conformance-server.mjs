// One replica of a server that has what the official conformance suite asks for.
//
// Usage: conformance-server.mjs NAME PORT (0: a free one). Prints `listening PORT` once it accepts.
// The suite's own descriptions of its scenarios say what each name below has to answer.

import { setTimeout as delay } from 'node:timers/promises';
import { completable } from '@modelcontextprotocol/sdk/server/completable.js';
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js';
import {
  CreateMessageResultSchema,
  ElicitResultSchema,
  ListToolsRequestSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema
} from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { serve } from './sessions.mjs';

const [name, port] = process.argv.slice(2);

const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=';

const text = (value) => ({ type: 'text', text: value });
const image = { type: 'image', data: PNG, mimeType: 'image/png' };
const resource = (uri, mimeType, value) => ({ type: 'resource', resource: { uri, mimeType, text: value } });
const content = (...items) => ({ content: items });
const user = (item) => ({ role: 'user', content: item });

const SCHEMA_2020_12_TOOL = {
  name: 'json_schema_2020_12_tool',
  description: 'Tool with JSON Schema 2020-12 features',
  inputSchema: {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    $defs: { address: { type: 'object', properties: { street: { type: 'string' }, city: { type: 'string' } } } },
    properties: { name: { type: 'string' }, address: { $ref: '#/$defs/address' } },
    additionalProperties: false
  }
};

const titled = (...pairs) => pairs.map(([value, title]) => ({ const: value, title }));
const TITLES = titled(['value1', 'First Option'], ['value2', 'Second Option'], ['value3', 'Third Option']);
const OPTIONS = ['option1', 'option2', 'option3'];

const ELICITATIONS = {
  test_elicitation: {
    username: { type: 'string', description: "User's response" },
    email: { type: 'string', description: "User's email address" }
  },
  test_elicitation_sep1034_defaults: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true }
  },
  test_elicitation_sep1330_enums: {
    untitledSingle: { type: 'string', enum: OPTIONS },
    titledSingle: { type: 'string', oneOf: TITLES },
    legacyEnum: {
      type: 'string',
      enum: ['opt1', 'opt2', 'opt3'],
      enumNames: ['Option One', 'Option Two', 'Option Three']
    },
    untitledMulti: { type: 'array', items: { type: 'string', enum: OPTIONS } },
    titledMulti: { type: 'array', items: { anyOf: TITLES } }
  }
};

function addContentTools(tool) {
  tool('test_simple_text', () => content(text('This is a simple text response for testing.')));
  tool('test_image_content', () => content(image));
  tool('test_audio_content', () => content({ type: 'audio', data: WAV, mimeType: 'audio/wav' }));
  tool('test_embedded_resource', () =>
    content(resource('test://embedded-resource', 'text/plain', 'This is an embedded resource content.'))
  );
  tool('test_multiple_content_types', () =>
    content(
      text('Multiple content types test:'),
      image,
      resource('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}')
    )
  );
  tool('test_error_handling', () => {
    throw new Error('This tool intentionally returns an error for testing');
  });
}

function addStreamingTools(tool) {
  tool('test_tool_with_logging', async (_, extra) => {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await extra.sendNotification({ method: 'notifications/message', params: { level: 'info', data } });
      await delay(50);
    }
    return content(text('Logged three times'));
  });
  tool('test_tool_with_progress', async (_, extra) => {
    const progressToken = extra._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      const params = { progressToken, progress, total: 100 };
      if (progressToken !== undefined) await extra.sendNotification({ method: 'notifications/progress', params });
      await delay(50);
    }
    return content(text('Reported progress'));
  });
  tool('test_reconnection', async (_, extra) => {
    extra.closeSSEStream?.();
    await delay(100);
    return content(text('Answered after the stream was closed'));
  });
}

function addAskingTools(tool) {
  tool('test_sampling', async ({ prompt }, extra) => {
    const params = { messages: [user(text(prompt))], maxTokens: 100 };
    const reply = await extra.sendRequest({ method: 'sampling/createMessage', params }, CreateMessageResultSchema);
    return content(text(`LLM response: ${reply.content.text}`));
  }, { prompt: z.string() });

  for (const [toolName, properties] of Object.entries(ELICITATIONS)) {
    const input = toolName === 'test_elicitation' ? { message: z.string() } : {};
    tool(toolName, async ({ message = 'Please answer' }, extra) => {
      const requestedSchema = { type: 'object', properties, required: [] };
      const params = { mode: 'form', message, requestedSchema };
      const reply = await extra.sendRequest({ method: 'elicitation/create', params }, ElicitResultSchema);
      return content(text(`Elicitation completed: action=${reply.action}, content=${JSON.stringify(reply.content)}`));
    }, input);
  }
}

function addResources(server) {
  const add = (resourceName, uri, contents) =>
    server.registerResource(resourceName, uri, { description: resourceName, mimeType: contents.mimeType }, () => ({
      contents: [{ uri, ...contents }]
    }));
  add('static text', 'test://static-text', {
    mimeType: 'text/plain',
    text: 'This is the content of the static text resource.'
  });
  add('static binary', 'test://static-binary', { mimeType: 'image/png', blob: PNG });
  add('watched', 'test://watched-resource', { mimeType: 'text/plain', text: 'Watched' });
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined });
  server.registerResource('template', template, { mimeType: 'application/json' }, (uri, { id }) => {
    const data = { id, templateTest: true, data: `Data for ID: ${id}` };
    return { contents: [{ uri: uri.href, mimeType: 'application/json', text: JSON.stringify(data) }] };
  });
  server.server.registerCapabilities({ resources: { subscribe: true } });
  server.server.setRequestHandler(SubscribeRequestSchema, () => ({}));
  server.server.setRequestHandler(UnsubscribeRequestSchema, () => ({}));
}

function addPrompts(server) {
  const add = (promptName, argsSchema, messages) =>
    server.registerPrompt(promptName, { description: promptName, argsSchema }, (args) => ({ messages: messages(args) }));
  const suggest = (value) => ['test', 'testing'].filter((word) => word.startsWith(value));
  add('test_simple_prompt', {}, () => [user(text('This is a simple prompt for testing.'))]);
  add(
    'test_prompt_with_arguments',
    { arg1: completable(z.string(), suggest), arg2: completable(z.string(), suggest) },
    ({ arg1, arg2 }) => [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))]
  );
  add('test_prompt_with_embedded_resource', { resourceUri: z.string() }, ({ resourceUri }) => [
    user(resource(resourceUri, 'text/plain', 'Embedded resource content for testing.')),
    user(text('Please process the embedded resource above.'))
  ]);
  add('test_prompt_with_image', {}, () => [user(image), user(text('Please analyze the image above.'))]);
}

// McpServer would write the schema anew from zod, without the keywords that the suite looks for.
function addVerbatimTool(server) {
  const list = server.server._requestHandlers.get('tools/list');
  server.server.setRequestHandler(ListToolsRequestSchema, async (request, extra) => {
    const { tools } = await list(request, extra);
    return { tools: [...tools, SCHEMA_2020_12_TOOL] };
  });
}

function newServer() {
  const server = new McpServer({ name, version: '1.0.0' }, { capabilities: { logging: {} } });
  const tool = (toolName, run, inputSchema = {}) =>
    server.registerTool(toolName, { description: toolName, inputSchema }, run);
  addContentTools(tool);
  addStreamingTools(tool);
  addAskingTools(tool);
  addVerbatimTool(server);
  addResources(server);
  addPrompts(server);
  return server;
}

serve(Number(port), newServer);
