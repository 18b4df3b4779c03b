"""One replica of a stateful, resumable MCP server on the Python SDK.

Usage: server.py NAME PORT (0: a free one). Prints `listening PORT` once it accepts.
The tools are those of node/server.mjs: the tests ask both servers the same questions.
"""

import logging
import socket
import sys
from weakref import WeakKeyDictionary

import anyio
import uvicorn
from event_store import SessionManager
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel
from starlette.applications import Starlette

NAME = sys.argv[1]
RETRY_MS = 500
"""What the client waits before it resumes. The Python client tries only twice, so this is also half the time in which
a restarted proxy must be back."""

LOCAL_ONLY = TransportSecuritySettings(
    enable_dns_rebinding_protection=True,
    allowed_hosts=["127.0.0.1:*", "localhost:*"],
    allowed_origins=["http://127.0.0.1:*", "http://localhost:*"],
)

mcp = FastMCP(NAME, log_level="WARNING")
# It logs a traceback for each DELETE of a session with an open stream, which is how these tests end.
logging.getLogger("mcp.server.streamable_http").setLevel(logging.CRITICAL)
counts: WeakKeyDictionary = WeakKeyDictionary()
holds: WeakKeyDictionary = WeakKeyDictionary()


class Answer(BaseModel):
    answer: str


def tool(run):
    """Without an output schema, as in node/server.mjs: clients that know of one insist on it when their session goes
    on at a server that has none."""
    return mcp.tool(structured_output=False)(run)


@tool
async def where() -> str:
    return NAME


@tool
async def count(ctx: Context) -> str:
    counts[ctx.session] = counts.get(ctx.session, 0) + 1
    return f"{NAME}:{counts[ctx.session]}"


@tool
async def seen_id(ctx: Context) -> str:
    """The session's id as it stood in this request's header."""
    return ctx.request_context.request.headers["mcp-session-id"]


@tool
async def progress(ctx: Context, steps: int, gap_ms: int) -> str:
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await anyio.sleep(gap_ms / 1000)
    return NAME


@tool
async def ask(ctx: Context, question: str) -> str:
    reply = await ctx.elicit(question, Answer)
    return f"{NAME}:{reply.data.answer}"


@tool
async def sample(ctx: Context, prompt: str) -> str:
    question = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    reply = await ctx.session.create_message([question], max_tokens=10, related_request_id=ctx.request_id)
    return f"{NAME}:{reply.content.text}"


@tool
async def announce(ctx: Context, text: str) -> str:
    """Belongs to no request, so it takes the standalone stream."""
    await ctx.session.send_log_message("info", text)
    return NAME


@tool
async def interrupted(ctx: Context, steps: int) -> str:
    """Ends its own stream after the first step: the rest is heard by those who resume."""
    await ctx.report_progress(1, steps)
    await ctx.close_sse_stream()
    for step in range(2, steps + 1):
        await ctx.report_progress(step, steps)
    return NAME


@tool
async def hold(ctx: Context) -> str:
    """Stays under way until the same session calls `release`."""
    released = holds[ctx.session] = anyio.Event()
    await ctx.report_progress(1, 2)
    await released.wait()
    await ctx.report_progress(2, 2)
    return NAME


@tool
async def release(ctx: Context) -> str:
    holds[ctx.session].set()
    return NAME


def begin() -> tuple[Starlette, socket.socket]:
    """The application, and the socket where it is to listen; says where that is."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=256)
    mcp._session_manager = SessionManager(  # FastMCP has no public way to bring one's own
        app=mcp._mcp_server, retry_interval=RETRY_MS, security_settings=LOCAL_ONLY
    )
    app = mcp.streamable_http_app()
    app.router.routes.extend(mcp.sse_app().routes)  # the older transport beside it, at /sse
    print(f"listening {listener.getsockname()[1]}", flush=True)
    return app, listener


def main() -> None:
    app, listener = begin()
    config = uvicorn.Config(app, log_level="warning", ws="none")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
