"""pinring keeps nothing that a session needs: it can be killed and started again under 30 of them."""

import pytest
from rig.client import SESSIONS, run

pytestmark = pytest.mark.proxy


def test_every_session_survives_a_killed_proxy(fleet, client, pinring):
    proxy = pinring(fleet.three)
    sessions = run(client, "recover", [proxy.url], meanwhile=proxy.kill_and_restart)
    assert len(sessions) == SESSIONS
    assert len({session["where"] for session in sessions}) > 1
    for session in sessions:
        assert session["ids"] == [session["id"]]
        assert session["counts"] == [f"{session['where']}:{number}" for number in range(1, 5)]
        assert session["result"] == session["where"], "the call under way was resumed with Last-Event-ID"
        assert session["heard"] == [str(session["index"])], "the standalone stream came back"
