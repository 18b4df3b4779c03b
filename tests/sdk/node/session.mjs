// One session of the TypeScript SDK's client, watched from below: the HTTP requests that the SDK makes for it. Pages run
// it too, so nothing here is Node's alone.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema, LoggingMessageNotificationSchema } from '@modelcontextprotocol/sdk/types.js';

const DEADLINE_MS = 20_000;
const delay = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function until(holds, what) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await delay(10);
  }
}

// Patient enough for a proxy that is away for a moment: the default gives up after two tries.
const RECONNECTION = {
  initialReconnectionDelay: 100,
  maxReconnectionDelay: 500,
  reconnectionDelayGrowFactor: 1.5,
  maxRetries: 30
};

export class Session {
  // Standalone streams opened, streams resumed with Last-Event-ID, ids in answers, announcements received, and the
  // status of the last request once it is answered.
  status;
  patienceMs = DEADLINE_MS;
  streams = 0;
  resumes = 0;
  ids = new Set();
  heard = [];
  #urls;
  #requests;
  #client;
  #transport;

  // The first request goes to the URL of the session's index, so that both URLs open sessions.
  static async open(urls, index) {
    const session = new Session();
    session.#urls = urls;
    session.#requests = index;
    await session.#connect();
    session.id = session.#transport.sessionId;
    return session;
  }

  async #connect() {
    this.#client = new Client(
      { name: 'node-client', version: '1.0.0' },
      { capabilities: { elicitation: { form: {} } } }
    );
    this.#client.setRequestHandler(ElicitRequestSchema, ({ params }) => ({
      action: 'accept',
      content: { answer: `re: ${params.message}` }
    }));
    this.#client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
      this.heard.push(params.data);
    });
    this.#transport = new StreamableHTTPClientTransport(new URL(this.#urls[0]), {
      fetch: (_url, init) => this.#fetch(init),
      reconnectionOptions: RECONNECTION
    });
    await this.#client.connect(this.#transport);
  }

  async #fetch(init) {
    const url = this.#urls[this.#requests++ % this.#urls.length];
    // A call that timed out is followed by a notification, whose status tells nothing about the call.
    const asks = init.method === 'POST' && JSON.parse(init.body).id !== undefined;
    if (asks) this.status = undefined;
    const response = await fetch(url, init);
    if (asks) this.status = response.status;
    const id = response.headers.get('mcp-session-id');
    if (id) this.ids.add(id);
    if (init.method === 'GET' && response.ok) {
      if (new Headers(init.headers).has('last-event-id')) this.resumes += 1;
      else this.streams += 1;
    }
    return response;
  }

  async call(name, args = {}, onStep = () => {}) {
    const result = await this.#client.callTool({ name, arguments: args }, undefined, {
      onprogress: ({ progress }) => onStep(progress),
      timeout: this.patienceMs
    });
    if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
    return result.content[0].text;
  }

  // Ends the session, and answers the status of a DELETE by the SDK: it throws for any but 2xx and 405.
  async delete() {
    await this.#transport.terminateSession();
    await this.#client.close();
    return 200;
  }

  async statusOf(method) {
    const headers = {
      accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-protocol-version': '2025-11-25',
      'mcp-session-id': this.id
    };
    const body = method === 'POST' ? JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }) : undefined;
    const response = await this.#fetch({ method, headers, body });
    await response.body?.cancel();
    return response.status;
  }
}
