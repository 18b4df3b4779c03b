"""Pages of other origins in a real browser, which asks pinring first whether they may."""

import json

import pytest
from rig import browser
from rig.ports import free_port
from rig.raw import BOTH_TYPES, INITIALIZE, RawSession

pytestmark = pytest.mark.proxy

OPENING = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
COUNT = 6


@pytest.fixture
def page():
    """Opens pages that end with the test."""
    pages: list[browser.Page] = []

    def open_page(*arguments, **options) -> browser.Page:
        pages.append(browser.Page(*arguments, **options))
        return pages[-1]

    yield open_page
    for opened in pages:
        opened.close()


def cors(*origins: str) -> str:
    return f"[cors]\norigins = {json.dumps(origins)}\n"


def post(url: str, **headers: str) -> dict:
    """As a page sends it that needs the browser's leave, unless `headers` are such that it needs none."""
    every = {"accept": BOTH_TYPES, "content-type": "application/json"} | headers
    return {"url": url, "method": "POST", "headers": every, "body": json.dumps(OPENING)}


def test_a_page_of_another_origin_has_sessions(fleet, pinring, page):
    visitor = page("sessions")
    proxy = pinring(fleet.three, extra=cors(visitor.origin))
    sessions = visitor.run(proxy.url, COUNT)
    assert len(sessions) == COUNT
    for index, session in enumerate(sessions):
        where = session["counts"][0].split(":")[0]
        assert session["counts"] == [f"{where}:{number}" for number in range(1, 6)]
        assert session["steps"] == [1, 2, 3]
        assert session["answer"] == f"{where}:re: who is {index}"
        assert session["heard"] == ["here"]
        assert session["ids"] == [session["id"]]
        assert session["id"].startswith(session["seen"])
        assert (session["deleted"], session["gone"]) == (200, 404)
    assert len({session["counts"][0] for session in sessions}) > 1


@pytest.mark.parametrize("replicas", ["node-v2", "python-v2"], ids=lambda name: f"{name}-server")
def test_a_page_of_another_origin_needs_no_session(fleet_of, replicas, pinring, page):
    visitor = page("modern")
    proxy = pinring(fleet_of(replicas).three, extra=cors(visitor.origin))
    clients = visitor.run(proxy.url, "auto", COUNT)
    assert len(clients) == COUNT
    for index, client in enumerate(clients):
        assert client["version"] == "2026-07-28"
        assert client["steps"] == [1, 2, 3]
        assert client["answer"].endswith(f":re: who is {index}")
    assert {count.split(":")[0] for client in clients for count in client["counts"]} == {"a", "b", "c"}


def test_a_page_reads_why_pinring_itself_refuses(fleet_of, pinring, page):
    visitor = page("fetch")
    proxy = pinring(fleet_of("python").three, extra=cors(visitor.origin))
    altered = f"x{RawSession(proxy.url).id}"
    opened, answer = visitor.run([post(proxy.url), post(proxy.url, **{"mcp-session-id": altered})])
    assert len(opened["headers"]["mcp-session-id"]) == len(altered) - 1
    assert answer["status"] == 404
    assert json.loads(answer["body"])["error"]["data"]["reason"] == "tag_invalid"


def test_a_page_finds_out_where_to_log_in(own_fleet, pinring, page):
    """The server says of these documents, and of no other answer, that every page may read them."""
    visitor, port = page("fetch"), free_port()
    public = f"http://127.0.0.1:{port}"
    proxy = pinring(own_fleet("oauth", arguments=(public,)).replicas, port=port, extra=cors(visitor.origin))
    document = f"{public}/.well-known/oauth-protected-resource/mcp"
    challenge, metadata = visitor.run([post(proxy.url), {"url": document}])
    assert challenge["status"] == 401
    assert document in challenge["headers"]["www-authenticate"]
    assert json.loads(metadata["body"])["resource"] == proxy.url


def test_a_page_of_an_origin_that_is_not_listed_is_refused(fleet_of, pinring, page):
    visitor = page("fetch", host="evil.test")
    proxy = pinring(fleet_of("python").three, extra=cors("http://localhost:*"))
    simple = post(proxy.url, **{"content-type": "text/plain"})  # is sent unasked
    answers = visitor.run([post(proxy.url), simple])
    assert answers == [{"error": "TypeError: Failed to fetch"}] * 2
    refused = [line for line in proxy.process.output().splitlines() if "origin_not_allowed" in line]
    assert [method for line in refused for method in ("OPTIONS", "POST") if method in line] == ["OPTIONS", "POST"]


def test_a_page_whose_name_is_made_to_lead_to_pinring_is_refused(fleet_of, pinring, page):
    """DNS rebinding: to the browser the page and pinring are of one origin, and it asks nobody."""
    proxy = pinring(fleet_of("python").three)
    proxy.process.close()
    visitor = page("fetch", host="evil.test", port=proxy.port)
    proxy.start()
    [answer] = visitor.run([post("/mcp")])
    assert answer["status"] == 403
    assert json.loads(answer["body"])["error"]["data"]["reason"] == "origin_not_allowed"


@pytest.mark.parametrize("replicas", ["node", "python"], ids=lambda name: f"{name}-server")
def test_without_cors_at_pinring_it_is_the_servers_affair(fleet_of, replicas, pinring, page):
    """These servers say nothing of it, as most do."""
    visitor = page("fetch")
    proxy = pinring(fleet_of(replicas).three)
    assert visitor.run([post(proxy.url)]) == [{"error": "TypeError: Failed to fetch"}]
    assert "origin_not_allowed" not in proxy.process.output()
