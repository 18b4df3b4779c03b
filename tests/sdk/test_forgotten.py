"""Backends that do not know the sessions that they served a moment ago."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from rig.fleet import Everything, Workers
from rig.raw import RawSession

pytestmark = pytest.mark.proxy

MANY = 60


@pytest.fixture
def workers():
    server = Workers(2)
    yield server
    server.close()


def test_several_workers_behind_one_address_are_named_in_the_log(workers, pinring):
    """Half of all sessions are met by the worker that did not issue them."""
    proxy = pinring([workers])
    # Side by side: one connection after the other may be the same one, and so the same worker.
    with ThreadPoolExecutor(16) as users:
        statuses = list(users.map(lambda _: RawSession(proxy.url).post("ping").status_code, range(MANY)))
    assert set(statuses) == {200, 404}, "both workers were met"
    line = proxy.process.wait_for_line(".*a session that it answered a moment ago.*")[0]
    assert "uvicorn --workers" in line
    assert f"backend={workers.name}" in line or f'"backend":"{workers.name}"' in line


def test_a_restarted_server_is_not_accused(own_fleet, pinring, server):
    fleet = own_fleet(server)
    proxy = pinring(fleet.replicas)
    sessions = [RawSession(proxy.url) for _ in range(5)]
    streams = [session.http.send(session.http.build_request("GET", session.url), stream=True) for session in sessions]
    fleet.replicas[0].restart()
    assert {session.post("ping").status_code for session in sessions} == {404}
    assert "a session that it answered a moment ago" not in proxy.process.output()
    for stream in streams:
        stream.close()


@pytest.fixture
def everything():
    server = Everything("a", "streamableHttp")
    yield server
    server.process.close()


@pytest.mark.parametrize(("normalize", "status"), [("false", 400), ("true", 404)])
def test_the_400_of_the_reference_server_becomes_404_where_that_is_wanted(everything, pinring, normalize, status):
    proxy = pinring([everything], extra=f"[pool]\nnormalize_lost_session = {normalize}\n")
    session = RawSession(proxy.url)
    assert session.post("ping").status_code == 200
    everything.restart()
    for answer in (session.post("ping"), session.http.get(session.url), session.delete()):
        assert answer.status_code == status
    assert answer.json()["error"]["code"] == (-32001 if status == 404 else -32000)
