"""Concurrent sessions of the Python SDK's client over the older transport, HTTP+SSE.

Usage: sse_client.py SCENARIO SESSIONS URL. The last line printed is {"sessions": […]}, what each session saw.
node/sse-client.mjs keeps the same contract.
"""

import json
import sys

import anyio
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.types import ElicitResult


async def on_question(_context, params) -> ElicitResult:
    return ElicitResult(action="accept", content={"answer": f"re: {params.message}"})


async def tools(call, index: int) -> dict:
    """The tools of the servers of these tests."""
    return {
        "where": await call("where"),
        "counts": [await call("count") for _ in range(5)],
        "answer": await call("ask", question=f"who is {index}"),
    }


async def environments(call, _index: int) -> dict:
    """What server-everything tells of its process, by several calls."""
    return {"ports": [json.loads(await call("get-env"))["PORT"] for _ in range(5)]}


SCENARIOS = {"tools": tools, "environments": environments}


async def run_session(scenario: str, url: str, index: int) -> dict:
    async with (
        sse_client(url) as (read, write),
        ClientSession(read, write, elicitation_callback=on_question) as client,
    ):
        await client.initialize()

        async def call(tool: str, **arguments) -> str:
            result = await client.call_tool(tool, arguments)
            return result.content[0].text

        return await SCENARIOS[scenario](call, index)


async def main(scenario: str, sessions: int, url: str) -> None:
    seen: dict[int, dict] = {}

    async def run(index: int) -> None:
        seen[index] = await run_session(scenario, url, index)

    async with anyio.create_task_group() as tasks:
        for index in range(sessions):
            tasks.start_soon(run, index)
    print(json.dumps({"sessions": [seen[index] for index in range(sessions)]}), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
