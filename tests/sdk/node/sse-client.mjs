// Concurrent sessions of the TypeScript SDK's client over the older transport, HTTP+SSE.
//
// Usage: sse-client.mjs SCENARIO SESSIONS URL. The last line printed is {"sessions": […]}, what each session saw.
// python/sse_client.py keeps the same contract.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const [scenario, sessionCount, url] = process.argv.slice(2);

const repeat = async (times, call) => {
  const results = [];
  for (let i = 0; i < times; i++) results.push(await call());
  return results;
};

const scenarios = {
  // The tools of the servers of these tests.
  async tools(call, index) {
    const where = await call('where');
    const counts = await repeat(5, () => call('count'));
    return { where, counts, answer: await call('ask', { question: `who is ${index}` }) };
  },

  // What server-everything tells of its process, by several calls.
  async environments(call) {
    return { ports: await repeat(5, async () => JSON.parse(await call('get-env')).PORT) };
  }
};

async function runSession(index) {
  const client = new Client({ name: 'node-client', version: '1.0.0' }, { capabilities: { elicitation: { form: {} } } });
  client.setRequestHandler(ElicitRequestSchema, ({ params }) => ({
    action: 'accept',
    content: { answer: `re: ${params.message}` }
  }));
  await client.connect(new SSEClientTransport(new URL(url)));
  const call = async (name, args = {}) => (await client.callTool({ name, arguments: args })).content[0].text;
  const saw = await scenarios[scenario](call, index);
  await client.close();
  return saw;
}

const sessions = await Promise.all([...Array(Number(sessionCount)).keys()].map(runSession));
console.log(JSON.stringify({ sessions }));
process.exit(0);
