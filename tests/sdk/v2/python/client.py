"""Concurrent clients of the Python SDK 2.x, or of FastMCP.

Usage: client.py mcp|fastmcp SCENARIO legacy|auto|2026-07-28 CLIENTS URL [REPLICA…]. The last line printed is
{"clients": […]}, what each client saw; the tests judge it. ../node/client.mjs keeps the same contract.
"""

import json
import sys

import anyio
import httpx2
import mcp
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult

COUNTS = 6
PATIENCE = 2


class Watched(httpx2.AsyncHTTPTransport):
    """Notes the methods that are posted."""

    def __init__(self) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=None))
        self.methods: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        message = json.loads(request.content or "{}")
        if "method" in message:
            self.methods.append(message["method"])
        return await super().handle_async_request(request)


class SdkClient:
    """The client of `mcp`."""

    def __init__(self, mode: str, url: str, watched: Watched) -> None:
        http = httpx2.AsyncClient(transport=watched, timeout=20)
        transport = streamable_http_client(url, http_client=http)
        self.client = mcp.Client(transport, mode=mode, elicitation_callback=self.on_question)

    @property
    def version(self) -> str:
        return self.client.protocol_version

    async def on_question(self, _context, params) -> ElicitResult:
        return ElicitResult(action="accept", content={"answer": f"re: {params.message}"})

    async def call(self, tool: str, arguments: dict, on_progress=None):
        return await self.client.call_tool(tool, arguments, progress_callback=on_progress)


class FastClient:
    """The client of `fastmcp`, which takes its time to be imported."""

    def __init__(self, mode: str, url: str, watched: Watched) -> None:
        import fastmcp
        import fastmcp_tasks  # noqa: F401 (with it, clients take part in tasks)
        from fastmcp.client.transports import StreamableHttpTransport

        def factory(**options) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(transport=watched, **options)

        transport = StreamableHttpTransport(url, httpx_client_factory=factory)
        self.client = fastmcp.Client(transport, mode=mode, elicitation_handler=self.on_question)

    @property
    def version(self) -> str:
        return self.client.session.protocol_version

    async def on_question(self, message, _type, _params, _context) -> dict:
        return {"answer": f"re: {message}"}

    async def call(self, tool: str, arguments: dict, on_progress=None):
        return await self.client.call_tool(tool, arguments, progress_handler=on_progress)


CLIENTS = {"mcp": SdkClient, "fastmcp": FastClient}


async def call(client, tool: str, arguments: dict | None = None, on_progress=None) -> str:
    result = await client.call(tool, arguments or {}, on_progress)
    if result.is_error:
        raise RuntimeError(f"{tool}: {result.content[0].text}")
    return result.content[0].text


async def tour(client, _index: int) -> dict:
    """Calls that stand alone, or are of one session, and one that is streamed."""
    counts = [await call(client, "count") for _ in range(COUNTS)]
    steps: list[float] = []

    async def on_progress(progress: float, _total, _message) -> None:
        steps.append(progress)

    where = await call(client, "progress", {"steps": 3, "gap_ms": 5}, on_progress)
    return {"counts": counts, "steps": steps, "where": where}


async def rounds(client, index: int) -> dict:
    """A call of several rounds. A refused round is an answer too."""
    try:
        return {"index": index, "answer": await call(client, "ask_twice", {"question": f"who is {index}"})}
    except Exception as error:
        return {"index": index, "error": str(error)}


async def changes(client, _index: int) -> dict:
    """A stream of changes, and at which of the replicas they are made that it hears of."""
    heard = []
    async with client.client.listen(tools_list_changed=True) as stream:
        for replica in sys.argv[6:]:
            async with mcp.Client(replica, mode=sys.argv[3]) as direct:
                await direct.call_tool("announce", {"text": "changed"})
            with anyio.move_on_after(PATIENCE) as waited:
                await anext(stream)
            heard.append(not waited.cancelled_caught)
    return {"honored": stream.honored.model_dump(by_alias=True, exclude_none=True), "heard": heard}


async def tasks(client, index: int) -> dict:
    """Calls that run as tasks, of FastMCP alone: one that its client waits for, one that asks it something, and one that
    it cancels. A task that is not found is an answer too."""
    from fastmcp_tasks.client import call_tool_task

    try:
        awaited = await call(client, "work", {"gap_ms": 100})
        asked = await call(client, "work_with", {"question": f"who is {index}"})
        task = await call_tool_task(client.client, "work_for_ever")
        statuses = [(await task.status()).status]
        await task.cancel()
        statuses.append((await task.wait(timeout=10)).status)
        return {"awaited": awaited, "asked": asked, "cancelled": statuses, "id": task.task_id}
    except Exception as error:
        return {"error": str(error)}


SCENARIOS = {"tour": tour, "rounds": rounds, "tasks": tasks, "changes": changes}


async def run(kind: str, scenario: str, mode: str, url: str, index: int) -> dict:
    watched = Watched()
    client = CLIENTS[kind](mode, url, watched)
    async with client.client:
        # The methods before the first call, which tell how the era was found.
        opening = [method for method in watched.methods if not method.startswith("notifications/")]
        return {"version": client.version, "opening": opening, **await SCENARIOS[scenario](client, index)}


async def main(kind: str, scenario: str, mode: str, count: int, url: str) -> None:
    seen: dict[int, dict] = {}

    async def one(index: int) -> None:
        seen[index] = await run(kind, scenario, mode, url, index)

    async with anyio.create_task_group() as tasks:
        for index in range(count):
            tasks.start_soon(one, index)
    print(json.dumps({"clients": [seen[index] for index in range(count)]}))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:4], int(sys.argv[4]), sys.argv[5])
