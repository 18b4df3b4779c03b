"""Replicas that are killed, hang, restart and are replaced, under real clients: who notices, and what.

A session's replica is all that matters to it. So users on other replicas see no error, whatever happens; those on
the replica itself see what `on_loss` says: a 404 each, or nothing but what was under way, and their sessions go on.
Half of the replicas are of the TypeScript SDK, half of the Python SDK, and so are the users.
"""

import time
from collections.abc import Callable

import pytest
from rig.fleet import Replica
from rig.load import Figures, Load, User, errors, longest
from rig.pinring import Pinring

pytestmark = pytest.mark.proxy

SERVERS = ("node", "python", "node", "python")

WHILE_AWAY = {"not-found": {"502", "503", "broke off"}, "reinitialize": {"call failed", "broke off"}}
"""For a request that was under way, for those that cannot be made, for an answer that had begun."""

AT_THE_DEADLINE = {"not-found": {"broke off"}, "reinitialize": {"broke off", "call failed"}}
"""For an answer that was on its way at the deadline of a drain, and for a request whose answer had not begun."""

A_WHILE = 1.5
"""For users to notice, or to show that they do not."""

LOSS_AFTER = 2
SHORT_LIFE = 1.0
"""Of a session whose user is done soon, and begins another one later."""


@pytest.fixture(params=["not-found", "reinitialize"])
def on_loss(request):
    """Where a mode is added, add what its users see to `check_lost`."""
    return request.param


@pytest.fixture
def fleet(own_fleet):
    return own_fleet(*SERVERS)


@pytest.fixture
def proxy(fleet, pinring, on_loss):
    return pinring(fleet.replicas, extra=f'on_loss = "{on_loss}"\nloss_after = "{LOSS_AFTER}s"\n')


def goes_on(user: User) -> bool:
    """Whether the session object and the id that it had at first still work."""
    return (user.sessions, user.ids, user.goes_on) == (1, 1, True)


def check_untouched(figures: Figures) -> None:
    assert figures.untouched, "somebody was elsewhere"
    for user in figures.untouched:
        assert goes_on(user) and (user.errors, user.anew) == ({}, 0), user


def may_be_waiting(user: User) -> bool:
    """The SDKs' clients wait for an answer that broke off until their own time for it has run out."""
    return "broke off" in user.errors


def client_may_die(user: User) -> bool:
    """The Python SDK's client of version 1 ends its transport at a 502 or 503, and with it the session object."""
    return user.client == "python" and not user.errors.keys().isdisjoint({"502", "503"})


def check_lost(figures: Figures, on_loss: str, may_see: set[str]) -> None:
    """The replicas of the touched have lost their sessions, and all of them have gone on."""
    assert figures.touched, "somebody was there"
    for user in figures.touched:
        seen = set(user.errors)
        if on_loss == "not-found":
            assert not user.died or client_may_die(user), user
            assert seen and (len(user.places) > 1 or may_be_waiting(user)), user
            assert seen <= may_see | {"404"} and not user.anew, user
        else:
            assert goes_on(user) and user.anew and not user.died, user
            assert seen <= may_see, user


def test_a_replica_that_is_killed_and_comes_back(fleet, proxy, on_loss, report):
    victim = fleet.replicas[0]
    with Load(proxy.url) as load:
        time.sleep(A_WHILE)
        victim.restart()
        time.sleep(A_WHILE)
    figures = Figures.of(load.users, {victim.name})
    report(figures)
    check_untouched(figures)
    check_lost(figures, on_loss, WHILE_AWAY[on_loss])


def test_a_replica_that_is_killed_and_stays_away(fleet, proxy, on_loss, report):
    victim = fleet.replicas[1]
    with Load(proxy.url) as load:
        time.sleep(A_WHILE)
        victim.kill()
        time.sleep(LOSS_AFTER + 2 * A_WHILE)
    figures = Figures.of(load.users, {victim.name})
    report(figures)
    check_untouched(figures)
    check_lost(figures, on_loss, WHILE_AWAY[on_loss])
    for user in figures.touched:
        assert victim.name not in user.places[1:], "nobody is sent to a replica that is down"


def test_a_replica_that_hangs_for_a_while(fleet, proxy, report):
    """Nobody loses anything: those with a session there wait."""
    victim, hangs = fleet.replicas[0], 4.0
    with Load(proxy.url) as load:
        with victim.stopped():
            time.sleep(hangs)
        time.sleep(A_WHILE)
    figures = Figures.of(load.users, {victim.name})
    report(figures)
    check_untouched(figures)
    assert all(goes_on(user) and not user.anew for user in figures.touched)
    assert errors(figures.touched) == {}
    assert longest(figures.untouched) < hangs - 1 < longest(figures.touched)


def roll(fleet, proxy: Pinring, empty: Callable[[Replica, list[Replica]], None]) -> set[str]:
    """As a rolling update does it: a new replica comes, an old one is emptied and goes, and so on. Gives the names of
    those that went."""
    before, replicas = list(fleet.replicas), list(fleet.replicas)
    for old, new in zip(before, fleet.add(SERVERS), strict=True):
        replicas.append(new)
        proxy.reload(replicas)
        empty(old, replicas)
        replicas.remove(old)
        old.kill()
        proxy.reload(replicas)
    return {replica.name for replica in before}


@pytest.mark.parametrize("on_loss", ["not-found"])
def test_all_replicas_are_replaced_under_short_sessions(fleet, proxy, report):
    """Sessions that end while their replica drains notice nothing at all."""

    def empty(old: Replica, replicas: list[Replica]) -> None:
        proxy.reload(replicas, draining=[old])
        time.sleep(SHORT_LIFE + A_WHILE)

    with Load(proxy.url, life=SHORT_LIFE) as load:
        gone = roll(fleet, proxy, empty)
    report(Figures.of(load.users, gone))
    assert errors(load.users) == {}
    assert not any(user.places[-1] in gone for user in load.users), "all have moved"


def test_all_replicas_are_replaced_under_long_sessions(fleet, proxy, on_loss, report):
    """Those that are still there at the deadline of the drain are lost then, and nobody waits for who is gone."""

    def empty(old: Replica, _: list[Replica]) -> None:
        proxy.drain(old, "--wait", "--timeout", "1s")

    with Load(proxy.url) as load:
        gone = roll(fleet, proxy, empty)
        time.sleep(A_WHILE)
    figures = Figures.of(load.users, gone)
    report(figures)
    check_lost(figures, on_loss, AT_THE_DEADLINE[on_loss])
    left = [user for user in load.users if user.places[-1] in gone]
    assert all(may_be_waiting(user) and on_loss == "not-found" for user in left), "all have moved"
