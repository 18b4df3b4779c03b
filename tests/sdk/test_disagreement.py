"""Two proxies whose files differ for a while, as they do whenever a change reaches one before the other."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from rig.raw import RawSession, last_message, open_sessions, result_text

pytestmark = pytest.mark.proxy

ENOUGH_TO_REACH_ALL = 60


def session_on(backend: str, url: str) -> RawSession:
    for _ in range(ENOUGH_TO_REACH_ALL):
        session = RawSession(url)
        if session.call("where") == backend:
            return session
    raise AssertionError(f"no session was placed on {backend}")


@pytest.fixture(params=["at start", "by reload"])
def informed(request, fleet, pinring):
    """A proxy that knows the fourth backend, from one or the other source."""
    if request.param == "at start":
        return pinring(fleet.replicas)
    proxy = pinring(fleet.three)
    proxy.reload(fleet.replicas)
    return proxy


def test_a_pin_of_a_backend_not_known_yet_is_told_to_come_again(fleet, pinring, informed):
    late = pinring(fleet.three)
    session = session_on("d", informed.url)
    early = session.try_call("count", late.url)
    assert early.status_code == 503
    assert int(early.headers["retry-after"]) >= 0
    late.reload(fleet.replicas)
    assert session.call("count", late.url) == "d:1"
    assert session.call("count", informed.url) == "d:2"


def test_a_request_waits_for_a_backend_that_is_just_being_learned(fleet, pinring, informed):
    late = pinring(fleet.three)
    session = session_on("d", informed.url)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(session.try_call, "count", late.url)
        late.reload(fleet.replicas)
        response = waiting.result()
    assert response.status_code == 200
    assert result_text(last_message(response)) == "d:1"


@pytest.mark.parametrize("first", [0, 1], ids=["issuer-first", "other-first"])
def test_sessions_of_a_backend_that_one_proxy_removed_go_on_at_both(fleet, pinring, first):
    proxies = [pinring(fleet.replicas), pinring(fleet.replicas)]
    sessions = open_sessions([proxies[0].url], 20) + [session_on("d", proxies[0].url)]
    proxies[first].reload(fleet.three)
    check_both_serve(sessions, proxies, calls=0)
    proxies[1 - first].reload(fleet.three)
    check_both_serve(sessions, proxies, calls=2)


@pytest.mark.parametrize("first", [0, 1], ids=["issuer-first", "other-first"])
def test_old_sessions_do_not_move_while_one_proxy_knows_a_backend_more(fleet, pinring, first):
    proxies = [pinring(fleet.three), pinring(fleet.three)]
    sessions = open_sessions([proxies[0].url], 20)
    proxies[first].reload(fleet.replicas)
    check_both_serve(sessions, proxies, calls=0)
    proxies[1 - first].reload(fleet.replicas)
    check_both_serve(sessions, proxies, calls=2)


def check_both_serve(sessions, proxies, calls: int) -> None:
    for session in sessions:
        where = session.call("where")
        counts = [session.call("count", proxy.url) for proxy in proxies]
        assert counts == [f"{where}:{calls + 1}", f"{where}:{calls + 2}"]
