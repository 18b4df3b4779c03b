"""One replica of an MCP server on the Python SDK that is its own OAuth server, and keeps in its memory who registered,
who is logging in, and what was promised to whom. Access tokens alone are good at every replica: they are signed.

Usage: oauth_server.py NAME PORT (0: a free one) PUBLIC, the URL that its clients know it by. Prints `listening PORT`
once it accepts.
"""

import secrets
import socket
import sys
import time
from weakref import WeakKeyDictionary

import jwt
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.fastmcp import Context, FastMCP
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

NAME, PORT, PUBLIC = sys.argv[1:4]
RESOURCE = f"{PUBLIC}/mcp"
KEY = "known to all replicas of this server"
LIFETIME = 3600


class Provider:
    def __init__(self) -> None:
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.logins: dict[str, tuple[OAuthClientInformationFull, AuthorizationParams]] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.refreshers: dict[str, RefreshToken] = {}

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        login = secrets.token_urlsafe()
        self.logins[login] = (client, params)
        return f"{PUBLIC}/login?login={login}"

    def log_in(self, login: str) -> str | None:
        """Where the user's browser goes next."""
        if login not in self.logins:
            return None
        client, params = self.logins.pop(login)
        code = AuthorizationCode(
            code=secrets.token_urlsafe(),
            client_id=client.client_id,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
        )
        self.codes[code.code] = code
        return construct_redirect_uri(str(params.redirect_uri), code=code.code, state=params.state)

    async def load_authorization_code(self, client, authorization_code: str) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(self, client, authorization_code: AuthorizationCode) -> OAuthToken:
        del self.codes[authorization_code.code]
        return self.issue(client.client_id, authorization_code.scopes)

    async def load_refresh_token(self, client, refresh_token: str) -> RefreshToken | None:
        return self.refreshers.get(refresh_token)

    async def exchange_refresh_token(self, client, refresh_token: RefreshToken, scopes: list[str]) -> OAuthToken:
        del self.refreshers[refresh_token.token]
        return self.issue(client.client_id, scopes)

    def issue(self, client_id: str, scopes: list[str]) -> OAuthToken:
        refresher = RefreshToken(token=secrets.token_urlsafe(), client_id=client_id, scopes=scopes)
        self.refreshers[refresher.token] = refresher
        claims = {"aud": RESOURCE, "sub": client_id, "scopes": scopes, "exp": int(time.time()) + LIFETIME}
        return OAuthToken(
            access_token=jwt.encode(claims | {"jti": secrets.token_hex(8)}, KEY),
            expires_in=LIFETIME,
            scope=" ".join(scopes),
            refresh_token=refresher.token,
        )

    async def load_access_token(self, token: str) -> AccessToken | None:
        try:
            claims = jwt.decode(token, KEY, algorithms=["HS256"], audience=RESOURCE)
        except jwt.InvalidTokenError:
            return None
        return AccessToken(token=token, client_id=claims["sub"], scopes=claims["scopes"], resource=RESOURCE)

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.refreshers.pop(token.token, None)


provider = Provider()
mcp = FastMCP(
    NAME,
    log_level="WARNING",
    auth_server_provider=provider,
    auth=AuthSettings(
        issuer_url=PUBLIC,
        resource_server_url=RESOURCE,
        required_scopes=["use"],
        client_registration_options=ClientRegistrationOptions(
            enabled=True, valid_scopes=["use"], default_scopes=["use"]
        ),
        validate_token_resource=True,
    ),
)
counts: WeakKeyDictionary = WeakKeyDictionary()


@mcp.custom_route("/login", methods=["GET"])
async def ask_for_login(request: Request) -> Response:
    if request.query_params["login"] not in provider.logins:
        return HTMLResponse("nobody is logging in here", status_code=404)
    return HTMLResponse('<form method="post"><button>Yes</button></form>')


@mcp.custom_route("/login", methods=["POST"])
async def log_in(request: Request) -> Response:
    url = provider.log_in(request.query_params["login"])
    return RedirectResponse(url, 302) if url else HTMLResponse("nobody is logging in here", status_code=404)


@mcp.tool(structured_output=False)
async def count(ctx: Context) -> str:
    counts[ctx.session] = counts.get(ctx.session, 0) + 1
    return f"{NAME}:{counts[ctx.session]}"


@mcp.tool(structured_output=False)
async def who() -> str:
    return get_access_token().client_id


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(PORT)), backlog=256)
    config = uvicorn.Config(mcp.streamable_http_app(), log_level="warning", ws="none")
    print(f"listening {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
