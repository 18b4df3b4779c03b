"""Replicas that are killed, hang, restart and are replaced, under real clients: who notices, and what.

A session's replica is all that matters to it. So users on other replicas see no error, whatever happens; those on
the replica itself see what `on_loss` says. Half of the replicas are of the TypeScript SDK, half of the Python SDK,
and so are the users.
"""

import time

import pytest
from rig.fleet import Replica
from rig.load import Figures, Load, User, errors, longest
from rig.pinring import Pinring

pytestmark = pytest.mark.proxy

SERVERS = ("node", "python", "node", "python")

WHILE_AWAY = {"502", "503", "broke off"}
"""For a request that was under way, for those that cannot be made, for an answer that had begun."""

A_WHILE = 1.5
"""For users to notice, or to show that they do not."""

LOSS_AFTER = 2
SHORT_LIFE = 1.0
"""Of a session whose user is done soon, and begins another one later."""


@pytest.fixture(params=["not-found"])
def on_loss(request):
    """Where a mode is added, add what its users see to `check_lost`."""
    return request.param


@pytest.fixture
def fleet(own_fleet):
    return own_fleet(*SERVERS)


@pytest.fixture
def proxy(fleet, pinring, on_loss):
    return pinring(fleet.replicas, extra=f'on_loss = "{on_loss}"\nloss_after = "{LOSS_AFTER}s"\n')


def check_untouched(figures: Figures) -> None:
    assert figures.untouched, "somebody was elsewhere"
    for user in figures.untouched:
        assert (user.errors, len(user.places)) == ({}, 1), user


def check_lost(figures: Figures, on_loss: str, may_see: set[str]) -> None:
    """The sessions of the touched are gone, and all of them have gone on."""
    assert figures.touched, "somebody was there"
    for user in figures.touched:
        seen = set(user.errors)
        if on_loss == "not-found":
            assert seen and len(user.places) > 1, user
            assert seen <= may_see | {"404"}, user


def test_a_replica_that_is_killed_and_comes_back(fleet, proxy, on_loss, report):
    victim = fleet.replicas[0]
    with Load(proxy.url) as load:
        time.sleep(A_WHILE)
        victim.restart()
        time.sleep(A_WHILE)
    figures = Figures.of(load.users, {victim.name})
    report(figures)
    check_untouched(figures)
    check_lost(figures, on_loss, WHILE_AWAY)


def test_a_replica_that_is_killed_and_stays_away(fleet, proxy, on_loss, report):
    victim = fleet.replicas[1]
    with Load(proxy.url) as load:
        time.sleep(A_WHILE)
        victim.kill()
        time.sleep(LOSS_AFTER + 2 * A_WHILE)
    figures = Figures.of(load.users, {victim.name})
    report(figures)
    check_untouched(figures)
    check_lost(figures, on_loss, WHILE_AWAY)
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
    assert errors(figures.touched) == {}
    assert longest(figures.untouched) < hangs - 1 < longest(figures.touched)


def replace(proxy: Pinring, replicas: list[Replica], old: Replica, new: Replica, wait: float) -> list[Replica]:
    """As a rolling update does it: the new one comes, the old one takes no new work, and goes after `wait`."""
    proxy.reload([*replicas, new], draining=[old])
    time.sleep(wait)
    left = [replica for replica in [*replicas, new] if replica is not old]
    old.kill()
    proxy.reload(left)
    return left


def roll(fleet, proxy: Pinring, wait: float) -> None:
    replicas = fleet.replicas[: len(SERVERS)]
    for old, new in zip(list(replicas), fleet.add(SERVERS), strict=True):
        replicas = replace(proxy, replicas, old, new, wait)


def test_all_replicas_are_replaced_under_short_sessions(fleet, proxy, report):
    """Sessions that end while their replica drains notice nothing at all."""
    names = {replica.name for replica in fleet.replicas}
    with Load(proxy.url, life=SHORT_LIFE) as load:
        roll(fleet, proxy, wait=SHORT_LIFE + A_WHILE)
    figures = Figures.of(load.users, names)
    report(figures)
    assert errors(load.users) == {}
    assert not any(user.places[-1] in names for user in load.users), "all have moved"


def test_all_replicas_are_replaced_under_long_sessions(fleet, proxy, on_loss, report):
    """Who was on a replica that goes loses that session; it is placed anew on one that stays or on one that goes later."""
    names = {replica.name for replica in fleet.replicas}
    with Load(proxy.url) as load:
        roll(fleet, proxy, wait=0.5)
        time.sleep(LOSS_AFTER + 2 * A_WHILE)
    figures = Figures.of(load.users, names)
    report(figures)
    check_lost(figures, on_loss, WHILE_AWAY)
    for user in load.users:
        assert user.places[-1] not in names, "all have moved"
