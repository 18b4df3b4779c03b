"""SIGHUP with a backend more or less: no session is lost, no stream is cut."""

import pytest
from rig.client import SESSIONS, run
from rig.raw import RawSession, open_sessions

pytestmark = pytest.mark.proxy

ENOUGH_TO_REACH_ALL = 60


def check_undisturbed(sessions: list[dict]) -> None:
    assert len(sessions) == SESSIONS
    for session in sessions:
        assert session["ids"] == [session["id"]]
        assert session["counts"] == [f"{session['where']}:{number}" for number in range(1, 5)]
        assert (session["steps"], session["result"]) == ([1, 2], session["where"])
        assert session["heard"] == [str(session["index"])]
        assert (session["streams"], session["resumes"]) == (1, 0), "neither stream was opened twice"


def test_no_session_notices_a_new_backend(fleet, client, pinring):
    proxy = pinring(fleet.three)
    sessions = run(client, "outlive", [proxy.url], meanwhile=lambda: proxy.reload(fleet.replicas))
    check_undisturbed(sessions)
    assert {session["where"] for session in sessions} <= {"a", "b", "c"}


def test_new_sessions_reach_a_new_backend(fleet, pinring):
    proxy = pinring(fleet.three)
    proxy.reload(fleet.replicas)
    assert any(RawSession(proxy.url).call("where") == "d" for _ in range(ENOUGH_TO_REACH_ALL))


def test_no_session_notices_a_removed_backend(fleet, client, pinring):
    proxy = pinring(fleet.replicas)
    sessions = run(client, "outlive", [proxy.url], meanwhile=lambda: proxy.reload(fleet.three))
    check_undisturbed(sessions)
    assert "d" in {session["where"] for session in sessions}


def test_no_new_session_reaches_a_removed_backend(fleet, pinring):
    proxy = pinring(fleet.replicas)
    proxy.reload(fleet.three)
    reached = {session.call("where") for session in open_sessions([proxy.url], ENOUGH_TO_REACH_ALL)}
    assert reached == {"a", "b", "c"}


def test_a_broken_file_leaves_the_old_configuration_running(fleet, pinring):
    proxy = pinring(fleet.three)
    session = RawSession(proxy.url)
    proxy.refuse("[server]\nlisten = 1\n")
    assert session.call("count").endswith(":1")
    assert RawSession(proxy.url).call("count").endswith(":1")
