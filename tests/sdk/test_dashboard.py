"""The dashboard in a real browser: a replica that dies is seen to, and the browser has nothing to complain of."""

import json
import queue
import re
import subprocess
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from rig.client import killed_if_it_fails
from rig.paths import BROWSER, NODE
from rig.raw import BOTH_TYPES, INITIALIZE

pytestmark = pytest.mark.proxy

SOON = 2.0
"""From a replica's end to its turning red."""


class Look:
    """Somebody who looks at the page."""

    def __init__(self, url: str, scheme: str = "light", width: int = 1280) -> None:
        command = [NODE, str(BROWSER / "node/dashboard.mjs"), url, scheme, str(width), "800"]
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._lines: queue.Queue[dict] = queue.Queue()
        self.complaints: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._child.stdout:
            self._lines.put(json.loads(line))

    def until(self, is_seen, within: float) -> dict:
        """What is seen as soon as it is what is waited for."""
        deadline, last = time.monotonic() + within, None
        with killed_if_it_fails(self._child):
            while True:
                left = deadline - time.monotonic()
                assert left > 0, f"still {last}; {self.complaints}"
                try:
                    last = self._lines.get(timeout=left)
                except queue.Empty:
                    continue
                if "complaint" in last:
                    self.complaints.append(last["complaint"])
                elif is_seen(last):
                    return last

    def close(self) -> None:
        self._child.stdin.close()
        self._child.wait(20)


@pytest.fixture
def look():
    looks: list[Look] = []

    def begin(*arguments, **options) -> Look:
        looks.append(Look(*arguments, **options))
        return looks[-1]

    yield begin
    for opened in looks:
        opened.close()


@contextmanager
def newcomers(url: str):
    """Sessions that begin all the time: only who is asked is found to be down.

    Whatever the answer: whose replica dies with its request gets a 502, and the next one has to come.
    """
    is_over = threading.Event()

    def come() -> None:
        with httpx.Client(timeout=20, headers={"accept": BOTH_TYPES}) as http:
            while not is_over.is_set():
                http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE})

    comer = threading.Thread(target=come)
    comer.start()
    try:
        yield
    finally:
        is_over.set()
        comer.join()


def is_red(colour: str) -> bool:
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return red > 150 and green < red / 1.5 and blue < red / 1.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_killed_replica_turns_red(own_fleet, pinring, look, scheme):
    fleet = own_fleet("node", "node", "node")
    proxy = pinring(fleet.replicas)
    page = look(proxy.dashboard, scheme)
    names = [replica.name for replica in fleet.replicas]
    at_first = page.until(lambda seen: list(seen["backends"]) == names, 20)
    assert {backend["state"] for backend in at_first["backends"].values()} == {"open"}
    assert not any(is_red(backend["colour"]) for backend in at_first["backends"].values())
    with newcomers(proxy.url):
        fleet.replicas[1].kill()
        red = page.until(lambda seen: is_red(seen["backends"][names[1]]["colour"]), SOON)
    assert red["title"] == "(1 down) pinring"
    others = [red["backends"][name] for name in (names[0], names[2])]
    assert all(other["state"] == "open" and not is_red(other["colour"]) for other in others)
    assert page.complaints == []


def test_it_can_be_read_on_a_phone(fleet_of, pinring, look):
    proxy = pinring(fleet_of("node").three)
    page = look(proxy.dashboard, width=390)
    seen = page.until(lambda seen: len(seen["backends"]) == 3, 20)
    assert not seen["wide"]
    assert page.complaints == []
