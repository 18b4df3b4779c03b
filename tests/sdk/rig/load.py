"""Users of both SDKs' clients under steady load, and what they saw of a disturbance."""

import json
import subprocess
from collections import Counter
from dataclasses import dataclass

from rig.paths import NODE, PYTHON, SDK

PROGRAMS = {
    "node": [NODE, str(SDK / "node/users.mjs")],
    "python": [PYTHON, str(SDK / "python/users.py")],
}
USERS = 12
"""Of each client."""

READY = 30.0
DEADLINE = 60.0


@dataclass
class User:
    client: str
    places: list[str]
    """The replicas of its sessions, one after the other, and of those that went on elsewhere."""

    sessions: int
    ids: int
    """In the answers to all of its sessions."""

    anew: int
    """How often a session went on with its id at a server that began to count."""

    died: int
    """How often the client of a session died."""

    goes_on: bool
    """Whether the last call of all was answered."""

    errors: dict[str, int]
    """How often which: an HTTP status, "call failed" for an error in an answer of status 200, "broke off" for an answer
    that had begun, or the name of the client's error."""
    calls: int
    longest: float
    """The longest that a call took, in seconds."""

    @property
    def has_noticed(self) -> bool:
        return bool(self.errors)


class Load:
    """Users who work from entry to exit. `life` is how long each of their sessions lasts, in seconds; 0: for ever."""

    def __init__(self, url: str, life: float = 0) -> None:
        self._commands = {client: [*program, str(USERS), str(life), url] for client, program in PROGRAMS.items()}
        self.users: list[User] = []

    def __enter__(self) -> "Load":
        pipe = subprocess.PIPE
        self._children = {
            client: subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            for client, command in self._commands.items()
        }
        try:
            for child in self._children.values():
                line = child.stdout.readline()
                assert line.strip() and json.loads(line) == {"ready": True}, f"{line}{child.stderr.read()[-4000:]}"
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None:
                self._stop()
        finally:
            self._kill()

    def _stop(self) -> None:
        for child in self._children.values():
            child.stdin.write("\n")
            child.stdin.flush()
        for client, child in self._children.items():
            output, errors = child.communicate(timeout=DEADLINE)
            assert child.returncode == 0, f"{client} users:\n{errors[-4000:]}"
            self.users += [User(client, **user) for user in json.loads(output.splitlines()[-1])["users"]]

    def _kill(self) -> None:
        for child in self._children.values():
            child.kill()
            child.wait()


@dataclass
class Figures:
    """What a disturbance of some replicas meant for users: those with a session there, and the others."""

    touched: list[User]
    untouched: list[User]

    @classmethod
    def of(cls, users: list[User], replicas: set[str]) -> "Figures":
        """`replicas` are those that were disturbed. Where a user was at first decides."""
        touched = [user for user in users if user.places[0] in replicas]
        return cls(touched, [user for user in users if user not in touched])

    def __str__(self) -> str:
        users = self.touched + self.untouched
        noticed = sum(user.has_noticed for user in users)
        anew = sum(user.anew for user in users)
        python = [user for user in self.touched if user.client == "python"]
        return (
            f"{sum(user.calls for user in users)} requests of {len(users)} users; "
            f"{len(self.touched)} touched: {listed(self.touched)}, longest delay {longest(self.touched):.1f} s; "
            f"{len(self.untouched)} untouched: {listed(self.untouched)}, longest delay {longest(self.untouched):.1f} s; "
            f"{noticed} noticed ({100 * noticed / len(users):.0f} %); "
            f"{anew} times a session went on with its id at a new server; "
            f"the clients of {sum(bool(user.died) for user in python)} of {len(python)} touched Python users died"
        )


def errors(users: list[User]) -> Counter:
    return sum((Counter(user.errors) for user in users), Counter())


def listed(users: list[User]) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(errors(users).items())) or "no errors"


def longest(users: list[User]) -> float:
    return max((user.longest for user in users), default=0)
