"""The container image, run as orchestrators run it: read-only, without a right, as a user of its own. PINRING_IMAGE is
the folder that it was unpacked to; `tests/run image` builds it first."""

import os
import re
import shlex
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

NETWORK = "bwrap --dev-bind / / --unshare-user --unshare-net --unshare-pid --uid 0 --gid 0 --cap-add ALL --die-with-parent"
"""A network of its own, whose port 53 anybody may have."""

JAIL = f"bwrap --ro-bind {ROOT} / --proc /proc --dev /dev --unshare-user --unshare-pid --unshare-ipc --uid 65532 --gid 65532 --cap-drop ALL"
ENVIRONMENT = "--clearenv --setenv PINRING_CONFIG /etc/pinring/pinring.toml --die-with-parent"


def within(*command: str, resolv_conf: Path | None = None, **environment: str) -> list[str]:
    """In the image, with the network of who runs it."""
    given = [word for name, value in environment.items() for word in ("--setenv", name, value)]
    bound = ["--ro-bind", str(resolv_conf), "/etc/resolv.conf"] if resolv_conf else []
    return [*JAIL.split(), *bound, *ENVIRONMENT.split(), *given, *command]


def test_it_is_small_and_holds_nothing_else():
    files = [file for file in ROOT.rglob("*") if file.is_file()]
    assert {str(file.relative_to(ROOT)) for file in files} - {"etc/resolv.conf"} == {
        "usr/bin/pinring",
        "etc/pinring/pinring.toml",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/share/doc/libc6/copyright",
        "usr/share/doc/pinring/LICENSE",
    }
    assert sum(file.stat().st_size for file in files) <= MEGABYTES * 2**20


def test_it_finds_names_as_its_resolv_conf_says(tmp_path):
    """A C library that is linked statically might want to load a part of itself for that."""
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.9\nsearch default.svc.cluster.local\noptions ndots:5\n")
    names = "--address=/here.default.svc.cluster.local/127.0.0.1 --address=/mcp.example/127.0.0.1"
    # Returns as soon as it listens.
    dnsmasq = f"dnsmasq --user= --group= --no-resolv --no-hosts --pid-file= --listen-address=127.0.0.9 --bind-interfaces {names}"
    backends = "a=http://here:1,b=http://mcp.example:1,c=http://elsewhere.example:1"
    check = within("/usr/bin/pinring", "check", "/etc/pinring/pinring.toml", resolv_conf=resolv_conf, PINRING_BACKENDS=backends)
    script = f"{dnsmasq} && {shlex.join(check)}"
    told = subprocess.run([*NETWORK.split(), "sh", "-c", script], capture_output=True, text=True, timeout=20)
    assert re.findall(r"host name (\S+) does not resolve", told.stdout + told.stderr) == ["elsewhere.example"], told


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
