"""Streams of changes over three replicas: with `listen_streams = "fan-out"` one stream hears what any of them tells."""

import threading
import time
from contextlib import suppress

import httpx
import pytest
from rig import v2
from rig.deadline import eventually
from rig.fleet import Replica
from rig.modern import Modern
from rig.raw import Events

pytestmark = pytest.mark.proxy

AGAIN = 0.2
MODERN = "2026-07-28"
FAN_OUT = '[pool]\nlisten_streams = "fan-out"\n'
HONORED = {"toolsListChanged": True}

both_servers = pytest.mark.parametrize("replicas", ["node-v2", "python-v2"], ids=lambda name: f"{name}-server")
both_clients = pytest.mark.parametrize("caller", ["node-v2", "python-v2"], ids=lambda name: f"{name}-client")


def heard(caller: str, url: str, replicas) -> list[bool]:
    """Of changes at which replicas the client hears."""
    [client] = v2.run(caller, "changes", MODERN, url, *(replica.url for replica in replicas), count=1)
    assert client["honored"] == HONORED
    return client["heard"]


@both_servers
@both_clients
def test_a_change_at_any_replica_reaches_the_client(fleet_of, pinring, replicas, caller):
    three = fleet_of(replicas).three
    assert heard(caller, pinring(three, extra=FAN_OUT).url, three) == [True] * 3


@both_clients
def test_without_fan_out_a_client_hears_one_replica(fleet_of, pinring, caller):
    """If it heard all, what is above would say nothing."""
    three = fleet_of("node-v2").three
    assert sorted(heard(caller, pinring(three).url, three)) == [False, False, True]


@both_clients
def test_replicas_of_different_sdks_are_one_to_the_client(own_fleet, pinring, caller):
    """They write their events in different ways."""
    replicas = own_fleet("node-v2", "python-v2", "node-v2").replicas
    assert heard(caller, pinring(replicas, extra=FAN_OUT).url, replicas) == [True] * 3


def follow(events: Events) -> list[dict]:
    """The messages of a stream, a list that grows."""
    messages: list[dict] = []

    def read() -> None:
        with suppress(httpx.HTTPError, httpx.StreamError):  # its end
            messages.extend(events)

    threading.Thread(target=read, daemon=True).start()
    eventually("the acknowledgement", lambda: messages)
    assert messages[0]["method"] == "notifications/subscriptions/acknowledged"
    return messages


def hear(replica: Replica, messages: list[dict]) -> None:
    """Tells of changes at a replica until one is heard of: the stream to it may not be open yet."""
    direct = Modern(replica.url)

    def is_heard() -> bool:
        known = len(messages)
        direct.call("announce", text="changed")
        time.sleep(AGAIN)
        return len(messages) > known

    eventually(f"{replica.name} to be heard", is_heard)
    assert messages[-1]["method"] == "notifications/tools/list_changed"


@both_servers
def test_a_replica_that_restarts_is_heard_again(own_fleet, pinring, replicas):
    fleet = own_fleet(*[replicas] * 3)
    with Modern(pinring(fleet.replicas, extra=FAN_OUT).url).listen() as events:
        messages = follow(events)
        for replica in fleet.replicas:
            replica.restart()
            hear(replica, messages)
        assert [message["method"] for message in messages].count("notifications/subscriptions/acknowledged") == 1


def test_a_replica_that_joins_is_heard(own_fleet, pinring):
    fleet = own_fleet("node-v2", "python-v2")
    proxy = pinring(fleet.replicas, extra=FAN_OUT)
    with Modern(proxy.url).listen() as events:
        messages = follow(events)
        fleet.add(["node-v2"])
        proxy.reload(fleet.replicas)
        hear(fleet.replicas[-1], messages)
