"""What a client sees of pinring: the id, and nothing else."""

import re

import pytest
from rig.raw import RawSession

PIN = "-[a-z2-7]{32}"
LOCAL_ORIGIN = "http://localhost:6274"


def ids(response) -> list[str]:
    return response.headers.get_list("mcp-session-id")


@pytest.mark.proxy
def test_the_id_is_the_servers_own_with_a_pin(front):
    session = RawSession(*front)
    assert re.fullmatch(re.escape(session.call("seen_id")) + PIN, session.id)


def test_every_answer_that_names_the_session_names_it_once_and_alike(front):
    session = RawSession(*front)
    with session.streamed_call("progress", steps=1, gap_ms=0) as call:
        list(call)
    with session.stream() as stream:
        pass
    unknown_method = session.post("no/such/method")
    malformed = session.http.post(session.url, content="{", headers={"content-type": "application/json"})
    assert ids(session.opening) == [session.id]
    for answer in (session.initialized, call.response, stream.response, unknown_method, malformed, session.delete()):
        assert ids(answer) in ([], [session.id])


def test_a_deleted_session_is_not_found_by_any_method(front):
    session = RawSession(*front)
    assert session.delete().status_code == 200
    assert session.try_call("count").status_code == 404
    with session.stream() as events:
        assert events.response.status_code == 404
    assert session.delete().status_code == 404


def test_an_id_that_nobody_issued_is_not_found(front):
    session = RawSession(*front)
    for unknown in (f"{session.id[:-1]}{'a' if session.id[-1] != 'a' else 'b'}", "no-such-session"):
        session.http.headers["mcp-session-id"] = unknown
        assert session.try_call("count").status_code == 404


@pytest.mark.proxy
def test_browsers_may_read_the_id(front):
    session = RawSession(*front, origin=LOCAL_ORIGIN)
    exposed = session.opening.headers["access-control-expose-headers"].lower()
    assert "mcp-session-id" in [name.strip() for name in exposed.split(",")]
