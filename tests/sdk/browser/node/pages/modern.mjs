// Clients of the TypeScript SDK 2.x, one after the other. `mode` is legacy, auto, or a revision.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

async function tour(url, mode, index) {
  const versionNegotiation = { mode: mode.startsWith('20') ? { pin: mode } : mode };
  const capabilities = { elicitation: { form: {} } };
  const client = new Client({ name: 'page', version: '1.0.0' }, { capabilities, versionNegotiation });
  client.setRequestHandler('elicitation/create', ({ params }) => ({
    action: 'accept',
    content: { answer: `re: ${params.message}` }
  }));
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  const call = async (name, args = {}, onprogress = undefined) => {
    const result = await client.callTool({ name, arguments: args }, { onprogress });
    if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
    return result.content[0].text;
  };
  const counts = [];
  while (counts.length < 5) counts.push(await call('count'));
  const steps = [];
  await call('progress', { steps: 3, gap_ms: 5 }, ({ progress }) => steps.push(progress));
  const answer = await call('ask', { question: `who is ${index}` });
  const version = client.getNegotiatedProtocolVersion();
  await client.close();
  return { version, counts, steps, answer };
}

export async function run(url, mode, count) {
  const clients = [];
  while (clients.length < count) clients.push(await tour(url, mode, clients.length));
  return clients;
}
