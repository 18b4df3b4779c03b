"""The suite of revision 2026-07-28 at a server of the Python SDK: what three replicas do otherwise than one is a list
that is to become empty."""

from collections import Counter

import pytest
from rig.conformance import Verdict, verdicts
from rig.fleet import Fleet
from rig.paths import CONFORMANCE_V2

SUITE = (CONFORMANCE_V2, "--requirements", "2026-07-28")
ENOUGH_CHECKS = 160
NOT_REQUIRED = ("server-tasks-", "server-json-schema-2020-12")
"""Scenarios that the suite runs without scoring them, and of which this server has nothing."""

ONE_LISTENER = {
    ("server-server-stateless", "sep-2575-server-sends-prompts-list-changed-on-subscription"),
    ("server-server-stateless", "sep-2575-server-sends-tools-list-changed-on-subscription"),
}
"""While the suite listens, it calls a tool that changes a list. The stream hears one replica, and the change is made in
another: the stream counts as load, so new work avoids the very replica that it is at. Nothing in the two requests says
that they belong together but their address."""


@pytest.fixture(scope="module")
def replicas():
    fleet = Fleet(["conformance-v2"] * 3)
    yield fleet.replicas
    fleet.close()


@pytest.fixture(scope="module")
def direct(replicas, tmp_path_factory) -> list[Verdict]:
    return verdicts(*SUITE, url=replicas[0].url, results=tmp_path_factory.mktemp("direct"))


def test_the_server_passes_the_suite(direct):
    """Else the comparison would say little."""
    statuses = Counter(status for _, _, status in direct)
    assert statuses["SUCCESS"] >= ENOUGH_CHECKS
    failed = [scenario for scenario, _, status in direct if status in ("FAILURE", "WARNING")]
    assert all(scenario.startswith(NOT_REQUIRED) for scenario in failed)


def differences(direct: list[Verdict], proxied: list[Verdict]) -> set[tuple[str, str]]:
    lost, found = Counter(direct) - Counter(proxied), Counter(proxied) - Counter(direct)
    return {(scenario, check) for scenario, check, _ in lost + found}


@pytest.mark.proxy
def test_nothing_but_what_is_known_differs_through_pinring(replicas, direct, pinring, tmp_path):
    proxied = verdicts(*SUITE, url=pinring(replicas).url, results=tmp_path)
    assert differences(direct, proxied) == ONE_LISTENER, "strike out what no longer differs"


@pytest.mark.proxy
def test_nothing_differs_where_a_stream_of_changes_hears_all_replicas(replicas, direct, pinring, tmp_path):
    all_of_them = '[pool]\nlisten_streams = "fan-out"\n'
    proxied = verdicts(*SUITE, url=pinring(replicas, extra=all_of_them).url, results=tmp_path)
    assert differences(direct, proxied) == set()


@pytest.mark.proxy
def test_nothing_differs_where_each_address_has_its_replica(replicas, direct, pinring, tmp_path):
    """Who listens and who makes the change then are at one replica; clients of other addresses are not."""
    by_address = '[pool]\nstateless_affinity = ["client-ip"]\n'
    proxied = verdicts(*SUITE, url=pinring(replicas, extra=by_address).url, results=tmp_path)
    assert differences(direct, proxied) == set()
