"""The container image, run as orchestrators run it: read-only, without a right, as a user of its own. PINRING_IMAGE is
the folder that it was unpacked to; `tests/run image` builds it first."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from rig.deadline import eventually
from rig.fleet import Fleet
from rig.process import Process
from test_recipes import opened, whole

ROOT = Path(os.environ.get("PINRING_IMAGE", "/nonexistent"))
PORT = 8080
MEGABYTES = 15

pytestmark = [pytest.mark.proxy, pytest.mark.skipif(not ROOT.exists(), reason="tests/run image")]

JAIL = f"bwrap --ro-bind {ROOT} / --proc /proc --dev /dev --unshare-user --unshare-pid --unshare-ipc --uid 65532 --gid 65532 --cap-drop ALL"
ENVIRONMENT = "--clearenv --setenv PINRING_CONFIG /etc/pinring/pinring.toml --die-with-parent"


def within(*command: str, **environment: str) -> list[str]:
    """In the image, with the machine's network."""
    given = [word for name, value in environment.items() for word in ("--setenv", name, value)]
    return [*JAIL.split(), *ENVIRONMENT.split(), *given, *command]


def test_it_is_small_and_holds_nothing_else():
    files = [file for file in ROOT.rglob("*") if file.is_file()]
    assert {str(file.relative_to(ROOT)) for file in files} == {
        "usr/bin/pinring",
        "etc/pinring/pinring.toml",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/share/doc/pinring/LICENSE",
    }
    assert sum(file.stat().st_size for file in files) <= MEGABYTES * 2**20


def test_it_serves_says_that_it_is_well_and_ends():
    fleet = Fleet(["node"] * 3)
    backends = ",".join(f"{replica.name}={replica.origin}" for replica in fleet.replicas)
    # The process in the jail is the jail's second one; the signal goes to all of them.
    image = Process("image", within("/usr/bin/pinring", PINRING_BACKENDS=backends))
    try:

        def well() -> bool:
            return subprocess.run(within("/usr/bin/pinring", "health"), capture_output=True).returncode == 0

        eventually("health", well)
        sessions = opened(PORT)
        assert whole(PORT, sessions) == 1
        [inner] = subprocess.run(["pgrep", "-P", str(image.child.pid)], capture_output=True, text=True).stdout.split()
        proxies = subprocess.run(["pgrep", "-P", inner], capture_output=True, text=True).stdout.split()
        os.kill(int(proxies[0] if proxies else inner), signal.SIGTERM)
        assert image.wait() == 0
        assert not well()
    finally:
        image.close()
        fleet.close()
