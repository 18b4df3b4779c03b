"""The official suite must not be able to tell pinring with three replicas from one replica."""

import pytest
from rig.conformance import verdicts
from rig.paths import CONFORMANCE

SUITE = (CONFORMANCE, "--suite", "all")
ENOUGH_CHECKS = 44


@pytest.fixture
def direct(own_fleet, tmp_path):
    fleet = own_fleet(*["conformance"] * 3)
    return fleet, verdicts(*SUITE, url=fleet.replicas[0].url, results=tmp_path / "direct")


def test_the_server_passes_the_suite(direct):
    """Else the comparison would say little."""
    _, checks = direct
    statuses = [status for _, _, status in checks]
    assert statuses.count("SUCCESS") >= ENOUGH_CHECKS
    assert "FAILURE" not in statuses


@pytest.mark.proxy
def test_the_suite_gives_the_same_results_through_pinring(direct, pinring, tmp_path):
    fleet, expected = direct
    assert verdicts(*SUITE, url=pinring(fleet.replicas).url, results=tmp_path / "proxied") == expected
