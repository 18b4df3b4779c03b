"""One replica of an MCP server on FastMCP, which serves both eras at /mcp. It has a few of the tools of server.py.

Usage: fastmcp_server.py NAME PORT (0: a free one). Prints `listening PORT` once it accepts.
"""

import socket
import sys
from collections import Counter

import anyio
import uvicorn
from fastmcp import Context, FastMCP
from mcp_types import InputRequiredResult

NAME = sys.argv[1]

mcp = FastMCP(NAME)
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
    """Each round is a request of its own, and needs what the earlier ones left in `requestState`. FastMCP seals it."""
    reply = (ctx.input_responses or {}).get("answer")
    if not reply:
        return asking(question, "first")
    if ctx.request_state == "first":
        return asking(f"{reply.content['answer']}?", "second")
    return f"{NAME}:{reply.content['answer']}"


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=256)
    config = uvicorn.Config(mcp.http_app(), log_level="warning", ws="none")
    print(f"listening {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
