"""Sessions without an SDK, for what an SDK hides: status codes, headers, and which proxy a request goes to."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from httpx_sse import EventSource

VERSION = "2025-11-25"
BOTH_TYPES = "application/json, text/event-stream"
INITIALIZE = {
    "protocolVersion": VERSION,
    "capabilities": {"elicitation": {}, "sampling": {}},
    "clientInfo": {"name": "raw", "version": "1.0.0"},
}


class RawSession:
    """With more than one URL, its requests alternate between them. Clients of 2025-03-26 do not tell the version."""

    def __init__(self, *urls: str, version: str = VERSION, **headers: str) -> None:
        self._urls = itertools.cycle(urls)
        self.http = httpx.Client(timeout=20, headers={"accept": BOTH_TYPES, **headers})
        self._numbers = itertools.count(1)
        self.opening = self.post("initialize", **INITIALIZE | {"protocolVersion": version})
        assert self.opening.status_code == 200, self.opening.text
        self.id = self.opening.headers["mcp-session-id"]
        self.http.headers["mcp-session-id"] = self.id
        if version > "2025-03-26":
            self.http.headers["mcp-protocol-version"] = version
        self.initialized = self.http.post(self.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})

    @property
    def url(self) -> str:
        """Where the next request goes."""
        return next(self._urls)

    def message(self, method: str, **params) -> dict:
        return {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}

    def post(self, method: str, url: str | None = None, **params) -> httpx.Response:
        return self.http.post(url or self.url, json=self.message(method, **params))

    def reply(self, request: dict, result: dict) -> httpx.Response:
        """Answers a request of the server."""
        return self.http.post(self.url, json={"jsonrpc": "2.0", "id": request["id"], "result": result})

    def try_call(self, tool: str, url: str | None = None, **arguments) -> httpx.Response:
        return self.post("tools/call", url, name=tool, arguments=arguments)

    def call(self, tool: str, url: str | None = None, **arguments) -> str:
        response = self.try_call(tool, url, **arguments)
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        return result_text(last_message(response))

    @contextmanager
    def streamed_call(self, tool: str, **arguments) -> Iterator["Events"]:
        """A call that asks for progress."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "progress"}}
        with self.http.stream("POST", self.url, json=self.message("tools/call", **params)) as response:
            yield Events(response)

    @contextmanager
    def stream(self, last_event_id: str | None = None) -> Iterator["Events"]:
        headers = {"accept": "text/event-stream"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        with self.http.stream("GET", self.url, headers=headers) as response:
            yield Events(response)

    def delete(self) -> httpx.Response:
        return self.http.delete(self.url)


class Events:
    """The messages of one stream, as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id: str | None = None
        self.retry_ms: int | None = None
        self._events = EventSource(response).iter_sse() if response.status_code == 200 else iter(())

    def __iter__(self) -> "Events":
        return self

    def __next__(self) -> dict:
        for event in self._events:
            self.last_id = event.id or self.last_id
            self.retry_ms = event.retry or self.retry_ms
            if event.data:
                return json.loads(event.data)
        raise StopIteration


def messages(response: httpx.Response) -> list[dict]:
    """All of an answer that has ended."""
    if response.headers["content-type"].startswith("application/json"):
        body = response.json()
        return body if isinstance(body, list) else [body]
    data = [line.removeprefix("data:").strip() for line in response.text.splitlines() if line.startswith("data:")]
    return [json.loads(text) for text in data if text]


def last_message(response: httpx.Response) -> dict:
    return messages(response)[-1]


def result_text(message: dict) -> str:
    assert "result" in message, message
    return message["result"]["content"][0]["text"]


def step(message: dict) -> int:
    """Which step a progress notification reports."""
    return message["params"]["progress"]


def open_sessions(urls: list[str], count: int) -> list[RawSession]:
    return [RawSession(*urls) for _ in range(count)]
