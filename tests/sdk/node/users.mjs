// Users of the TypeScript SDK's client, who call a tool again and again.
//
// Usage: users.mjs USERS LIFE URL. LIFE is how many seconds a session lasts before its user begins the next; 0: for ever.
// Prints {"ready": true} once every user has a session, and goes on until a line comes on standard input. The last line
// printed is {"users": […]}, what each saw. python/users.py keeps the same contract.
//
// A user goes on after an error with the same session. One that gets 404, or cannot open it, begins another. The last
// call of a session begins after its end was decided, so it shows whether the session still works.

import { setTimeout as delay } from 'node:timers/promises';
import { ErrorCode } from '@modelcontextprotocol/sdk/types.js';
import { Session } from './session.mjs';

const GAP_MS = 150;
const PAUSE_MS = 300;
const PATIENCE_MS = 6000; // for one call
const FAILED = 502; // pinring's code for a call that failed, in an answer that ends no client

const [userCount, life, url] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));

let missing = Number(userCount);
let over = false;
process.stdin.once('data', () => (over = true));

// Of another session, or one that has lost count.
class WrongAnswer extends Error {}

class User {
  places = [];
  sessions = 0;
  ids = new Set();
  anew = 0;
  died = 0;
  goesOn = false;
  errors = {};
  calls = 0;
  longest = 0;

  fail(session, error) {
    const status = session?.status;
    let kind = `${error.constructor.name} (${error.message})`;
    if (status >= 400) kind = String(status);
    else if (error.code === ErrorCode.RequestTimeout) kind = 'broke off';
    else if (error.code === FAILED) kind = 'call failed';
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
        if (session) this.died += 1;
        await delay(PAUSE_MS);
      }
      session?.ids.forEach((id) => this.ids.add(id));
      await session?.delete().catch(() => {});
    }
    const { places, sessions, anew, died, errors, calls, longest } = this;
    return { places, sessions, ids: this.ids.size, anew, died, goes_on: this.goesOn, errors, calls, longest };
  }

  async work(session) {
    session.patienceMs = PATIENCE_MS;
    this.sessions += 1;
    let where = await session.call('where');
    this.places.push(where);
    if (this.places.length === 1 && --missing === 0) print({ ready: true });
    const end = Date.now() + (Number(life) || Infinity) * 1000;
    let count = 0;
    let isLast = false;
    while (!isLast) {
      await delay(GAP_MS);
      const began = Date.now();
      isLast = over || began >= end;
      this.calls += 1;
      this.goesOn = false;
      try {
        const counted = await session.call('count');
        count += 1;
        if (counted !== `${where}:${count}`) [where, count] = [this.beginAnew(counted, where, count), 1];
        this.goesOn = true;
      } catch (error) {
        this.fail(session, error);
        if (session.status === 404) return;
      } finally {
        this.longest = Math.max(this.longest, (Date.now() - began) / 1000);
      }
    }
  }

  // The session goes on at a server that begins to count.
  beginAnew(counted, where, count) {
    const [place, number] = counted.split(':');
    if (number !== '1') throw new WrongAnswer(`${counted} in place of ${where}:${count}`);
    this.anew += 1;
    this.places.push(place);
    return place;
  }
}

const users = await Promise.all([...Array(Number(userCount)).keys()].map((index) => new User().use(index)));
print({ users });
process.exit(0);
