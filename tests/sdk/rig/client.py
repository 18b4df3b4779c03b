"""Both SDKs' clients as programs that report what each of many concurrent sessions saw."""

import json
import subprocess
from collections.abc import Callable
from contextlib import contextmanager

from rig.paths import NODE, PYTHON, SDK

CLIENTS = {
    "node": [NODE, str(SDK / "node/client.mjs")],
    "python": [PYTHON, str(SDK / "python/client.py")],
}
SESSIONS = 30
DEADLINE = 60.0


def run(client: str, scenario: str, urls: list[str], meanwhile: Callable[[], None] | None = None) -> list[dict]:
    """What the sessions saw. `meanwhile` happens while all of them pause."""
    command = [*CLIENTS[client], scenario, str(SESSIONS), *urls]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        with killed_if_it_fails(child):
            if meanwhile:
                expect_pause(child)
                meanwhile()
            output, errors = child.communicate("\n", timeout=DEADLINE)
    assert child.returncode == 0, f"{client} client, {scenario}:\n{errors[-4000:]}"
    return json.loads(output.splitlines()[-1])["sessions"]


def expect_pause(child: subprocess.Popen) -> None:
    """The client gives up by itself before all its sessions are there: it cannot hang this read."""
    line = child.stdout.readline()
    assert line.strip() and json.loads(line) == {"paused": True}, f"{line}{child.stderr.read()[-4000:]}"


@contextmanager
def killed_if_it_fails(child: subprocess.Popen):
    try:
        yield
    except BaseException:
        child.kill()
        raise
