"""Child processes with their output kept in a file."""

import itertools
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from rig.deadline import eventually

TAIL_LINES = 40


class Process:
    """A running program, with `env` over this process's environment. What it writes to either stream goes to `log`."""

    started: list["Process"] = []
    """Those of the current test and those that outlive it: a failure shows the tails of their logs."""

    _numbers = itertools.count(1)

    def __init__(self, name: str, command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = Path(logs.name) / f"{next(self._numbers)}-{name}.log"
        with self.log.open("wb") as sink:
            self.child = subprocess.Popen(
                command,
                cwd=cwd,
                env=os.environ | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        Process.started.append(self)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return "\n".join(self.output().splitlines()[-TAIL_LINES:])

    def wait_for_line(self, pattern: str, after: int = 0, within: float = 20.0) -> re.Match[str]:
        """The first match in what stands behind the first `after` characters of the output."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output()[after:])
            if match is None and self.child.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            return match

        return eventually(f"a line like {pattern!r} of {self.name}", found, within)

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def wait(self, within: float = 30.0) -> int:
        return self.child.wait(within)

    def kill(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(10)

    def close(self) -> None:
        self.kill()
        if self in Process.started:
            Process.started.remove(self)


logs = tempfile.TemporaryDirectory(prefix="pinring-sdk-")
