"""The program under test."""

import random
import signal
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rig.deadline import eventually
from rig.fleet import Replica
from rig.paths import PINRING
from rig.process import Process

CONFIGURATION = """\
[server]
listen = "127.0.0.1:{port}"
watch = false

[timeouts]
drain = "{drain}"
stream_comment = "{comment}"

[affinity]
join_delay = "0s"
"""

BACKEND = """
[[backends]]
name = "{name}"
url = "{origin}"
"""


class Pinring:
    """One pinring process with its configuration file. It keeps its port over restarts."""

    def __init__(self, replicas: Iterable[Replica], drain: str = "20s", comment: str = "25s") -> None:
        self.port = _free_port()
        self.drain, self.comment = drain, comment
        self._directory = tempfile.TemporaryDirectory(prefix="pinring-sdk-")
        self.file = Path(self._directory.name) / "pinring.toml"
        self.write(replicas)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def write(self, replicas: Iterable[Replica]) -> None:
        text = CONFIGURATION.format(port=self.port, drain=self.drain, comment=self.comment)
        text += "".join(BACKEND.format(name=replica.name, origin=replica.origin) for replica in replicas)
        self.file.write_text(text)

    def start(self) -> None:
        self.process = Process("pinring", [PINRING, "--config", str(self.file)])
        eventually("pinring to accept", self._accepts)

    def _accepts(self) -> bool:
        if self.process.child.poll() is not None:
            raise AssertionError(f"pinring ended with {self.process.child.returncode}:\n{self.process.tail()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        return True

    def reload(self, replicas: Iterable[Replica]) -> None:
        """Writes the file anew, sends SIGHUP, and waits until pinring says that it goes by it."""
        self.write(replicas)
        assert self._hang_up() == "reloaded"

    def refuse(self, text: str) -> None:
        """The same with a file that pinring says it does not go by."""
        self.file.write_text(text)
        assert self._hang_up() == "not reloaded"

    def _hang_up(self) -> str:
        said = len(self.process.output())
        self.process.signal(signal.SIGHUP)
        return self.process.wait_for_line("(not )?reloaded", after=said)[0]

    def kill_and_restart(self) -> None:
        self.process.close()
        self.start()

    def terminate(self) -> None:
        self.process.signal(signal.SIGTERM)

    def close(self) -> None:
        self.process.close()
        self._directory.cleanup()
        assert "panicked" not in self.process.output(), self.process.tail()


def _free_port() -> int:
    """A port that no client's connection can take while pinring restarts: below those the kernel hands out."""
    while True:
        port = random.randint(20_000, 29_999)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
