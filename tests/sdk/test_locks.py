"""The lock files pin everything and name no place to download it from: that is each machine's own setting."""

import json

import pytest
from rig.paths import BROWSER, SDK, V2


@pytest.mark.parametrize("parts", [SDK, V2, BROWSER], ids=["v1", "v2", "browser"])
def test_the_npm_lock_names_no_download_address(parts):
    lock = json.loads((parts / "node/package-lock.json").read_text())
    packages = [package for path, package in lock["packages"].items() if path]
    assert packages
    assert all("resolved" not in package and "integrity" in package for package in packages)


@pytest.mark.parametrize("parts", [SDK, V2], ids=["v1", "v2"])
def test_every_requirement_is_pinned_by_version_alone(parts):
    lines = (parts / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert requirements
    assert all("==" in line and "://" not in line for line in requirements)
