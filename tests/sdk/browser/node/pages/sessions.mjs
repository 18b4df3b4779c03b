// Sessions of the TypeScript SDK's client 1.x, one after the other: a browser has six connections to a host, of which
// each session needs up to three.

import { Session, until } from '../../../node/session.mjs';

async function tour(url, index) {
  const session = await Session.open([url], 0);
  const counts = [];
  while (counts.length < 5) counts.push(await session.call('count'));
  const steps = [];
  await session.call('progress', { steps: 3, gap_ms: 5 }, (step) => steps.push(step));
  const answer = await session.call('ask', { question: `who is ${index}` });
  // What belongs to no call is heard on the standalone stream.
  await until(() => session.streams === 1, 'the standalone stream');
  await session.call('announce', { text: 'here' });
  await until(() => session.heard.length > 0, 'the announcement');
  const seen = await session.call('seen_id');
  const deleted = await session.delete();
  const gone = await session.statusOf('POST');
  return { id: session.id, ids: [...session.ids], counts, steps, answer, heard: session.heard, seen, deleted, gone };
}

export async function run(url, count) {
  const sessions = [];
  while (sessions.length < count) sessions.push(await tour(url, sessions.length));
  return sessions;
}
