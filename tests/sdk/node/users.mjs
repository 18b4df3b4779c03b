// Users of the TypeScript SDK's client, who call a tool again and again.
//
// Usage: users.mjs USERS LIFE URL. LIFE is how many seconds a session lasts before its user begins the next; 0: for ever.
// Prints {"ready": true} once every user has a session, and goes on until a line comes on standard input. The last line
// printed is {"users": […]}, what each saw. python/users.py keeps the same contract.
//
// A user goes on after an error with the same session. One that gets 404, or cannot open it, begins another.

import { setTimeout as delay } from 'node:timers/promises';
import { Session } from './session.mjs';

const GAP_MS = 150;
const PAUSE_MS = 300;
const PATIENCE_MS = 6000; // for one call

const [userCount, life, url] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));

let missing = Number(userCount);
let over = false;
process.stdin.once('data', () => (over = true));

// Of another session, or one that has forgotten its count.
class WrongAnswer extends Error {}

class User {
  places = [];
  errors = {};
  calls = 0;
  longest = 0;

  fail(session, error) {
    const status = session?.status;
    let kind = `${error.constructor.name} (${error.message})`;
    if (status && !(error instanceof WrongAnswer)) kind = status >= 400 ? String(status) : 'broke off';
    this.errors[kind] = (this.errors[kind] ?? 0) + 1;
  }

  async use(index) {
    while (!over) {
      let session;
      try {
        session = await Session.open([url], index);
        await this.work(session);
      } catch (error) {
        this.fail(session, error);
        await delay(PAUSE_MS);
      }
      await session?.delete().catch(() => {});
    }
    const { places, errors, calls, longest } = this;
    return { places, errors, calls, longest };
  }

  async work(session) {
    session.patienceMs = PATIENCE_MS;
    const where = await session.call('where');
    this.places.push(where);
    if (this.places.length === 1 && --missing === 0) print({ ready: true });
    const end = Date.now() + (Number(life) || Infinity) * 1000;
    let count = 0;
    while (!over && Date.now() < end) {
      const began = Date.now();
      this.calls += 1;
      try {
        const counted = await session.call('count');
        count += 1;
        if (counted !== `${where}:${count}`) throw new WrongAnswer(`${counted} in place of ${where}:${count}`);
      } catch (error) {
        this.fail(session, error);
        if (session.status === 404) return;
      } finally {
        this.longest = Math.max(this.longest, (Date.now() - began) / 1000);
      }
      await delay(GAP_MS);
    }
  }
}

const users = await Promise.all([...Array(Number(userCount)).keys()].map((index) => new User().use(index)));
print({ users });
process.exit(0);
