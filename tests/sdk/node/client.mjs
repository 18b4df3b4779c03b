// Concurrent sessions of the TypeScript SDK's client.
//
// Usage: client.mjs SCENARIO SESSIONS URL [URL]. With two URLs, requests alternate between them.
// The last line printed is {"sessions": […]}, what each session saw; the tests judge it. A scenario that pauses prints
// {"paused": true} once every session is there, and goes on after a line on standard input.
// python/client.py keeps the same contract.

import { setTimeout as delay } from 'node:timers/promises';
import { Session, until } from './session.mjs';

const [scenarioName, sessionCount, ...urls] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));

let arrivals = 0;
const goAhead = new Promise((resolve) => process.stdin.once('data', resolve));

function pause() {
  arrivals += 1;
  if (arrivals === Number(sessionCount)) print({ paused: true });
  return goAhead;
}

async function repeat(times, call) {
  const results = [];
  for (let i = 0; i < times; i++) results.push(await call());
  return results;
}

const count = (session, times) => repeat(times, () => session.call('count'));

async function announcements(session, texts) {
  for (const text of texts) await session.call('announce', { text });
  await until(() => session.heard.length >= texts.length, 'the announcements');
  return session.heard;
}

// Whether the standalone stream is there, or comes back: what is announced meanwhile is lost.
async function hears(session) {
  for (let tries = 0; tries < 25 && session.heard.length === 0; tries++) {
    await session.call('announce', { text: 'still there?' });
    await delay(200);
  }
  return session.heard.length > 0;
}

async function releaseHeld(session, held) {
  await session.call('release');
  return held;
}

const scenarios = {
  async counters(session) {
    return { counts: await count(session, 5), seen: await session.call('seen_id') };
  },

  async progress(session) {
    const steps = [];
    const result = await session.call('progress', { steps: 5, gap_ms: 20 }, (step) => steps.push(step));
    return { steps, result };
  },

  async ask(session, index) {
    return { answer: await session.call('ask', { question: `who is ${index}` }), index };
  },

  async announce(session, index) {
    await until(() => session.streams === 1, 'the standalone stream');
    return { heard: await announcements(session, [`${index} one`, `${index} two`]), index };
  },

  async interrupted(session) {
    const steps = [];
    const result = await session.call('interrupted', { steps: 5 }, (step) => steps.push(step));
    return { steps, result, resumes: session.resumes };
  },

  async delete(session) {
    const deleted = await session.delete();
    return { deleted, post: await session.statusOf('POST'), get: await session.statusOf('GET') };
  },

  // The server that knew the session is gone when the pause is over.
  async forgotten(session) {
    const before = await count(session, 2);
    await until(() => session.streams === 1, 'the standalone stream');
    await pause();
    const counts = [...before, ...(await count(session, 2))];
    return { counts, hears: await hears(session) };
  },

  async outlive(session, index) {
    return outlive(session, index, async () => {});
  },

  async recover(session, index) {
    return outlive(session, index, async () => {
      await until(() => session.resumes === 1, 'the call to be resumed');
      await until(() => session.streams === 2, 'a new standalone stream');
    });
  }
};

// A call under way and a standalone stream while something happens to the proxy.
async function outlive(session, index, recovery) {
  const before = await count(session, 2);
  await until(() => session.streams === 1, 'the standalone stream');
  const steps = [];
  const held = session.call('hold', {}, (step) => steps.push(step));
  await until(() => steps.length === 1, 'the call to be under way');
  await pause();
  await recovery();
  const heard = await announcements(session, [`${index}`]);
  const result = await releaseHeld(session, held);
  const counts = [...before, ...(await count(session, 2))];
  return { counts, heard, index, steps, result, streams: session.streams, resumes: session.resumes };
}

async function runSession(index) {
  const session = await Session.open(urls, index);
  const { id } = session;
  const where = await session.call('where');
  const saw = await scenarios[scenarioName](session, index);
  if (scenarioName !== 'delete') await session.delete();
  return { id, ids: [...session.ids], where, ...saw };
}

const sessions = await Promise.all([...Array(Number(sessionCount)).keys()].map(runSession));
print({ sessions });
process.exit(0);
