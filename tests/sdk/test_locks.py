"""The lock files pin everything and name no place to download it from: that is each machine's own setting."""

import json

from rig.paths import SDK


def test_the_npm_lock_names_no_download_address():
    lock = json.loads((SDK / "node/package-lock.json").read_text())
    packages = [package for path, package in lock["packages"].items() if path]
    assert packages
    assert all("resolved" not in package and "integrity" in package for package in packages)


def test_every_requirement_is_pinned_by_version_alone():
    lines = (SDK / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert requirements
    assert all("==" in line and "://" not in line for line in requirements)
