"""With `on_loss = "reinitialize"`, every SDK client goes on through the same session object when its server is killed."""

import pytest
from rig.client import SESSIONS, run

pytestmark = pytest.mark.proxy

REINITIALIZE = 'on_loss = "reinitialize"\nloss_after = "500ms"'


def went_on_at(sessions: list[dict], killed: str) -> list[str]:
    """Where the sessions of the killed replica went on. The others noticed nothing."""
    assert len(sessions) == SESSIONS
    after = []
    for session in sessions:
        assert session["ids"] == [session["id"]], "the client keeps its id"
        where, counts = session["where"], session["counts"]
        if where == killed:
            name = counts[2].split(":")[0]
            assert counts == [f"{where}:1", f"{where}:2", f"{name}:1", f"{name}:2"], "the counter begins anew"
            after.append(name)
        else:
            assert counts == [f"{where}:{number}" for number in range(1, 5)]
    assert after, "no session was at the killed replica"
    return after


def test_a_killed_and_restarted_replica_costs_no_client_its_session(own_fleet, server, client, pinring):
    fleet = own_fleet(server, server)
    proxy = pinring(fleet.replicas, extra=REINITIALIZE)
    killed = fleet.replicas[0]
    sessions = run(client, "forgotten", [proxy.url], meanwhile=killed.restart)
    went_on_at(sessions, killed.name)


def test_a_killed_replica_s_sessions_go_on_at_the_others(own_fleet, server, client, pinring):
    fleet = own_fleet(server, server, server)
    proxy = pinring(fleet.replicas, extra=REINITIALIZE)
    killed = fleet.replicas[0]

    def kill() -> None:
        killed.kill()
        proxy.process.wait_for_line("its sessions are lost")

    sessions = run(client, "forgotten", [proxy.url], meanwhile=kill)
    assert set(went_on_at(sessions, killed.name)) == {"b", "c"}
