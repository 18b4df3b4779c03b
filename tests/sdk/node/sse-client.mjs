// Concurrent sessions of the TypeScript SDK's client over the older transport, HTTP+SSE.
//
// Usage: sse-client.mjs SESSIONS URL. The last line printed is {"sessions": […]}, what each session saw.
// python/sse_client.py keeps the same contract.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const [sessionCount, url] = process.argv.slice(2);

async function runSession(index) {
  const client = new Client({ name: 'node-client', version: '1.0.0' }, { capabilities: { elicitation: { form: {} } } });
  client.setRequestHandler(ElicitRequestSchema, ({ params }) => ({
    action: 'accept',
    content: { answer: `re: ${params.message}` }
  }));
  await client.connect(new SSEClientTransport(new URL(url)));
  const call = async (name, args = {}) => (await client.callTool({ name, arguments: args })).content[0].text;
  const where = await call('where');
  const counts = [];
  for (let i = 0; i < 5; i++) counts.push(await call('count'));
  const answer = await call('ask', { question: `who is ${index}` });
  await client.close();
  return { where, counts, answer };
}

const sessions = await Promise.all([...Array(Number(sessionCount)).keys()].map(runSession));
console.log(JSON.stringify({ sessions }));
process.exit(0);
