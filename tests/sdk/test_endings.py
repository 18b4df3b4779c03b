"""How streams end when a backend dies, the proxy is told to stop, or the client leaves."""

import json
import signal
import socket

import pytest
from rig.deadline import eventually
from rig.raw import BOTH_TYPES, VERSION, RawSession, open_sessions, result_text, step

LAST_CHUNK = b"0\r\n\r\n"


def raw_request(session: RawSession, port: int, body: bytes) -> bytes:
    head = (
        f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: {BOTH_TYPES}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"mcp-session-id: {session.id}\r\nmcp-protocol-version: {VERSION}\r\n\r\n"
    )
    return head.encode() + body


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        part = connection.recv(65536)
        assert part, f"ended before {mark}: {received}"
        received += part
    return received


def read_to_the_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def test_a_backend_killed_in_mid_answer_leaves_it_visibly_unfinished(server, own_fleet, pinring, several_replicas):
    """Otherwise the client takes the half for the whole."""
    fleet = own_fleet(server)
    port = pinring(fleet.replicas).port if several_replicas else fleet.replicas[0].port
    session = RawSession(f"http://127.0.0.1:{port}/mcp")
    params = {"name": "hold", "arguments": {}, "_meta": {"progressToken": 1}}
    body = json.dumps(session.message("tools/call", **params)).encode()
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(raw_request(session, port, body))
        received = read_until(connection, b"notifications/progress")
        assert b"transfer-encoding: chunked" in received.lower()
        fleet.replicas[0].process.kill()
        received += read_to_the_end(connection)
    assert not received.endswith(LAST_CHUNK)


@pytest.mark.proxy
def test_a_call_under_way_completes_after_sigterm(fleet, pinring):
    proxy = pinring(fleet.three)
    session = RawSession(proxy.url)
    where = session.call("where")
    with session.streamed_call("progress", steps=10, gap_ms=100) as events:
        assert step(next(events)) == 1
        proxy.terminate()
        *steps, result = events
    assert [step(message) for message in steps] == list(range(2, 11))
    assert result_text(result) == where
    assert proxy.process.wait() == 0


@pytest.mark.proxy
def test_an_open_stream_holds_the_proxy_no_longer_than_the_drain(fleet, pinring):
    """It never ends by itself."""
    proxy = pinring(fleet.three, drain="1s")
    with RawSession(proxy.url).stream() as events:
        assert events.response.status_code == 200
        proxy.terminate()
        assert proxy.process.wait(within=10) == 0


@pytest.mark.proxy
def test_a_second_signal_ends_the_proxy_at_once(fleet, pinring):
    proxy = pinring(fleet.three, drain="60s")
    session = RawSession(proxy.url)
    with session.streamed_call("hold") as events:
        assert step(next(events)) == 1
        proxy.terminate()
        proxy.process.wait_for_line("(?i)drain|shut|stop|term")
        proxy.process.signal(signal.SIGTERM)
        proxy.process.wait(within=5)


def test_a_client_that_left_gets_its_standalone_stream_again(front):
    """Servers answer 409 to a second stream for as long as they think that the first one lives."""
    for session in open_sessions(front, 30):
        with session.stream() as events:
            assert events.response.status_code == 200

        def reopened(session=session) -> bool:
            with session.stream() as events:
                assert events.response.status_code in (200, 409)
                return events.response.status_code == 200

        eventually("the stream to be free again", reopened, within=2)


def test_a_client_that_left_a_call_resumes_it(front):
    for session in open_sessions(front, 30):
        where = session.call("where")
        with session.streamed_call("hold") as events:
            assert step(next(events)) == 1
        session.call("release")
        eventually("the result", lambda: resumed_result(session, events.last_id) == where, within=2)


def resumed_result(session: RawSession, last_event_id: str) -> str | None:
    with session.stream(last_event_id) as events:
        for message in events:
            if "result" in message:
                return result_text(message)
    assert events.response.status_code in (200, 409)
    return None
