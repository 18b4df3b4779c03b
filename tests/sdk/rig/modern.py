"""Requests of revision 2026-07-28 without an SDK, for what an SDK hides: status codes, headers and bytes."""

import itertools
from contextlib import AbstractContextManager, contextmanager

import httpx
from rig.raw import BOTH_TYPES, Events, last_message, result_text

VERSION = "2026-07-28"
META = "io.modelcontextprotocol"


class Modern:
    """A client of one URL. It sends nothing that a server could know it by."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(timeout=20, headers={"accept": BOTH_TYPES, "mcp-protocol-version": VERSION})
        self._numbers = itertools.count(1)

    def message(self, method: str, **params) -> dict:
        meta = {
            f"{META}/protocolVersion": VERSION,
            f"{META}/clientInfo": {"name": "modern", "version": "1.0.0"},
            f"{META}/clientCapabilities": {},
            **params.pop("_meta", {}),
        }
        return {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": {**params, "_meta": meta}}

    def post(self, message: dict, **headers: str) -> httpx.Response:
        """Sends a message with the headers that repeat what it says, or with others."""
        return self.http.post(self.url, json=message, headers=mirrored(message) | headers)

    def call(self, tool: str, **arguments) -> str:
        response = self.post(self.message("tools/call", name=tool, arguments=arguments))
        assert response.status_code == 200, f"{response.status_code} {response.text}"
        return result_text(last_message(response))

    @contextmanager
    def stream(self, method: str, **params):
        message = self.message(method, **params)
        with self.http.stream("POST", self.url, json=message, headers=mirrored(message)) as response:
            yield Events(response)

    def held_call(self) -> AbstractContextManager[Events]:
        """A call that goes on until the client leaves, and tells at once where."""
        return self.stream("tools/call", name="hold", arguments={}, _meta={"progressToken": "progress"})

    def listen(self) -> AbstractContextManager[Events]:
        """A stream of changes to the list of tools."""
        return self.stream("subscriptions/listen", notifications={"toolsListChanged": True})


def mirrored(message: dict) -> dict[str, str]:
    """The headers that repeat what a message says, for balancers to read."""
    name = message["params"].get("name")
    return {"mcp-method": message["method"]} | ({"mcp-name": name} if name else {})
