"""Concurrent sessions of the Python SDK's client.

Usage: client.py SCENARIO SESSIONS URL [URL]. With two URLs, requests alternate between them.
The last line printed is {"sessions": […]}, what each session saw; the tests judge it. A scenario that pauses prints
{"paused": true} once every session is there, and goes on after a line on standard input.
node/client.mjs keeps the same contract.
"""

import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable

import anyio
from session import Session, opened, until


def say(value) -> None:
    print(json.dumps(value), flush=True)


class Pause:
    """Where all sessions wait for a line on standard input."""

    def __init__(self, sessions: int) -> None:
        self.missing = sessions
        self.over = anyio.Event()

    async def __call__(self) -> None:
        self.missing -= 1
        if self.missing == 0:
            say({"paused": True})
            await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            self.over.set()
        await self.over.wait()


async def count(session: Session, times: int) -> list[str]:
    return [await session.call("count") for _ in range(times)]


async def announcements(session: Session, texts: list[str]) -> list[str]:
    for text in texts:
        await session.call("announce", text=text)
    await until(lambda: len(session.heard) >= len(texts), "the announcements")
    return session.heard


async def hears(session: Session) -> bool:
    """Whether the standalone stream is there, or comes back: what is announced meanwhile is lost."""
    for _ in range(25):
        await session.call("announce", text="still there?")
        await anyio.sleep(0.2)
        if session.heard:
            return True
    return False


async def counters(session: Session, _index: int, _pause: Pause) -> dict:
    return {"counts": await count(session, 5), "seen": await session.call("seen_id")}


async def progress(session: Session, _index: int, _pause: Pause) -> dict:
    steps: list[int] = []
    result = await session.call("progress", steps.append, steps=5, gap_ms=20)
    return {"steps": steps, "result": result}


async def ask(session: Session, index: int, _pause: Pause) -> dict:
    return {"answer": await session.call("ask", question=f"who is {index}"), "index": index}


async def announce(session: Session, index: int, _pause: Pause) -> dict:
    await until(lambda: session.streams == 1, "the standalone stream")
    return {"heard": await announcements(session, [f"{index} one", f"{index} two"]), "index": index}


async def interrupted(session: Session, _index: int, _pause: Pause) -> dict:
    steps: list[int] = []
    result = await session.call("interrupted", steps.append, steps=5)
    return {"steps": steps, "result": result, "resumes": session.resumes}


async def forgotten(session: Session, _index: int, pause: Pause) -> dict:
    """The server that knew the session is gone when the pause is over."""
    before = await count(session, 2)
    await until(lambda: session.streams == 1, "the standalone stream")
    await pause()
    counts = before + await count(session, 2)
    return {"counts": counts, "hears": await hears(session)}


async def outlive(session: Session, index: int, pause: Pause) -> dict:
    async def nothing() -> None:
        pass

    return await under_way(session, index, pause, nothing)


async def recover(session: Session, index: int, pause: Pause) -> dict:
    async def recovery() -> None:
        await until(lambda: session.resumes == 1, "the call to be resumed")
        await until(lambda: session.streams == 2, "a new standalone stream")

    return await under_way(session, index, pause, recovery)


async def under_way(session: Session, index: int, pause: Pause, recovery: Callable[[], Awaitable[None]]) -> dict:
    """A call under way and a standalone stream while something happens to the proxy."""
    counts = await count(session, 2)
    await until(lambda: session.streams == 1, "the standalone stream")
    steps: list[int] = []
    result = ""

    async def hold() -> None:
        nonlocal result
        result = await session.call("hold", steps.append)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await until(lambda: len(steps) == 1, "the call to be under way")
        await pause()
        await recovery()
        heard = await announcements(session, [f"{index}"])
        await session.call("release")
    counts += await count(session, 2)
    seen = {"streams": session.streams, "resumes": session.resumes}
    return {"counts": counts, "heard": heard, "index": index, "steps": steps, "result": result, **seen}


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (counters, progress, ask, announce, interrupted, forgotten, outlive, recover)
}


async def run_session(scenario: str, urls: list[str], index: int, pause: Pause) -> dict:
    async with opened(urls, index) as session:
        saw = {"id": session.id, "where": await session.call("where")}
        if scenario != "delete":
            saw |= await SCENARIOS[scenario](session, index, pause)
    if scenario == "delete":  # the SDK sends the DELETE when the session's block ends
        post, get = await session.status_of("POST"), await session.status_of("GET")
        saw |= {"deleted": session.deleted, "post": post, "get": get}
    await session.http.aclose()
    return saw | {"ids": sorted(session.ids)}


async def main(scenario: str, sessions: int, urls: list[str]) -> None:
    pause = Pause(sessions)
    seen: dict[int, dict] = {}

    async def run(index: int) -> None:
        seen[index] = await run_session(scenario, urls, index, pause)

    async with anyio.create_task_group() as tasks:
        for index in range(sessions):
            tasks.start_soon(run, index)
    say({"sessions": [seen[index] for index in range(sessions)]})


if __name__ == "__main__":
    status = 0
    try:
        anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)  # a thread may still wait for standard input
