"""What other proxies make of sessions, with the recipes that are usual for them, beside pinring: the figures in
config/deployment.md. Run with -s to see them."""

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
from rig.raw import RawSession

SESSIONS = 45
CALLS = 3

def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/mcp"


def opened(port: int) -> list[RawSession]:
    return [RawSession(url(port), connection="close") for _ in range(SESSIONS)]


def whole(port: int, sessions: list[RawSession]) -> float:
    """The share of the sessions all of whose calls were answered, when all call in no order."""
    calls = sessions * CALLS
    random.Random(7).shuffle(calls)
    broken = {session.id for session in calls if session.try_call("where", url(port)).status_code != 200}
    return 1 - len(broken) / len(sessions)


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
ALL, FEW, ANY = 1.0, 0.75, 2.0

# At first, after a restart, at a second proxy, and with a fourth replica: what part of the sessions is whole.
RECIPES = {
    "nginx-round-robin": (nginx, "", (FEW, FEW, FEW, FEW)),
    "nginx-hash": (nginx, "hash $http_mcp_session_id consistent;", (FEW, FEW, FEW, FEW)),
    # All are one client here, and whether that one stays is a matter of its address.
    "nginx-ip-hash": (nginx, "ip_hash;", (ALL, ALL, ALL, ANY)),
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
