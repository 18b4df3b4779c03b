"""Revision 2026-07-28, in which requests stand alone, at three replicas of servers that serve both eras."""

import statistics
import time
from collections import Counter
from contextlib import ExitStack

import httpx
import pytest
from rig.fleet import Fleet
from rig.modern import META, Modern
from rig.raw import Events

pytestmark = pytest.mark.proxy

CALLS = 60
HELD = 12
LEAVES = 5
SOON_MS = 100
LATER_VERSION = "2031-01-01"


@pytest.fixture(params=["node-v2", "python-v2"], ids=lambda name: f"{name}-server")
def dual(request, fleet_of) -> Fleet:
    return fleet_of(request.param)


def test_calls_spread_over_all_replicas(dual, pinring):
    client = Modern(pinring(dual.three).url)
    reached = Counter(client.call("where") for _ in range(CALLS))
    assert set(reached) == {"a", "b", "c"}
    assert min(reached.values()) > CALLS / 3 / 3


def test_calls_go_past_the_replica_that_has_most_under_way(dual, pinring):
    """New work goes to the lighter of two: of three replicas, the heaviest is never the lighter."""
    client = Modern(pinring(dual.three).url)
    with ExitStack() as busy, ExitStack() as others:
        streams = []  # one that nobody holds is closed
        for _ in range(HELD):
            with ExitStack() as held:
                streams.append(held.enter_context(client.held_call()))
                (busy if where_held(streams[-1]) == "a" else others).push(held.pop_all())
        others.close()
        # Their replicas may be a moment late in hearing of it.
        assert any({client.call("where") for _ in range(CALLS)} == {"b", "c"} for _ in range(3))


def where_held(events: Events) -> str:
    return next(events)["params"]["message"]


def test_the_backend_sees_at_once_that_the_client_left(dual, pinring):
    """In this revision that is how a client cancels."""
    client = Modern(pinring(dual.three).url)
    assert statistics.median(cancelled_after_ms(client, dual) for _ in range(LEAVES)) <= SOON_MS


def cancelled_after_ms(client: Modern, fleet: Fleet) -> float:
    with client.held_call() as events:
        where = where_held(events)
        log = next(replica.process for replica in fleet.replicas if replica.name == where)
        before = len(log.output())
        left = time.time() * 1000
    return int(log.wait_for_line(r"cancelled (\d+)", after=before)[1]) - left


def test_a_silent_stream_of_changes_stays_open_and_gets_comments(dual, pinring):
    client = Modern(pinring(dual.three, comment="1s").url)
    with client.listen() as events:
        lines = events.response.iter_lines()
        acknowledgement = next(line for line in lines if line.startswith("data:"))
        assert "notifications/subscriptions/acknowledged" in acknowledgement
        silence = [next(line for line in lines if line) for _ in range(3)]
        assert silence == [":"] * 3, "pinring's; those of the servers say more, and come after 15 s"
        for replica in dual.three:  # the stream hears the one that it is at
            Modern(replica.url).call("announce", text="changed")
        change = next(line for line in lines if line.startswith("data:"))
        assert "notifications/tools/list_changed" in change


def unknown_method(client: Modern) -> httpx.Response:
    return client.post(client.message("no/such"))


def removed_method(client: Modern) -> httpx.Response:
    return client.post(client.message("ping"))


def no_metadata(client: Modern) -> httpx.Response:
    return client.post(client.message("tools/list") | {"params": {}})


def header_mismatch(client: Modern) -> httpx.Response:
    return client.post(client.message("tools/call", name="where", arguments={}), **{"mcp-name": "other"})


def unsupported_version(client: Modern) -> httpx.Response:
    message = client.message("tools/list", _meta={f"{META}/protocolVersion": LATER_VERSION})
    return client.post(message, **{"mcp-protocol-version": LATER_VERSION})


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (unknown_method, 404, -32601),
        (removed_method, 404, -32601),
        (no_metadata, 400, -32602),
        (header_mismatch, 400, -32020),
        (unsupported_version, 400, -32022),
    ],
)
def test_errors_pass_byte_for_byte(dual, pinring, ask, status, code):
    """Clients tell by the body of a 400 or 404 whether a server is of this revision."""
    direct = ask(Modern(dual.replicas[0].url))
    proxied = ask(Modern(pinring(dual.three).url))
    assert (proxied.status_code, proxied.json()["error"]["code"]) == (status, code)
    assert proxied.content == direct.content
    assert proxied.headers["content-type"] == direct.headers["content-type"]
