"""Replicas of one MCP server."""

import signal
import string

from rig.paths import NODE, PYTHON, SDK
from rig.process import Process

SERVERS = {
    "node": [NODE, str(SDK / "node/server.mjs")],
    "python": [PYTHON, str(SDK / "python/server.py")],
    "conformance": [NODE, str(SDK / "node/conformance-server.mjs")],
}


class Replica:
    """One server process. It keeps its port over restarts."""

    def __init__(self, name: str, server: str) -> None:
        self.name = name
        self._server = server
        self._begin(0)

    def _begin(self, port: int) -> None:
        self.process = Process(f"{self._server}-{self.name}", [*SERVERS[self._server], self.name, str(port)])

    def await_port(self) -> None:
        self.port = int(self.process.wait_for_line(r"listening (\d+)")[1])

    def restart(self) -> None:
        """Kills it and starts it again, without its sessions."""
        self.process.close()
        self._begin(self.port)
        self.await_port()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"


class Fleet:
    """Replicas named a, b, c, …"""

    def __init__(self, server: str, size: int) -> None:
        self.replicas = [Replica(name, server) for name in string.ascii_lowercase[:size]]
        for replica in self.replicas:  # they start side by side
            replica.await_port()

    @property
    def three(self) -> list[Replica]:
        """Those of the usual configuration; what is behind them joins later, or is removed."""
        return self.replicas[:3]

    def close(self) -> None:
        for replica in self.replicas:
            replica.process.close()


class Workers:
    """Several processes behind one address, as pinring must not be given them."""

    name = "workers"

    def __init__(self, count: int) -> None:
        command = [PYTHON, "-m", "uvicorn", "--app-dir", str(SDK / "python"), "--workers", str(count), "--port", "0"]
        self.process = Process("workers", [*command, "workers:app"])
        self.port = int(self.process.wait_for_line(r"running on http://127.0.0.1:(\d+)")[1])
        self.process.wait_for_line("(?s)" + "startup complete.*" * count)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.process.signal(signal.SIGTERM)  # it ends its workers
        self.process.wait()
        self.process.close()
