"""One session of the Python SDK's client, watched from below: the HTTP requests that the SDK makes for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

DEADLINE = 20.0


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline = anyio.current_time() + DEADLINE
    while not holds():
        if anyio.current_time() > deadline:
            raise TimeoutError(f"waited in vain for {what}")
        await anyio.sleep(0.01)


class Alternating(httpx.AsyncHTTPTransport):
    """Sends one request to the first URL, the next to the second, and so on."""

    def __init__(self, urls: list[str], first: int) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None))
        self.urls = [httpx.URL(url) for url in urls]
        self.requests = first

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = self.urls[self.requests % len(self.urls)]
        self.requests += 1
        request.url = url
        request.headers["host"] = url.netloc.decode()
        return await super().handle_async_request(request)


class Session:
    """Counts standalone streams opened and streams resumed with Last-Event-ID; keeps the ids in answers, the
    announcements received, and the status of the last POST and of the DELETE."""

    def __init__(self, urls: list[str], index: int) -> None:
        self.url = urls[0]
        self.streams = 0
        self.resumes = 0
        self.ids: set[str] = set()
        self.heard: list[str] = []
        self.deleted: int | None = None
        self.status: int | None = None
        self.patience = DEADLINE
        # The first request goes to the URL of the session's index, so that both URLs open sessions.
        self.http = httpx.AsyncClient(
            transport=Alternating(urls, index),
            timeout=httpx.Timeout(DEADLINE, read=None),
            event_hooks={"response": [self.note]},
        )

    async def note(self, response: httpx.Response) -> None:
        self.ids.update(response.headers.get_list("mcp-session-id"))
        method = response.request.method
        if method == "POST":
            self.status = response.status_code
        elif method == "DELETE":
            self.deleted = response.status_code
        elif method == "GET" and response.is_success:
            if "last-event-id" in response.request.headers:
                self.resumes += 1
            else:
                self.streams += 1

    async def call(self, tool: str, on_step: Callable[[int], None] | None = None, **arguments) -> str:
        async def on_progress(progress: float, _total, _message) -> None:
            if on_step:
                on_step(int(progress))

        timeout = timedelta(seconds=self.patience)
        result = await self.client.call_tool(tool, arguments, timeout, progress_callback=on_progress)
        text = result.content[0].text
        if result.isError:
            raise RuntimeError(f"{tool}: {text}")
        return text

    async def status_of(self, method: str) -> int:
        headers = {
            "accept": "text/event-stream" if method == "GET" else "application/json, text/event-stream",
            "mcp-protocol-version": "2025-11-25",
            "mcp-session-id": self.id,
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"} if method == "POST" else None
        async with self.http.stream(method, self.url, headers=headers, json=body) as response:
            return response.status_code


@asynccontextmanager
async def opened(urls: list[str], index: int) -> AsyncIterator[Session]:
    session = Session(urls, index)

    async def on_question(_context, params) -> ElicitResult:
        return ElicitResult(action="accept", content={"answer": f"re: {params.message}"})

    async def on_announcement(params) -> None:
        session.heard.append(params.data)

    async with (
        streamable_http_client(urls[0], http_client=session.http) as (read, write, session_id),
        ClientSession(read, write, elicitation_callback=on_question, logging_callback=on_announcement) as client,
    ):
        await client.initialize()
        session.client, session.id = client, session_id()
        yield session
