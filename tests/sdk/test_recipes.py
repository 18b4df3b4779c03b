"""What other proxies make of sessions, with the recipes that are usual for them, beside pinring: the figures in
config/deployment.md. Run with -s to see them."""

import http.client
import json
import random
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from rig.deadline import eventually
from rig.fleet import Fleet, Replica
from rig.paths import PINRING
from rig.ports import free_port
from rig.process import Process

SESSIONS = 60
CALLS = 3

VERSION = "2025-06-18"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "recipes", "version": "1"}},
}
CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "where", "arguments": {}}}


def post(port: int, body: dict, session: str | None = None) -> http.client.HTTPResponse:
    """On a connection of its own, as those of many clients are. The Host is one that the servers' guards let pass."""
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream", "host": "127.0.0.1:9"}
    if session:
        headers |= {"mcp-session-id": session, "mcp-protocol-version": VERSION}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/mcp", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def opened(port: int) -> list[str]:
    return [post(port, INITIALIZE).headers["mcp-session-id"] for _ in range(SESSIONS)]


def whole(port: int, sessions: Iterable[str]) -> float:
    """The share of the sessions all of whose calls were answered, when all call in no order."""
    calls = [session for session in sessions for _ in range(CALLS)]
    random.Random(7).shuffle(calls)
    broken = {session for session in calls if post(port, CALL, session).status != 200}
    return 1 - len(broken) / SESSIONS


def nginx(directives: str, port: int, replicas: Iterable[Replica], directory: Path) -> list[str]:
    servers = "".join(f"server 127.0.0.1:{replica.port}; " for replica in replicas)
    file = directory / f"nginx-{port}.conf"
    file.write_text(f"""
        daemon off; master_process off; pid {directory}/{port}.pid; error_log stderr;
        events {{}}
        http {{
            access_log off;
            upstream mcp {{ {directives} {servers} }}
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass http://mcp; proxy_set_header Host $http_host; }}
            }}
        }}""")
    return ["nginx", "-c", str(file)]


def haproxy(directives: str, port: int, replicas: Iterable[Replica], directory: Path) -> list[str]:
    servers = "".join(f"  server {replica.name} 127.0.0.1:{replica.port}\n" for replica in replicas)
    file = directory / f"haproxy-{port}.cfg"
    file.write_text(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"listen mcp\n  bind 127.0.0.1:{port}\n{directives}{servers}"
    )
    return ["haproxy", "-db", "-f", str(file)]


def pinring(_: str, port: int, replicas: Iterable[Replica], directory: Path) -> list[str]:
    backends = [argument for replica in replicas for argument in ("--backend", f"{replica.name}={replica.origin}")]
    return [PINRING, "--listen", f"127.0.0.1:{port}", *backends]


STICK_TABLE = """\
  balance leastconn
  stick-table type string len 128 size 100k expire 1h
  stick store-response res.hdr(mcp-session-id)
  stick match req.hdr(mcp-session-id)
"""
ALL, FEW = 1.0, 0.6

# At first, after a restart, at a second proxy, and with a fourth replica: what part of the sessions is whole.
RECIPES = {
    "nginx-round-robin": (nginx, "", (FEW, FEW, FEW, FEW)),
    "nginx-hash": (nginx, "hash $http_mcp_session_id consistent;", (FEW, FEW, FEW, FEW)),
    "haproxy-hash": (haproxy, "  balance hdr(mcp-session-id)\n  hash-type consistent\n", (FEW, FEW, FEW, FEW)),
    "haproxy-stick-table": (haproxy, STICK_TABLE, (ALL, FEW, FEW, FEW)),
    "pinring": (pinring, "", (ALL, ALL, ALL, ALL)),
}


@pytest.fixture(scope="module")
def replicas():
    fleet = Fleet(["node"] * 4)
    yield fleet
    fleet.close()


@pytest.fixture
def proxy(tmp_path):
    """Starts proxies, one at a time on a port."""
    running: dict[int, Process] = {}

    def start(recipe: Callable, directives: str, replicas: Iterable[Replica], port: int) -> int:
        if port in running:
            running[port].close()
        running[port] = Process(recipe.__name__, recipe(directives, port, replicas, tmp_path))
        eventually("the proxy to accept", lambda: accepts(port))
        return port

    yield start
    for process in running.values():
        process.close()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.proxy
@pytest.mark.parametrize("name", RECIPES)
def test_what_becomes_of_sessions(name, replicas, proxy):
    recipe, directives, expected = RECIPES[name]
    port = proxy(recipe, directives, replicas.three, free_port())
    sessions = opened(port)
    seen = [whole(port, sessions)]
    proxy(recipe, directives, replicas.three, port)
    seen.append(whole(port, sessions))
    seen.append(whole(proxy(recipe, directives, replicas.three, free_port()), sessions))
    proxy(recipe, directives, replicas.replicas, port)
    seen.append(whole(port, sessions))
    print(name, *(f"{share:.0%}" for share in seen))
    assert all(share == 1 if part == ALL else share < part for share, part in zip(seen, expected, strict=True)), seen
