// Concurrent clients of the TypeScript SDK 2.x.
//
// Usage: client.mjs SCENARIO legacy|auto|2026-07-28 CLIENTS URL [REPLICA…]. The last line printed is {"clients": […]}, what each
// client saw; the tests judge it. ../python/client.py keeps the same contract.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [scenarioName, mode, clientCount, url, ...replicas] = process.argv.slice(2);
const COUNTS = 6;
const PATIENCE_MS = 2000;

// The methods that were posted before the first call, which tell how the era was found.
function watched(methods) {
  return async (target, init) => {
    const { method } = JSON.parse(init.body ?? '{}');
    if (method) methods.push(method);
    return fetch(target, init);
  };
}

const scenarios = {
  // Calls that stand alone, or are of one session, and one that is streamed.
  async tour(call) {
    const counts = [];
    while (counts.length < COUNTS) counts.push(await call('count'));
    const steps = [];
    const where = await call('progress', { steps: 3, gap_ms: 5 }, ({ progress }) => steps.push(progress));
    return { counts, steps, where };
  },

  // A call of several rounds. A refused round is an answer too.
  async rounds(call, index) {
    try {
      return { index, answer: await call('ask_twice', { question: `who is ${index}` }) };
    } catch (error) {
      return { index, error: error.message };
    }
  },

  // A stream of changes, and at which of the replicas they are made that it hears of.
  async changes(_call, _index, client) {
    let onChange;
    client.setNotificationHandler('notifications/tools/list_changed', () => onChange());
    const stream = await client.listen({ toolsListChanged: true });
    const heard = [];
    for (const replica of replicas) {
      const change = new Promise((resolve) => {
        onChange = () => resolve(true);
        setTimeout(resolve, PATIENCE_MS, false);
      });
      const direct = await connect(replica, []);
      await direct.callTool({ name: 'announce', arguments: { text: 'changed' } });
      await direct.close();
      heard.push(await change);
    }
    await stream.close();
    return { honored: stream.honoredFilter, heard };
  }
};

async function connect(target, methods) {
  const capabilities = { elicitation: { form: {} }, sampling: {} };
  const versionNegotiation = { mode: mode.startsWith('20') ? { pin: mode } : mode };
  const client = new Client({ name: 'node-v2-client', version: '1.0.0' }, { capabilities, versionNegotiation });
  client.setRequestHandler('elicitation/create', ({ params }) => ({
    action: 'accept',
    content: { answer: `re: ${params.message}` }
  }));
  await client.connect(new StreamableHTTPClientTransport(new URL(target), { fetch: watched(methods) }));
  return client;
}

async function run(index) {
  const methods = [];
  const client = await connect(url, methods);
  const opening = methods.filter((method) => !method.startsWith('notifications/'));
  const version = client.getNegotiatedProtocolVersion();
  const call = async (name, args = {}, onprogress = undefined) => {
    const result = await client.callTool({ name, arguments: args }, { onprogress });
    if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
    return result.content[0].text;
  };
  const saw = await scenarios[scenarioName](call, index, client);
  await client.close();
  return { version, opening, ...saw };
}

const clients = await Promise.all([...Array(Number(clientCount)).keys()].map(run));
console.log(JSON.stringify({ clients }));
process.exit(0);
