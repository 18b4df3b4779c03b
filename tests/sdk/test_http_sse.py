"""The older transport, HTTP+SSE (2024-11-05), at replicas that serve it beside Streamable HTTP."""

import json
import subprocess

import pytest
from rig.paths import NODE, PYTHON, SDK

SESSIONS = 20
CLIENTS = {
    "node": [NODE, str(SDK / "node/sse-client.mjs")],
    "python": [PYTHON, str(SDK / "python/sse_client.py")],
}


@pytest.mark.proxy
def test_messages_of_a_stream_reach_its_replica(client, fleet, pinring):
    url = pinring(fleet.three).url.replace("/mcp", "/sse")
    command = [*CLIENTS[client], str(SESSIONS), url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr[-4000:]
    sessions = json.loads(ended.stdout.splitlines()[-1])["sessions"]
    assert len({session["where"] for session in sessions}) > 1
    for index, session in enumerate(sessions):
        where = session["where"]
        assert session["counts"] == [f"{where}:{number}" for number in range(1, 6)]
        assert session["answer"] == f"{where}:re: who is {index}"
