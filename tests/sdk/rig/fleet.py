"""Replicas of one MCP server."""

import signal
import string
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rig.paths import EVERYTHING, NODE, PYTHON, PYTHON_V2, SDK, V2
from rig.ports import free_port
from rig.process import Process

SERVERS = {
    "node": [NODE, str(SDK / "node/server.mjs")],
    "python": [PYTHON, str(SDK / "python/server.py")],
    "http2": [PYTHON, str(SDK / "python/http2_server.py")],
    "oauth": [PYTHON, str(SDK / "python/oauth_server.py")],
    "conformance": [NODE, str(SDK / "node/conformance-server.mjs")],
    # These serve both eras.
    "node-v2": [NODE, str(V2 / "node/server.mjs")],
    "python-v2": [PYTHON_V2, str(V2 / "python/server.py")],
    "fastmcp": [PYTHON_V2, str(V2 / "python/fastmcp_server.py")],
    "conformance-v2": [PYTHON_V2, str(V2 / "python/conformance_server.py")],
}


class Replica:
    """One server process. It keeps its port, and its further arguments, over restarts."""

    def __init__(self, name: str, server: str, arguments: Iterable[str] = ()) -> None:
        self.name = name
        self.server = server
        self.scheme = "http"
        self._arguments = list(arguments)
        self._begin(0)

    def _begin(self, port: int) -> None:
        command = [*SERVERS[self.server], self.name, str(port), *self._arguments]
        self.process = Process(f"{self.server}-{self.name}", command)

    def await_port(self) -> None:
        self.port = int(self.process.wait_for_line(r"listening (\d+)")[1])

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.close()

    def restart(self) -> None:
        """Kills it and starts it again, without its sessions."""
        self.kill()
        self._begin(self.port)
        self.await_port()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hung, as by SIGSTOP."""
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"


class Fleet:
    """Replicas named a, b, c, …, of one server each."""

    def __init__(self, servers: Iterable[str], arguments: Iterable[str] = ()) -> None:
        self._names = iter(string.ascii_lowercase)
        self._arguments = list(arguments)
        self.replicas: list[Replica] = []
        self.add(servers)

    def add(self, servers: Iterable[str]) -> list[Replica]:
        """Starts more, which get the next names."""
        new = [Replica(next(self._names), server, self._arguments) for server in servers]
        self.replicas += new
        for replica in new:  # they start side by side
            replica.await_port()
        return new

    @property
    def three(self) -> list[Replica]:
        """Those of the usual configuration; what is behind them joins later, or is removed."""
        return self.replicas[:3]

    def close(self) -> None:
        for replica in self.replicas:
            replica.process.close()


class Everything:
    """The reference server, one process of it. `transport` is "sse" or "streamableHttp"."""

    def __init__(self, name: str, transport: str) -> None:
        self.name = name
        self.port = free_port()
        self._command = [NODE, str(EVERYTHING), transport]
        self._begin()

    def _begin(self) -> None:
        self.process = Process(f"everything-{self.name}", self._command, env={"PORT": str(self.port)})
        self.process.wait_for_line("Server is running|Server listening")

    def restart(self) -> None:
        """Kills it and starts it again, without its sessions."""
        self.process.close()
        self._begin()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


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
