"""The official suite must not be able to tell pinring with three replicas from one replica."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from rig.paths import CONFORMANCE, NODE

TIMESTAMP = r"-\d{4}-\d\d-\d\dT[\d-]+Z$"
ENOUGH_CHECKS = 44


def verdicts(url: str, results: Path) -> list[tuple[str, str, str]]:
    """Scenario, check and status, in the order in which the suite gave them."""
    command = [NODE, CONFORMANCE, "server", "--url", url, "--suite", "all", "--output-dir", str(results)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    files = list(results.glob("*/checks.json"))
    assert files, run.stdout + run.stderr
    return [
        (re.sub(TIMESTAMP, "", file.parent.name), check["id"], check["status"])
        for file in sorted(files)
        for check in json.loads(file.read_text())
    ]


@pytest.fixture
def direct(own_fleet, tmp_path):
    fleet = own_fleet(*["conformance"] * 3)
    return fleet, verdicts(fleet.replicas[0].url, tmp_path / "direct")


def test_the_server_passes_the_suite(direct):
    """Else the comparison would say little."""
    _, checks = direct
    statuses = [status for _, _, status in checks]
    assert statuses.count("SUCCESS") >= ENOUGH_CHECKS
    assert "FAILURE" not in statuses


@pytest.mark.proxy
def test_the_suite_gives_the_same_results_through_pinring(direct, pinring, tmp_path):
    fleet, expected = direct
    assert verdicts(pinring(fleet.replicas).url, tmp_path / "proxied") == expected
