"""Calls of several rounds in revision 2026-07-28: each round is a request of its own, and `requestState` is all that
joins them. By default the Python SDK and FastMCP seal it with a key that each process makes for itself."""

import pytest
from rig import v2
from rig.modern import META, Modern
from rig.raw import result_text

pytestmark = pytest.mark.proxy

MODERN = "2026-07-28"
KEY = "one key for all replicas, of 32 bytes or more"
NO_BODIES = "[pool]\nread_bodies = false\n"

both_servers = pytest.mark.parametrize("replicas", ["python-v2", "fastmcp"], ids=lambda name: f"{name}-server")


def answers(caller: str, url: str) -> list[str]:
    """What the calls brought, without the name of the replica that ended them; or why one was refused."""
    clients = v2.run(caller, "rounds", MODERN, url)
    return [client.get("error") or client["answer"].partition(":")[2] for client in clients]


ANSWERS = [f"re: re: who is {index}?" for index in range(v2.COUNT)]


def test_every_round_is_understood_where_the_replicas_share_a_key(own_fleet, pinring):
    fleet = own_fleet(*["python-v2"] * 3, arguments=(KEY,))
    assert answers("node-v2", pinring(fleet.replicas).url) == ANSWERS


@both_servers
@pytest.mark.parametrize("caller", list(v2.CLIENTS), ids=lambda name: f"{name}-client")
def test_every_round_reaches_the_replica_that_sealed_its_state(fleet_of, pinring, replicas, caller):
    assert answers(caller, pinring(fleet_of(replicas).three).url) == ANSWERS


def test_states_in_event_streams_come_home_too(fleet_of, pinring):
    client = Modern(pinring(fleet_of("fastmcp").three).url)
    said = {"inputResponses": {"answer": {"action": "accept", "content": {"answer": "so"}}}}
    for _ in range(v2.COUNT):
        first = streamed_round(client)
        second = streamed_round(client, requestState=first["requestState"], **said)
        last = streamed_round(client, requestState=second["requestState"], **said)
        assert result_text({"result": last}).endswith(":so")


def streamed_round(client: Modern, **params) -> dict:
    meta = {"progressToken": "progress", f"{META}/clientCapabilities": {"elicitation": {"form": {}}}}
    call = {"name": "ask_twice", "arguments": {"question": "why"}, "_meta": meta}
    with client.stream("tools/call", **call, **params) as events:
        assert events.response.headers["content-type"].startswith("text/event-stream")
        return list(events)[-1]["result"]


@both_servers
def test_one_replica_understands_itself(fleet_of, replicas):
    """If it failed, what is above would say nothing of the way."""
    assert answers("node-v2", fleet_of(replicas).replicas[0].url) == ANSWERS


@both_servers
def test_without_pins_states_are_refused(fleet_of, pinring, replicas):
    """If they were not, what is above would say nothing of pinring."""
    assert answers("node-v2", pinring(fleet_of(replicas).three, extra=NO_BODIES).url) != ANSWERS
