"""Thirty concurrent sessions of each SDK's client, at three replicas of each SDK's server."""

from rig.client import SESSIONS, run


def check_affinity(sessions: list[dict], several_replicas: bool) -> None:
    assert len(sessions) == SESSIONS
    for session in sessions:
        assert session["ids"] == [session["id"]], "every answer carries the id that the client got first"
    assert len({session["id"] for session in sessions}) == SESSIONS
    if several_replicas:
        assert len({session["where"] for session in sessions}) > 1


def test_counters_stay_with_their_session(front, client, several_replicas):
    sessions = run(client, "counters", front)
    check_affinity(sessions, several_replicas)
    for session in sessions:
        assert session["counts"] == [f"{session['where']}:{number}" for number in range(1, 6)]
        assert (session["id"] != session["seen"]) is several_replicas, "the server sees its own id"


def test_progress_arrives_in_order_before_the_result(front, client, several_replicas):
    sessions = run(client, "progress", front)
    check_affinity(sessions, several_replicas)
    for session in sessions:
        assert session["steps"] == [1, 2, 3, 4, 5]
        assert session["result"] == session["where"]


def test_a_server_asks_its_client_in_mid_call(front, client, several_replicas):
    sessions = run(client, "ask", front)
    check_affinity(sessions, several_replicas)
    for session in sessions:
        assert session["answer"] == f"{session['where']}:re: who is {session['index']}"


def test_announcements_arrive_on_the_standalone_stream(front, client, several_replicas):
    sessions = run(client, "announce", front)
    check_affinity(sessions, several_replicas)
    for session in sessions:
        assert session["heard"] == [f"{session['index']} one", f"{session['index']} two"]


def test_a_resumed_stream_brings_the_missed_events(front, client, several_replicas):
    sessions = run(client, "interrupted", front)
    check_affinity(sessions, several_replicas)
    for session in sessions:
        assert session["steps"] == [1, 2, 3, 4, 5]
        assert session["result"] == session["where"]
        assert session["resumes"] == 1


def test_a_deleted_session_is_not_found(front, client, several_replicas):
    sessions = run(client, "delete", front)
    check_affinity(sessions, several_replicas)
    for session in sessions:
        assert (session["deleted"], session["post"], session["get"]) == (200, 404, 404)
