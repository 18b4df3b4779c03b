"""Serves an `MCPServer` on a loopback port, with resumable sessions."""

import socket
import sys
import warnings
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPDeprecationWarning

# The store is the one of the servers on SDK 1.x: the interface is the same.
sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
from event_store import SessionEventStore  # noqa: E402

RETRY_MS = 500

warnings.simplefilter("ignore", MCPDeprecationWarning)  # sampling and logging: what old clients know


class SessionManager(StreamableHTTPSessionManager):
    """Gives each session an event store of its own.

    The stock manager shares one among all sessions, but names streams by request ids, which repeat from session to
    session: a resumed stream would replay other sessions' events.
    """

    @property
    def event_store(self):
        return SessionEventStore()

    @event_store.setter
    def event_store(self, _shared):
        pass


def serve(mcp: MCPServer, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    app = mcp.streamable_http_app(retry_interval=RETRY_MS)
    # The application has no public way to bring a manager of one's own.
    mcp.session_manager.__class__ = SessionManager
    config = uvicorn.Config(app, log_level="warning", ws="none")
    print(f"listening {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])
