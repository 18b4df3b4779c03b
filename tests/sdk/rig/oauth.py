"""Users of the Python SDK's client who log in at a server that is its own OAuth server."""

import itertools
from dataclasses import dataclass, field

import anyio
import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

CALLBACK = "http://localhost:3030/callback"
"""Nobody listens there: what a browser would be sent there with is read from the answer before."""

DEADLINE = 20.0


class RoundRobin(httpx.AsyncHTTPTransport):
    """A balancer that knows nothing: sends each request to the next replica, whatever its URL says."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__()
        self._ports = itertools.cycle(ports)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=next(self._ports))
        return await super().handle_async_request(request)


class Memory:
    """What a client keeps."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@dataclass
class User:
    """What one user saw."""

    counts: list[str] = field(default_factory=list)
    client_id: str = ""
    told: str = ""
    """Who the server says that he is."""

    tokens: set[str] = field(default_factory=set)


class Browser:
    """The user's: follows the server's redirects, says yes to its form, and keeps what the callback is given."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._http = httpx.AsyncClient(transport=transport, timeout=DEADLINE)
        self.callback = httpx.QueryParams()

    async def open(self, url: str) -> None:
        response = await self._http.get(url)
        assert response.status_code == 302, f"{response.status_code} {response.text}"
        form = response.headers["location"]
        page = await self._http.get(form)
        assert "<form" in page.text, f"{page.status_code} {page.text}"
        response = await self._http.post(form)
        assert response.status_code == 302, f"{response.status_code} {response.text}"
        assert response.headers["location"].startswith(CALLBACK)
        self.callback = httpx.URL(response.headers["location"]).params

    async def come_back(self) -> tuple[str, str | None]:
        return self.callback["code"], self.callback.get("state")


async def use(url: str, transport: httpx.AsyncBaseTransport) -> User:
    """Logs in, makes some calls of a session, and some with a token that was refreshed."""
    user, memory, browser = User(), Memory(), Browser(transport)
    metadata = OAuthClientMetadata(client_name="user", redirect_uris=[CALLBACK])
    provider = OAuthClientProvider(url, metadata, memory, browser.open, browser.come_back, DEADLINE)
    async with (
        httpx.AsyncClient(auth=provider, transport=transport, timeout=DEADLINE) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()

        async def call(tool: str) -> str:
            return (await session.call_tool(tool, {})).content[0].text

        user.counts = [await call("count") for _ in range(3)]
        user.tokens.add(memory.tokens.access_token)
        provider.context.token_expiry_time = 1.0  # long ago
        user.counts += [await call("count") for _ in range(2)]
        user.tokens.add(memory.tokens.access_token)
        user.told, user.client_id = await call("who"), memory.client.client_id
    return user


def run(url: str, count: int, transport: httpx.AsyncBaseTransport | None = None) -> list[User]:
    """What users saw, all at the same time."""
    users: list[User] = []

    async def one() -> None:
        users.append(await use(url, transport or httpx.AsyncHTTPTransport()))

    async def everybody() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)

    anyio.run(everybody)
    return users
