"""Replicas are shared by the tests that only use them; a test that kills one starts its own."""

import pytest
from rig.fleet import Fleet
from rig.pinring import Pinring
from rig.process import Process

SERVERS = ("node", "python")
CLIENTS = ("node", "python")
LINES = pytest.StashKey[list[str]]()
FRONTS = ("one proxy", "two proxies")


def pytest_addoption(parser):
    parser.addoption(
        "--direct",
        action="store_true",
        help="ask one replica without pinring: what fails here too is no fault of the proxy",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--direct"):
        for item in items:
            if item.get_closest_marker("proxy"):
                item.add_marker(pytest.mark.skip(reason="--direct"))


def pytest_generate_tests(metafunc):
    direct = metafunc.config.getoption("--direct")
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", SERVERS, scope="session", ids=lambda name: f"{name}-server")
    if "client" in metafunc.fixturenames:
        metafunc.parametrize("client", CLIENTS, ids=lambda name: f"{name}-client")
    if "front" in metafunc.fixturenames:
        fronts = ("one replica",) if direct else FRONTS
        metafunc.parametrize("front", fronts, indirect=True, ids=lambda name: name.replace(" ", "-"))


@pytest.fixture(scope="session")
def shared_fleets():
    fleets: dict[str, Fleet] = {}
    yield fleets
    for fleet in fleets.values():
        fleet.close()


@pytest.fixture
def fleet_of(shared_fleets):
    """Finds the replicas of a server, or starts them. They are not to be harmed. The servers that all tests ask have a
    fourth, which joins or is removed."""

    def find(server: str) -> Fleet:
        if server not in shared_fleets:
            shared_fleets[server] = Fleet([server] * (4 if server in SERVERS else 3))
        return shared_fleets[server]

    return find


@pytest.fixture
def fleet(server, fleet_of):
    """Four replicas, not to be harmed: the three of the usual configuration, and one that joins or is removed."""
    return fleet_of(server)


@pytest.fixture
def several_replicas(request):
    """Whether the front is pinring rather than a replica itself."""
    return not request.config.getoption("--direct")


@pytest.fixture
def own_fleet():
    """Starts fleets that end with the test."""
    fleets: list[Fleet] = []

    def start(*servers: str, arguments: tuple[str, ...] = ()) -> Fleet:
        fleets.append(Fleet(servers, arguments))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.close()


@pytest.fixture
def pinring():
    """Starts proxies that end with the test."""
    proxies: list[Pinring] = []

    def start(replicas, **options) -> Pinring:
        proxies.append(Pinring(replicas, **options))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def front(request, fleet, pinring):
    """URLs that all lead to the fleet; with more than one, the requests of a session alternate between them."""
    if request.param == "one replica":
        return [fleet.replicas[0].url]
    proxies = 2 if request.param == "two proxies" else 1
    return [pinring(fleet.three).url for _ in range(proxies)]


@pytest.fixture
def report(request):
    """Adds a line to the end of pytest's output."""
    return lambda line: request.config.stash.setdefault(LINES, []).append(f"{request.node.name}: {line}")


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for process in Process.started:
            report.sections.append((f"log of {process.name}", process.tail()))
