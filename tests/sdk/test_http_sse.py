"""The older transport, HTTP+SSE (2024-11-05), at replicas that serve it beside Streamable HTTP."""

import json
import subprocess

import pytest
from rig import client as streamable
from rig.fleet import Everything
from rig.paths import NODE, PYTHON, SDK

pytestmark = pytest.mark.proxy
SESSIONS = 20
CLIENTS = {
    "node": [NODE, str(SDK / "node/sse-client.mjs")],
    "python": [PYTHON, str(SDK / "python/sse_client.py")],
}


def run(client: str, scenario: str, proxy) -> list[dict]:
    url = proxy.url.replace("/mcp", "/sse")
    command = [*CLIENTS[client], scenario, str(SESSIONS), url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout.splitlines()[-1])["sessions"]


def test_messages_of_a_stream_reach_its_replica(client, fleet, pinring):
    check(run(client, "tools", pinring(fleet.three)))


def test_both_transports_share_a_port(client, fleet, pinring):
    """The streams and calls of one are open while the other has sessions."""
    proxy = pinring(fleet.three)
    older = []
    newer = streamable.run(client, "outlive", [proxy.url], meanwhile=lambda: older.extend(run(client, "tools", proxy)))
    check(older)
    for session in newer:
        assert session["counts"] == [f"{session['where']}:{number}" for number in range(1, 5)]
        assert (session["steps"], session["result"], session["streams"]) == ([1, 2], session["where"], 1)


def check(sessions: list[dict]) -> None:
    assert len({session["where"] for session in sessions}) > 1
    for index, session in enumerate(sessions):
        where = session["where"]
        assert session["counts"] == [f"{where}:{number}" for number in range(1, 6)]
        assert session["answer"] == f"{where}:re: who is {index}"


@pytest.fixture
def everything():
    """Two replicas of the reference server, which leaves messages of unknown sessions without an answer."""
    replicas = [Everything(name, "sse") for name in "ab"]
    yield replicas
    for replica in replicas:
        replica.process.close()


def test_the_reference_server_is_served_too(client, everything, pinring):
    sessions = run(client, "environments", pinring(everything))
    for session in sessions:
        assert len(set(session["ports"])) == 1
    assert len({port for session in sessions for port in session["ports"]}) == 2
