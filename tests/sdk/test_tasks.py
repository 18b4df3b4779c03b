"""Tasks (SEP-2663) in revision 2026-07-28, with the one SDK that has a server for them: FastMCP, whose tasks live in the
memory of their process where no Redis is configured. Each question about a task is a request of its own."""

import re

import pytest
from rig import v2

pytestmark = pytest.mark.proxy

MODERN = "2026-07-28"
PIN = "-[a-z2-7]{32}"
NO_BODIES = "[pool]\nread_bodies = false\n"


@pytest.fixture
def replicas(fleet_of):
    return fleet_of("fastmcp").three


def seen(url: str) -> list[dict]:
    return v2.run("fastmcp", "tasks", MODERN, url)


def check(clients: list[dict]) -> set[str]:
    """Every task was awaited, answered or cancelled. Gives the replicas that they were at."""
    assert len(clients) == v2.COUNT
    for index, client in enumerate(clients):
        assert "error" not in client, client["error"]
        assert client["asked"].partition(":")[2] == f"re: who is {index}"
        assert client["cancelled"] == ["working", "cancelled"]
    return {client["awaited"] for client in clients}


def test_every_question_about_a_task_reaches_the_replica_that_holds_it(replicas, pinring):
    clients = seen(pinring(replicas).url)
    assert len(check(clients)) > 1
    for client in clients:
        assert re.search(PIN + "$", client["id"])


def test_one_replica_holds_its_tasks(replicas):
    """If it failed, what is above would say nothing of the way."""
    assert check(seen(replicas[0].url)) == {replicas[0].name}


def test_without_pins_tasks_are_lost(replicas, pinring):
    """If it passed, what is above would say nothing of pinring."""
    clients = seen(pinring(replicas, extra=NO_BODIES).url)
    assert any("error" in client for client in clients)
