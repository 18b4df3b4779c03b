// The table of transports by session, as the SDK's own example servers keep it: in the process, and nowhere else.

import { randomUUID } from 'node:crypto';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js';
import { SessionEventStore } from './event-store.mjs';

const RETRY_MS = 500;

const refuse = (response, status, code, message) =>
  response.status(status).json({ jsonrpc: '2.0', error: { code, message }, id: null });

async function open(transports, newServer) {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    eventStore: new SessionEventStore(),
    retryInterval: RETRY_MS,
    onsessioninitialized: (id) => transports.set(id, transport)
  });
  transport.onclose = () => transports.delete(transport.sessionId);
  await newServer().connect(transport);
  return transport;
}

// The older transport, HTTP+SSE: the stream at /sse names the URL that its messages are posted to.
function serveOlder(app, newServer) {
  const transports = new Map();
  app.get('/sse', async (_request, response) => {
    const transport = new SSEServerTransport('/messages', response);
    transports.set(transport.sessionId, transport);
    response.on('close', () => transports.delete(transport.sessionId));
    await newServer().connect(transport);
  });
  app.post('/messages', async (request, response) => {
    const transport = transports.get(request.query.sessionId);
    if (!transport) return response.status(404).send('Session not found');
    await transport.handlePostMessage(request, response, request.body);
  });
}

// Serves one MCP server per session at /mcp, and at /sse. Prints `listening PORT` once it accepts.
export function serve(port, newServer) {
  const transports = new Map();
  const app = createMcpExpressApp();
  app.all('/mcp', async (request, response) => {
    const id = request.headers['mcp-session-id'];
    let transport = transports.get(id);
    if (!transport && id) return refuse(response, 404, -32001, 'Session not found');
    if (!transport && !isInitializeRequest(request.body)) {
      return refuse(response, 400, -32000, 'Bad Request: No valid session ID provided');
    }
    transport ??= await open(transports, newServer);
    await transport.handleRequest(request, response, request.body);
  });
  serveOlder(app, newServer);
  const listener = app.listen(port, '127.0.0.1', (error) => {
    if (error) throw error;
    console.log(`listening ${listener.address().port}`);
  });
}
