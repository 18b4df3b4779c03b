"""Servers that are their own OAuth servers, in several replicas that keep registrations and logins in memory.

What is no MCP request reaches one replica, the pool's home; sessions are spread over all.
"""

import pytest
from rig import oauth
from rig.ports import free_port

pytestmark = pytest.mark.proxy
USERS = 5


def check(users: list[oauth.User]) -> None:
    for user in users:
        where = user.counts[0].split(":")[0]
        assert user.counts == [f"{where}:{number}" for number in range(1, 6)]
        assert user.told == user.client_id
        assert len(user.tokens) == 2
    assert len({user.client_id for user in users}) == USERS
    assert len({user.counts[0] for user in users}) > 1, "sessions are at several replicas"


def test_users_log_in_at_one_replica_and_have_sessions_at_all(own_fleet, pinring):
    port = free_port()
    fleet = own_fleet(*["oauth"] * 3, arguments=(f"http://127.0.0.1:{port}",))
    check(oauth.run(pinring(fleet.three, port=port).url, USERS))


def test_a_balancer_that_knows_nothing_breaks_the_login(own_fleet):
    url = "http://127.0.0.1:1"
    fleet = own_fleet(*["oauth"] * 3, arguments=(url,))
    with pytest.raises(BaseExceptionGroup) as failed:
        oauth.run(f"{url}/mcp", 1, oauth.RoundRobin([replica.port for replica in fleet.three]))
    assert failed.group_contains(AssertionError, match="400 .*Client ID")


def test_each_of_several_servers_has_its_own_logins(own_fleet, pinring):
    """One below each path: both documents about a path come from the server of that path."""
    port = free_port()
    extra, names = "", ("files", "search")
    for name in names:
        fleet = own_fleet("oauth", "oauth", arguments=(f"http://127.0.0.1:{port}/{name}",))
        pool = f'[[pools]]\nname = "{name}"\nmatch = {{ path = "/{name}" }}\nstrip_prefix = "/{name}"\n'
        backends = [
            f'[[pools.backends]]\nname = "{name}-{replica.name}"\nurl = "{replica.origin}"\n'
            for replica in fleet.replicas
        ]
        extra += pool + "".join(backends)
    pinring((), port=port, extra=extra)
    for name in names:
        check(oauth.run(f"http://127.0.0.1:{port}/{name}/mcp", USERS))
