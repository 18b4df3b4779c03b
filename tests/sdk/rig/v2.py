"""Clients of the SDKs' second versions as programs that report what each of several concurrent clients saw."""

import json
import subprocess

from rig.paths import NODE, PYTHON_V2, V2

PYTHON_CLIENT = str(V2 / "python/client.py")
CLIENTS = {
    "node-v2": [NODE, str(V2 / "node/client.mjs")],
    "python-v2": [PYTHON_V2, PYTHON_CLIENT, "mcp"],
    "fastmcp": [PYTHON_V2, PYTHON_CLIENT, "fastmcp"],
}
COUNT = 6
DEADLINE = 60.0


def run(client: str, scenario: str, mode: str, url: str, *replicas: str, count: int = COUNT) -> list[dict]:
    """What the clients saw. `mode` is how they find the era: legacy, auto, or a revision that they take for granted.
    `replicas` are those behind the URL, for scenarios in which they are told something directly."""
    command = [*CLIENTS[client], scenario, mode, str(count), url, *replicas]
    child = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    if child.returncode != 0:
        raise RuntimeError(f"{client} client, {scenario}, {mode}:\n{child.stderr[-4000:]}")
    return json.loads(child.stdout.splitlines()[-1])["clients"]
