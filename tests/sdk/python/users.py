"""Users of the Python SDK's client, who call a tool again and again.

Usage: users.py USERS LIFE URL. LIFE is how many seconds a session lasts before its user begins the next; 0: for ever.
Prints {"ready": true} once every user has a session, and goes on until a line comes on standard input. The last line
printed is {"users": […]}, what each saw. node/users.mjs keeps the same contract.

A user goes on after an error with the same session. One that gets 404, or whose client has died, begins another.
"""

import json
import os
import sys
import traceback

import anyio
from session import Session, opened

GAP = 0.15
PAUSE = 0.3
PATIENCE = 6.0
"""For one call."""


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
    """Of another session, or one that has forgotten its count."""


class User:
    def __init__(self, url: str, index: int, life: float, over: Over) -> None:
        self.url, self.index, self.life, self.over = url, index, life or float("inf"), over
        self.places: list[str] = []
        self.errors: dict[str, int] = {}
        self.calls = 0
        self.longest = 0.0

    def fail(self, session: Session | None, error: BaseException) -> None:
        status = session and session.status
        if isinstance(error, WrongAnswer) or not status:
            kind = f"{type(error).__name__} ({error})"
        else:
            kind = str(status) if status >= 400 else "broke off"
        self.errors[kind] = self.errors.get(kind, 0) + 1

    async def use(self) -> None:
        while not self.over:
            session = None
            try:
                async with opened([self.url], self.index) as session:
                    await self.work(session)
            except Exception as error:  # the client has died
                self.fail(session, error)
                await anyio.sleep(PAUSE)
            finally:
                if session:
                    await session.http.aclose()

    async def work(self, session: Session) -> None:
        session.patience = PATIENCE
        where = await session.call("where")
        self.places.append(where)
        if len(self.places) == 1:
            self.over.arrive()
        end = anyio.current_time() + self.life
        count = 0
        while not self.over and anyio.current_time() < end:
            began = anyio.current_time()
            self.calls += 1
            try:
                counted = await session.call("count")
                count += 1
                if counted != f"{where}:{count}":
                    raise WrongAnswer(f"{counted} in place of {where}:{count}")
            except Exception as error:
                self.fail(session, error)
                if session.status == 404:
                    return
            finally:
                self.longest = max(self.longest, anyio.current_time() - began)
            await anyio.sleep(GAP)

    def saw(self) -> dict:
        return {"places": self.places, "errors": self.errors, "calls": self.calls, "longest": self.longest}


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
