"""Pages in a real browser, Debian's Chromium, as a program that tells what a page of some origin saw."""

import json
import subprocess

from rig.client import killed_if_it_fails
from rig.paths import BROWSER, NODE

VISIT = str(BROWSER / "node/visit.mjs")
DEADLINE = 60.0


class Page:
    """A page that is loaded, and whose server is gone. `program` is one of browser/node/pages."""

    def __init__(self, program: str, host: str = "localhost", port: int = 0) -> None:
        command = [NODE, VISIT, program, host, str(port)]
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        with killed_if_it_fails(self._child):
            line = self._child.stdout.readline()
            assert line, self._child.stderr.read()[-4000:]
        self.origin: str = json.loads(line)["origin"]

    def run(self, *arguments):
        """What the program returned. It runs once."""
        with killed_if_it_fails(self._child):
            output, errors = self._child.communicate(json.dumps(arguments) + "\n", timeout=DEADLINE)
        assert self._child.returncode == 0, errors[-4000:]
        return json.loads(output)

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()
