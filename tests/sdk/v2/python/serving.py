"""Serves an `MCPServer` on a loopback port, with resumable sessions."""

import socket
import sys
import warnings
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning

# It serves both versions of the SDK.
sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
from event_store import SessionManager  # noqa: E402

RETRY_MS = 500

warnings.simplefilter("ignore", MCPDeprecationWarning)  # sampling and logging: what old clients know


def serve(mcp: MCPServer, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    app = mcp.streamable_http_app(retry_interval=RETRY_MS)
    # The application has no public way to bring a manager of one's own.
    mcp.session_manager.__class__ = SessionManager
    config = uvicorn.Config(app, log_level="warning", ws="none")
    print(f"listening {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])
