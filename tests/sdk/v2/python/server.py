"""One replica of an MCP server on the Python SDK 2.x, which serves both eras at /mcp: sessions of the revisions up to
2025-11-25, and stateless requests of 2026-07-28.

Usage: server.py NAME PORT [KEY] (port 0: a free one). Without a KEY for `requestState` the SDK makes one of its own for
each process. Prints `listening PORT` once it accepts, and `cancelled MILLISECONDS` (of the epoch) when the client of a
modern `hold` leaves.
The tools are those of ../node/server.mjs: the tests ask both servers the same questions.
"""

import sys
import time
from collections import Counter
from typing import Annotated

import anyio
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve, Sample
from mcp.server.request_state import RequestStateSecurity
from mcp_types import CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel
from serving import serve

NAME = sys.argv[1]
KEYS = sys.argv[3:]
MODERN = "2026-07-28"

mcp = MCPServer(
    NAME,
    version="1.0.0",
    log_level="ERROR",
    request_state_security=RequestStateSecurity(keys=KEYS, audience="replicas") if KEYS else None,
)
counts: Counter = Counter()
holds: dict[str, anyio.Event] = {}


class Answer(BaseModel):
    answer: str


def session_of(ctx: Context) -> str:
    return ctx.headers.get("mcp-session-id", "none")


def elicited(question: str) -> Elicit[Answer]:
    return Elicit(question, Answer)


def sampled(prompt: str) -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text=prompt))], max_tokens=10)


def confirmed(first: Annotated[Answer, Resolve(elicited)]) -> Elicit[Answer]:
    return Elicit(f"{first.answer}?", Answer)


@mcp.tool()
async def where() -> str:
    return NAME


@mcp.tool()
async def count(ctx: Context) -> str:
    counts[session_of(ctx)] += 1
    return f"{NAME}:{counts[session_of(ctx)]}"


@mcp.tool()
async def seen_id(ctx: Context) -> str:
    """The session's id as it stood in this request's header."""
    return session_of(ctx)


@mcp.tool()
async def progress(ctx: Context, steps: int, gap_ms: int) -> str:
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await anyio.sleep(gap_ms / 1000)
    return NAME


@mcp.tool()
async def ask(question: str, reply: Annotated[Answer, Resolve(elicited)]) -> str:
    return f"{NAME}:{reply.answer}"


@mcp.tool()
async def ask_twice(question: str, second: Annotated[Answer, Resolve(confirmed)]) -> str:
    """Each round is a request of its own in the modern era, and needs what the earlier ones left in `requestState`."""
    return f"{NAME}:{second.answer}"


@mcp.tool()
async def sample(prompt: str, reply: Annotated[CreateMessageResult, Resolve(sampled)]) -> str:
    return f"{NAME}:{reply.content.text}"


@mcp.tool()
async def announce(ctx: Context, text: str) -> str:
    """Belongs to no request, so it takes the standalone stream: the session's, or every `subscriptions/listen` here."""
    if ctx.protocol_version == MODERN:
        await ctx.notify_tools_changed()
    else:
        await ctx.session.send_log_message("info", text)
    return NAME


@mcp.tool()
async def interrupted(ctx: Context, steps: int) -> str:
    """Ends its own stream after the first step: the rest is heard by those who resume."""
    await ctx.report_progress(1, steps)
    await ctx.close_sse_stream()
    for step in range(2, steps + 1):
        await ctx.report_progress(step, steps)
    return NAME


@mcp.tool()
async def hold(ctx: Context) -> str:
    """Stays under way until the same session calls `release`, or the client of a modern call leaves."""
    released = holds[session_of(ctx)] = anyio.Event()
    await ctx.report_progress(1, 2, NAME)
    try:
        await released.wait()
    except anyio.get_cancelled_exc_class():
        print(f"cancelled {time.time() * 1000:.0f}", flush=True)
        raise
    await ctx.report_progress(2, 2, NAME)
    return NAME


@mcp.tool()
async def release(ctx: Context) -> str:
    holds[session_of(ctx)].set()
    return NAME


if __name__ == "__main__":
    serve(mcp, int(sys.argv[2]))
