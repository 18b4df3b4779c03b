"""One replica of an MCP server on FastMCP, which serves both eras at /mcp. It has a few of the tools of server.py, and
some that run as tasks (SEP-2663), which by default each process keeps to itself.

Usage: fastmcp_server.py NAME PORT (0: a free one). Prints `listening PORT` once it accepts.
"""

import socket
import sys
from collections import Counter

import anyio
import uvicorn
from fastmcp import Context, FastMCP
from fastmcp.utilities.tasks import TaskConfig
from fastmcp_tasks import TasksExtension
from mcp_types import InputRequiredResult

NAME = sys.argv[1]

mcp = FastMCP(NAME)
mcp.add_extension(TasksExtension())
as_task = mcp.tool(task=TaskConfig(mode="required"))
counts: Counter = Counter()


@mcp.tool
async def where() -> str:
    return NAME


@mcp.tool
async def count(ctx: Context) -> str:
    session = ctx.request_context.request.headers.get("mcp-session-id", "none")
    counts[session] += 1
    return f"{NAME}:{counts[session]}"


@mcp.tool
async def progress(ctx: Context, steps: int, gap_ms: int) -> str:
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await anyio.sleep(gap_ms / 1000)
    return NAME


SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def asking(message: str, state: str) -> InputRequiredResult:
    question = {"method": "elicitation/create", "params": {"message": message, "requestedSchema": SCHEMA}}
    return InputRequiredResult.model_validate({"inputRequests": {"answer": question}, "requestState": state})


@mcp.tool
async def ask_twice(ctx: Context, question: str) -> str | InputRequiredResult:
    """Each round is a request of its own, and needs what the earlier ones left in `requestState`. FastMCP seals it. Who
    wants to hear of progress is answered by an event stream."""
    await ctx.report_progress(1, 2)
    reply = (ctx.input_responses or {}).get("answer")
    if not reply:
        return asking(question, "first")
    if ctx.request_state == "first":
        return asking(f"{reply.content['answer']}?", "second")
    return f"{NAME}:{reply.content['answer']}"


@as_task
async def work(gap_ms: int) -> str:
    """Takes its time, so that its client has to ask again."""
    await anyio.sleep(gap_ms / 1000)
    return NAME


@as_task
async def work_with(ctx: Context, question: str) -> str | InputRequiredResult:
    """A task that waits for what its client has to say."""
    reply = (ctx.input_responses or {}).get("answer")
    return f"{NAME}:{reply.content['answer']}" if reply else asking(question, "asked")


@as_task
async def work_for_ever() -> str:
    await anyio.sleep_forever()
    return NAME


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=256)
    config = uvicorn.Config(mcp.http_app(), log_level="warning", ws="none")
    print(f"listening {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
