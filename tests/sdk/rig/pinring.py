"""The program under test."""

import signal
import socket
import subprocess
import tempfile
from collections.abc import Container, Iterable
from pathlib import Path

from rig.deadline import eventually
from rig.fleet import Replica
from rig.paths import PINRING
from rig.ports import free_port
from rig.process import Process

CONFIGURATION = """\
[server]
listen = "127.0.0.1:{port}"
admin = ["unix:{file}.sock", "127.0.0.1:{admin}"]
watch = false

[timeouts]
drain = "{drain}"
stream_comment = "{comment}"

[affinity]
join_delay = "0s"
{extra}"""

BACKEND = """
[[backends]]
name = "{name}"
url = "{origin}"
draining = {draining}
"""


class Pinring:
    """One pinring process with its configuration file. It keeps its port over restarts."""

    def __init__(
        self,
        replicas: Iterable[Replica],
        drain: str = "20s",
        extra: str = "",
        comment: str = "25s",
        port: int | None = None,
    ) -> None:
        """`extra` are further lines of the file, of [affinity] at first."""
        self.port = port or free_port()
        self._admin_port = free_port()
        self._drain_time = drain
        self.extra, self.comment = extra, comment
        self._directory = tempfile.TemporaryDirectory(prefix="pinring-sdk-")
        self.file = Path(self._directory.name) / "pinring.toml"
        self.write(replicas)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self._admin_port}/"

    def write(self, replicas: Iterable[Replica], draining: Container[Replica] = ()) -> None:
        text = CONFIGURATION.format(
            file=self.file, port=self.port, admin=self._admin_port, drain=self._drain_time, comment=self.comment, extra=self.extra
        )
        for replica in replicas:
            is_draining = str(replica in draining).lower()
            text += BACKEND.format(name=replica.name, origin=replica.origin, draining=is_draining)
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

    def reload(self, replicas: Iterable[Replica], draining: Container[Replica] = ()) -> None:
        """Writes the file anew, sends SIGHUP, and waits until pinring says that it goes by it."""
        self.write(replicas, draining)
        assert self._hang_up() == "reloaded"

    def refuse(self, text: str) -> None:
        """The same with a file that pinring says it does not go by."""
        self.file.write_text(text)
        assert self._hang_up() == "not reloaded"

    def _hang_up(self) -> str:
        said = len(self.process.output())
        self.process.signal(signal.SIGHUP)
        return self.process.wait_for_line("(not )?reloaded", after=said)[0]

    def drain(self, replica: Replica, *options: str) -> None:
        """Runs `pinring drain` to its end."""
        subprocess.run([PINRING, "drain", replica.name, "--config", str(self.file), *options], check=True, timeout=30)

    def kill_and_restart(self) -> None:
        self.process.close()
        self.start()

    def terminate(self) -> None:
        self.process.signal(signal.SIGTERM)

    def close(self) -> None:
        self.process.close()
        self._directory.cleanup()
        assert "panicked" not in self.process.output(), self.process.tail()
