"""Replicas of one MCP server."""

import string
from dataclasses import dataclass

from rig.paths import NODE, PYTHON, PYTHON_V2, SDK, V2
from rig.process import Process

SERVERS = {
    "node": [NODE, str(SDK / "node/server.mjs")],
    "python": [PYTHON, str(SDK / "python/server.py")],
    "conformance": [NODE, str(SDK / "node/conformance-server.mjs")],
    # These serve both eras.
    "node-v2": [NODE, str(V2 / "node/server.mjs")],
    "python-v2": [PYTHON_V2, str(V2 / "python/server.py")],
    "fastmcp": [PYTHON_V2, str(V2 / "python/fastmcp_server.py")],
    "conformance-v2": [PYTHON_V2, str(V2 / "python/conformance_server.py")],
}


@dataclass
class Replica:
    name: str
    process: Process
    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"


class Fleet:
    """Replicas named a, b, c, …"""

    def __init__(self, server: str, size: int, *arguments: str) -> None:
        names = string.ascii_lowercase[:size]
        processes = [Process(f"{server}-{name}", [*SERVERS[server], name, "0", *arguments]) for name in names]
        self.replicas = [Replica(name, process, _port(process)) for name, process in zip(names, processes, strict=True)]

    @property
    def three(self) -> list[Replica]:
        """Those of the usual configuration; what is behind them joins later, or is removed."""
        return self.replicas[:3]

    def close(self) -> None:
        for replica in self.replicas:
            replica.process.close()


def _port(process: Process) -> int:
    return int(process.wait_for_line(r"listening (\d+)")[1])
