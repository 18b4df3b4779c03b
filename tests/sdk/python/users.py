"""Users of the Python SDK's client, who call a tool again and again.

Usage: users.py USERS LIFE URL. LIFE is how many seconds a session lasts before its user begins the next; 0: for ever.
Prints {"ready": true} once every user has a session, and goes on until a line comes on standard input. The last line
printed is {"users": […]}, what each saw. node/users.mjs keeps the same contract.

A user goes on after an error with the same session. One that gets 404, or whose client has died, begins another.
The last call of a session begins after its end was decided, so it shows whether the session still works.
"""

import json
import os
import sys
import traceback

import anyio
from mcp import McpError
from session import Session, opened

GAP = 0.15
PAUSE = 0.3
PATIENCE = 6.0
"""For one call."""

TIMED_OUT = 408
"""The SDK's code for a call whose time has run out."""

FAILED = 502
"""pinring's code for a call that failed, in an answer that ends no client."""


def say(value) -> None:
    print(json.dumps(value), flush=True)


class Over:
    """Tells when all users are there, and when it is over."""

    def __init__(self, users: int) -> None:
        self.missing = users
        self.event = anyio.Event()

    def arrive(self) -> None:
        self.missing -= 1
        if self.missing == 0:
            say({"ready": True})

    async def watch(self) -> None:
        await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        self.event.set()

    def __bool__(self) -> bool:
        return self.event.is_set()


class WrongAnswer(Exception):
    """Of another session, or one that has lost count."""


class User:
    def __init__(self, url: str, index: int, life: float, over: Over) -> None:
        self.url, self.index, self.life, self.over = url, index, life or float("inf"), over
        self.places: list[str] = []
        self.sessions = 0
        self.ids: set[str] = set()
        self.anew = 0
        self.died = 0
        self.goes_on = False
        self.errors: dict[str, int] = {}
        self.calls = 0
        self.longest = 0.0

    def fail(self, session: Session | None, error: BaseException) -> None:
        status = session and session.status
        if status and status >= 400:
            kind = str(status)
        elif isinstance(error, McpError) and error.error.code == TIMED_OUT:
            kind = "broke off"
        elif isinstance(error, McpError) and error.error.code == FAILED:
            kind = "call failed"
        else:
            kind = f"{type(error).__name__} ({error})"
        self.errors[kind] = self.errors.get(kind, 0) + 1

    async def use(self) -> None:
        while not self.over:
            session = None
            try:
                async with opened([self.url], self.index) as session:
                    await self.work(session)
            except Exception as error:  # the client has died
                self.fail(session, error)
                self.died += session is not None
                await anyio.sleep(PAUSE)
            finally:
                if session:
                    self.ids |= session.ids
                    await session.http.aclose()

    async def work(self, session: Session) -> None:
        session.patience = PATIENCE
        self.sessions += 1
        where = await session.call("where")
        self.places.append(where)
        if len(self.places) == 1:
            self.over.arrive()
        end = anyio.current_time() + self.life
        count = 0
        is_last = False
        while not is_last:
            await anyio.sleep(GAP)
            began = anyio.current_time()
            is_last = bool(self.over) or began >= end
            self.calls += 1
            self.goes_on = False
            try:
                counted = await session.call("count")
                count += 1
                if counted != f"{where}:{count}":
                    where, count = self.begin_anew(counted, where, count), 1
                self.goes_on = True
            except Exception as error:
                self.fail(session, error)
                if session.status == 404:
                    return
            finally:
                self.longest = max(self.longest, anyio.current_time() - began)

    def begin_anew(self, counted: str, where: str, count: int) -> str:
        """The session goes on at a server that begins to count."""
        place, number = counted.split(":")
        if number != "1":
            raise WrongAnswer(f"{counted} in place of {where}:{count}")
        self.anew += 1
        self.places.append(place)
        return place

    def saw(self) -> dict:
        names = ["places", "sessions", "anew", "died", "goes_on", "errors", "calls", "longest"]
        return {name: getattr(self, name) for name in names} | {"ids": len(self.ids)}


async def main(users: int, life: float, url: str) -> None:
    over = Over(users)
    all_users = [User(url, index, life, over) for index in range(users)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(over.watch)
        for user in all_users:
            tasks.start_soon(user.use)
    say({"users": [user.saw() for user in all_users]})


if __name__ == "__main__":
    status = 0
    try:
        anyio.run(main, int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)  # a thread may still wait for standard input
