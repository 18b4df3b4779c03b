"""What each revision with sessions has of its own, at servers of both versions of both SDKs.

The requests of a session alternate between two proxies, so each of them has to find the session's replica. With the
SDKs' own clients, in 2025-11-25: test_clients.py (streams that the server closes early, questions to the client, the
standalone stream, DELETE), test_endings.py (streams that the client leaves).
"""

import time

import pytest
from rig.raw import RawSession, messages, result_text, step

OLDEST, MIDDLE, LATEST = "2025-03-26", "2025-06-18", "2025-11-25"
REVISIONS = (OLDEST, MIDDLE, LATEST)
SESSIONS = 6
RETRY_MS = 500
COMPLETION = {"role": "assistant", "content": {"type": "text", "text": "of course"}, "model": "test"}
CONSENT = {"action": "accept", "content": {"answer": "of course"}}

of_each_revision = pytest.mark.parametrize("revision", REVISIONS)
since_elicitation = pytest.mark.parametrize("revision", [MIDDLE, LATEST])


@pytest.fixture
def urls_of(fleet_of, pinring, several_replicas):
    """URLs of a fleet behind two proxies."""

    def find(server: str) -> list[str]:
        fleet = fleet_of(server)
        return [pinring(fleet.three).url for _ in range(2)] if several_replicas else [fleet.replicas[0].url]

    return find


@pytest.fixture(params=["node", "python", "node-v2", "python-v2"], ids=lambda name: f"{name}-server")
def urls(request, urls_of):
    return urls_of(request.param)


@pytest.fixture(params=["node", "node-v2"], ids=lambda name: f"{name}-server")
def urls_that_take_batches(request, urls_of):
    """The Python SDK refuses them itself."""
    return urls_of(request.param)


def open_sessions(urls: list[str], revision: str) -> list[RawSession]:
    """Enough of them to be on several replicas."""
    sessions = [RawSession(*urls, version=revision) for _ in range(SESSIONS)]
    for session in sessions:
        assert messages(session.opening)[-1]["result"]["protocolVersion"] == revision
    return sessions


@of_each_revision
def test_every_request_of_a_session_reaches_its_replica(urls, revision):
    for session in open_sessions(urls, revision):
        where = session.call("where")
        assert [session.call("count") for _ in range(4)] == [f"{where}:{number}" for number in range(1, 5)]


def test_a_request_without_a_version_reaches_its_replica_in_later_revisions_too(urls):
    """Clients that do not tell it are taken for those of 2025-03-26."""
    for session in open_sessions(urls, LATEST):
        where = session.call("where")
        del session.http.headers["mcp-protocol-version"]
        assert [session.call("count") for _ in range(4)] == [f"{where}:{number}" for number in range(1, 5)]


def test_a_batch_is_answered_by_its_session(urls_that_take_batches):
    for session in open_sessions(urls_that_take_batches, OLDEST):
        where = session.call("where")
        calls = [session.message("tools/call", name="count", arguments={}) for _ in range(3)]
        notice = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
        answered = messages(session.http.post(session.url, json=[*calls, notice]))
        counts = {message["id"]: result_text(message) for message in answered}
        assert counts == {call["id"]: f"{where}:{number}" for number, call in enumerate(calls, start=1)}


def test_a_batch_of_answers_reaches_its_session(urls_that_take_batches):
    for session in open_sessions(urls_that_take_batches, OLDEST):
        where = session.call("where")
        with session.streamed_call("sample", prompt="one") as one, session.streamed_call("sample", prompt="two") as two:
            questions = [next(one), next(two)]
            batch = [{"jsonrpc": "2.0", "id": question["id"], "result": COMPLETION} for question in questions]
            assert session.http.post(session.url, json=batch).status_code == 202
            assert [result_text(next(one)), result_text(next(two))] == [f"{where}:of course"] * 2


@of_each_revision
def test_an_answer_to_sampling_reaches_its_replica(urls, revision):
    for session in open_sessions(urls, revision):
        where = session.call("where")
        with session.streamed_call("sample", prompt="may I?") as events:
            question = next(events)
            assert question["method"] == "sampling/createMessage"
            assert question["params"]["messages"][0]["content"]["text"] == "may I?"
            assert session.reply(question, COMPLETION).status_code == 202
            assert result_text(next(events)) == f"{where}:of course"


@since_elicitation
def test_an_answer_to_an_elicitation_reaches_its_replica(urls, revision):
    for session in open_sessions(urls, revision):
        where = session.call("where")
        with session.streamed_call("ask", question="may I?") as events:
            question = next(events)
            assert (question["method"], question["params"]["message"]) == ("elicitation/create", "may I?")
            assert session.reply(question, CONSENT).status_code == 202
            assert result_text(next(events)) == f"{where}:of course"


@of_each_revision
def test_each_of_several_streams_brings_its_own_messages(urls, revision):
    for session in open_sessions(urls, revision):
        where = session.call("where")
        with (
            session.stream() as standalone,
            session.streamed_call("hold") as held,
            session.streamed_call("progress", steps=3, gap_ms=5) as running,
        ):
            assert step(next(held)) == 1
            assert [step(next(running)) for _ in range(3)] == [1, 2, 3]
            assert result_text(next(running)) == where
            assert session.call("announce", text="heard") == where
            assert next(standalone)["params"]["data"] == "heard"
            assert session.call("release") == where
            assert step(next(held)) == 2
            assert result_text(next(held)) == where


@of_each_revision
def test_a_stream_that_broke_off_is_resumed_at_its_replica(urls, revision):
    sessions = open_sessions(urls, revision)
    broken_off = [broken_off_call(session) for session in sessions]
    for session in sessions:
        session.call("release")
    for session, last_event_id in zip(sessions, broken_off, strict=True):
        assert resumed(session, last_event_id) == ([2], session.call("where"))


def broken_off_call(session: RawSession) -> str:
    """Leaves a call after its first step. Gives where to go on."""
    with session.streamed_call("hold") as held:
        assert step(next(held)) == 1
    return held.last_id


def test_a_stream_that_the_server_closed_early_is_resumed_at_its_replica(urls):
    """Since 2025-11-25 the server may close it and let the client poll, as often as `retry:` says."""
    sessions = open_sessions(urls, LATEST)
    closed = [closed_early(session) for session in sessions]
    # As clients do. The Python SDK loses what happens while it replays, so one in a hurry may miss the result.
    time.sleep(RETRY_MS / 1000)
    for session, (steps, last_event_id) in zip(sessions, closed, strict=True):
        later, result = resumed(session, last_event_id)
        assert (steps + later, result) == ([1, 2, 3], session.call("where"))


def closed_early(session: RawSession) -> tuple[list[int], str]:
    """The steps that a call brings before its server ends the stream, and where to go on."""
    with session.streamed_call("interrupted", steps=3) as events:
        steps = [step(message) for message in events]
    assert steps in ([], [1]), "the Python SDK forgets the first one as it closes"
    assert events.retry_ms == RETRY_MS
    return steps, events.last_id


def resumed(session: RawSession, last_event_id: str) -> tuple[list[int], str]:
    """The steps and the result that a resumed call still brings."""
    steps = []
    with session.stream(last_event_id) as events:
        for message in events:
            if "result" in message:
                return steps, result_text(message)
            steps.append(step(message))
    raise AssertionError(f"no result after {last_event_id}: {events.response.status_code}, {steps}")
