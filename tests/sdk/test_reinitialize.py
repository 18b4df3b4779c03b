"""With `on_loss = "reinitialize"`, every SDK client goes on through the same session object when its server is killed."""

import pytest
from rig.client import SESSIONS, run

pytestmark = pytest.mark.proxy

REINITIALIZE = 'on_loss = "reinitialize"\nloss_after = "500ms"'


def brought_back(sessions: list[dict], killed: str) -> list[dict]:
    """The sessions of the killed replica, which go on where the counter begins anew. The others noticed nothing."""
    assert len(sessions) == SESSIONS
    for session in sessions:
        assert session["ids"] == [session["id"]], "the client keeps its id"
        where = session["where"]
        session["went_to"] = there = session["counts"][2].split(":")[0] if where == killed else where
        anew = 1 if where == killed else 3
        assert session["counts"] == [f"{where}:1", f"{where}:2", f"{there}:{anew}", f"{there}:{anew + 1}"]
    back = [session for session in sessions if session["where"] == killed]
    assert back, "no session was at the killed replica"
    return back


def test_a_killed_and_restarted_replica_costs_no_client_its_session(own_fleet, server, client, pinring):
    fleet = own_fleet(server, server)
    proxy = pinring(fleet.replicas, extra=REINITIALIZE)
    killed = fleet.replicas[0]
    sessions = run(client, "forgotten", [proxy.url], meanwhile=killed.restart)
    assert all(session["hears"] for session in brought_back(sessions, killed.name))


def test_the_sessions_of_a_killed_replica_go_on_at_the_others(own_fleet, server, client, pinring):
    fleet = own_fleet(server, server, server)
    proxy = pinring(fleet.replicas, extra=REINITIALIZE)
    killed = fleet.replicas[0]

    def kill() -> None:
        killed.kill()
        proxy.process.wait_for_line("its sessions are lost")

    back = brought_back(run(client, "forgotten", [proxy.url], meanwhile=kill), killed.name)
    assert {session["went_to"] for session in back} == {"b", "c"}
    if client == "node":  # the Python client gives its standalone stream up after two tries
        assert all(session["hears"] for session in back)
