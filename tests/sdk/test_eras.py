"""Clients that find out which era their server is of, and fleets that know only one, or both.

A client that knows both asks `server/discover` first and reads the answer: another replica may get the question than
those that serve it later.
"""

import re

import pytest
from rig import client as first
from rig import v2

pytestmark = pytest.mark.proxy

MODERN = "2026-07-28"
LATEST_LEGACY = "2025-11-25"


def at(*replicas: str):
    return pytest.mark.parametrize("replicas", replicas, ids=lambda name: f"{name}-server")


def by(*clients: str):
    return pytest.mark.parametrize("caller", clients, ids=lambda name: f"{name}-client")


@pytest.fixture
def url_of(fleet_of, pinring):
    return lambda replicas: pinring(fleet_of(replicas).three).url


def check_sessions(clients: list[dict], opening: list[str]) -> None:
    assert len(clients) == v2.COUNT
    for client in clients:
        assert (client["version"], client["opening"]) == (LATEST_LEGACY, opening)
        assert client["counts"] == [f"{client['where']}:{number}" for number in range(1, 7)]
        assert client["steps"] == [1, 2, 3]
    assert len({client["where"] for client in clients}) > 1


def check_modern(clients: list[dict], opening: list[str]) -> None:
    assert len(clients) == v2.COUNT
    for client in clients:
        assert (client["version"], client["opening"]) == (MODERN, opening)
        assert client["steps"] == [1, 2, 3]
    assert {count.split(":")[0] for client in clients for count in client["counts"]} == {"a", "b", "c"}


@by(*v2.CLIENTS)
@at("node", "python")
def test_a_client_that_probes_falls_back_to_sessions(url_of, replicas, caller):
    clients = v2.run(caller, "tour", "auto", url_of(replicas))
    check_sessions(clients, opening=["server/discover", "initialize"])


@by(*v2.CLIENTS)
@at("node-v2", "python-v2", "fastmcp")
def test_a_client_that_probes_finds_the_newest_revision(url_of, replicas, caller):
    check_modern(v2.run(caller, "tour", "auto", url_of(replicas)), opening=["server/discover"])


@by("node-v2", "python-v2")
@at("python-v2")
def test_a_client_that_knows_its_server_need_not_probe(url_of, replicas, caller):
    """The TypeScript SDK asks all the same."""
    opening = ["server/discover"] if caller == "node-v2" else []
    check_modern(v2.run(caller, "tour", MODERN, url_of(replicas)), opening)


@by(*v2.CLIENTS)
@at("fastmcp")
def test_a_client_may_keep_to_sessions_at_a_server_of_both_eras(url_of, replicas, caller):
    check_sessions(v2.run(caller, "tour", "legacy", url_of(replicas)), opening=["initialize"])


@by(*first.CLIENTS)
@at("node-v2", "python-v2")
def test_a_client_from_before_has_sessions_at_a_server_of_both_eras(url_of, replicas, caller):
    sessions = first.run(caller, "counters", [url_of(replicas)])
    assert len({session["where"] for session in sessions}) > 1
    for session in sessions:
        assert session["ids"] == [session["id"]]
        assert session["counts"] == [f"{session['where']}:{number}" for number in range(1, 6)]


@by(*v2.CLIENTS)
@at("node", "python")
def test_a_client_of_the_newest_revision_hears_from_an_older_server_itself(fleet_of, url_of, replicas, caller):
    """It takes the revision for granted, and the error that it reports is the one that the server has for it."""
    direct, proxied = (error_of(caller, url) for url in (fleet_of(replicas).replicas[0].url, url_of(replicas)))
    assert proxied == direct


def error_of(caller: str, url: str) -> str:
    """The last that it tells, such as `SdkError: …`."""
    with pytest.raises(RuntimeError) as failed:
        v2.run(caller, "tour", MODERN, url)
    return re.findall(r"^[\s|]*([\w.]*Error: .*)$", str(failed.value), re.MULTILINE)[-1]


def test_sessions_do_not_notice_that_some_servers_know_a_later_era_too(fleet_of, pinring):
    """As while a fleet is renewed. Clients that probe do: one replica answers that, and others get what follows."""
    old, dual = fleet_of("node").replicas, fleet_of("node-v2").replicas
    sessions = first.run("python", "counters", [pinring([*old[:2], dual[2]]).url])
    assert {session["where"] for session in sessions} == {"a", "b", "c"}
    for session in sessions:
        assert session["counts"] == [f"{session['where']}:{number}" for number in range(1, 6)]
