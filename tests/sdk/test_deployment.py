"""The files under config/ that deploy pinring: the tools that read them accept them, what they name exists, their times
fit together, and pinring itself takes every configuration in them."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import httpx
import kubernetes_validate
import pytest
import yaml
from rig.deadline import eventually
from rig.fleet import Everything
from rig.paths import NODE, PINRING, REPOSITORY
from rig.ports import free_port
from rig.process import Process
from rig.raw import BOTH_TYPES, INITIALIZE, RawSession

CONFIG = REPOSITORY / "config"
KUBERNETES = CONFIG / "kubernetes"
DOCUMENTS = [REPOSITORY / "README.md", CONFIG / "deployment.md"]

# What each example says that it needs, and the newest that there are schemas for.
MANIFESTS = {"gateway.yaml": ["1.30", "1.37"], "sidecar.yaml": ["1.29", "1.37"]}

SECRET = "a secret of thirty-two bytes, or more"
DURATION = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    return sum(float(number) * DURATION[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h)", text))


def objects(name: str) -> list[dict]:
    return [found for found in yaml.safe_load_all((KUBERNETES / name).read_text()) if found]


def of_kind(name: str, *kinds: str) -> list[dict]:
    return [found for found in objects(name) if found["kind"] in kinds]


def workloads(name: str) -> list[dict]:
    return of_kind(name, "Deployment", "StatefulSet")


def pod(workload: dict) -> dict:
    return workload["spec"]["template"]["spec"]


def containers(workload: dict) -> list[dict]:
    return pod(workload).get("initContainers", []) + pod(workload)["containers"]


def container(file: str, name: str) -> tuple[dict, dict]:
    """The one of that name, with its workload."""
    [found] = [(one, each) for each in workloads(file) for one in containers(each) if one["name"] == name]
    return found


def mounted(name: str) -> str:
    """The configuration in a manifest."""
    [map] = of_kind(name, "ConfigMap")
    return map["data"]["pinring.toml"]


def code_blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def configurations() -> dict[str, str]:
    found = {f"{name} ConfigMap": mounted(name) for name in MANIFESTS}
    found |= {str(file.relative_to(REPOSITORY)): file.read_text() for file in CONFIG.rglob("*.toml")}
    for document in DOCUMENTS:
        for number, block in enumerate(code_blocks(document, "toml"), 1):
            found[f"{document.name} block {number}"] = block
    return found


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """What configurations name: a secret, and certificates."""
    directory = tmp_path_factory.mktemp("named")
    (directory / "secret").write_text(SECRET)
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 30"
    subprocess.run([*command.split(), "-keyout", "key.pem", "-out", "fullchain.pem"], cwd=directory, check=True)
    shutil.copy(directory / "fullchain.pem", directory / "ca.pem")
    return directory


def check(text: str, directory: Path, **environment: str) -> subprocess.CompletedProcess:
    """`pinring check`, with what the file names in a folder of the test's."""
    document = tomllib.loads(text)
    if not document.get("backends") and not document.get("pools") and "PINRING_BACKENDS" not in environment:
        text += '\n[[backends]]\nurl = "http://127.0.0.1:9001"\n'
    text = re.sub(r'"file:[^"]*"', f'"file:{directory}/secret"', text)
    file = directory / "pinring.toml"
    file.write_text(text)
    environment = os.environ | {"POD_IP": "10.0.0.7"} | environment
    return subprocess.run([PINRING, "check", str(file)], env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("name", configurations())
def test_every_configuration_that_is_shown_is_good(name, files):
    told = check(configurations()[name], files)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("name, version", [(name, version) for name in MANIFESTS for version in MANIFESTS[name]])
def test_manifests_fit_the_schemas_of_kubernetes(name, version):
    assert len(objects(name)) >= 7
    for found in objects(name):
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_what_manifests_name_exists(name):
    ports = {}
    for workload in workloads(name):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == labels
        ports[labels["app"]] = {each["name"]: each["containerPort"] for one in containers(workload) for each in one["ports"]}
        volumes = {volume["name"]: volume for volume in pod(workload)["volumes"]}
        assert {mount["name"] for one in containers(workload) for mount in one["volumeMounts"]} == set(volumes)
        maps = {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
        assert maps <= {found["metadata"]["name"] for found in of_kind(name, "ConfigMap")}
        for one in containers(workload):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for asked in one.get(probe, {}).values():
                    assert not isinstance(asked, dict) or asked["port"] in ports[labels["app"]]
    for service in of_kind(name, "Service"):
        target = service["spec"]["ports"][0].get("targetPort", service["spec"]["ports"][0]["port"])
        app = ports[service["spec"]["selector"]["app"]]
        assert target in app or target in app.values()
    for budget in of_kind(name, "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"]["app"] in ports
    for policy in of_kind(name, "NetworkPolicy"):
        app = policy["spec"]["podSelector"]["matchLabels"]["app"]
        assert all(port["port"] in ports[app] for rule in policy["spec"]["ingress"] for port in rule["ports"])
    for scaler in of_kind(name, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in {(each["kind"], each["metadata"]["name"]) for each in workloads(name)}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_configuration_fits_its_manifest(name):
    configuration = tomllib.loads(mounted(name))
    pinring, _ = container(name, "pinring")
    opened = {each["name"]: str(each["containerPort"]) for each in pinring["ports"]}
    assert configuration["server"]["listen"].endswith(f":{opened['http']}")
    assert configuration["server"]["probes"].endswith(f":{opened['probes']}")
    mounts = [mount["mountPath"] for mount in pinring["volumeMounts"]]
    for secret in configuration["affinity"]["secrets"]:
        assert str(Path(secret.removeprefix("file:")).parent) in mounts
    services = {found["metadata"]["name"]: found for found in of_kind(name, "Service")}
    for backend in configuration["backends"]:
        service, namespace, port = re.fullmatch(r"dns\+http://([\w-]+)\.([\w-]+)\.svc:(\d+)", backend["url"]).groups()
        found = services[service]
        assert (found["metadata"]["namespace"], found["spec"]["clusterIP"]) == (namespace, "None")
        assert found["spec"]["ports"][0]["port"] == int(port)
    assert any(services[each].get("spec", {}).get("publishNotReadyAddresses") for each in services)


@pytest.mark.parametrize("name", MANIFESTS)
def test_containers_have_no_rights_that_they_do_not_need(name):
    for workload in workloads(name):
        shared = pod(workload)["securityContext"]
        assert shared["runAsNonRoot"] and shared["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in containers(workload):
            own = one["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"], one["name"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert own.get("runAsUser") or shared.get("runAsUser")


def waits(configuration: dict) -> float:
    return seconds(configuration["timeouts"]["shutdown_delay"]) + seconds(configuration["timeouts"]["drain"])


def test_a_gateways_grace_period_is_longer_than_it_takes_to_end():
    _, workload = container("gateway.yaml", "pinring")
    assert waits(tomllib.loads(mounted("gateway.yaml"))) + 5 <= pod(workload)["terminationGracePeriodSeconds"]


def test_a_servers_grace_period_is_longer_than_its_sessions_get():
    server, workload = container("gateway.yaml", "server")
    pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + 30 <= pod(workload)["terminationGracePeriodSeconds"]


def test_a_sidecars_grace_period_is_longer_than_the_drain_the_server_and_pinring_take():
    server, workload = container("sidecar.yaml", "server")
    wait = re.search(r"/drain\?wait=(\w+)", " ".join(server["lifecycle"]["preStop"]["exec"]["command"]))[1]
    ends = waits(tomllib.loads(mounted("sidecar.yaml")))
    assert seconds(wait) + 20 + ends <= pod(workload)["terminationGracePeriodSeconds"]


def newcomer(url: str) -> httpx.Response:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    return httpx.post(url, json=message, headers={"accept": BOTH_TYPES})


def test_a_sidecars_server_ends_when_its_sessions_have(files):
    """The command of preStop itself, with other ports, beside the server and the configuration of the example."""
    server = Everything("sidecar", "streamableHttp")
    ports = {"8080": free_port(), "9902": free_port()}
    text = mounted("sidecar.yaml").replace('"0.0.0.0:', '"127.0.0.1:')
    text = re.sub(r'"file:[^"]*"', f'"file:{files}/secret"', text)
    text = re.sub(r'"dns\+http:[^"]*"', f'"{server.origin}"', text)
    command = container("sidecar.yaml", "server")[0]["lifecycle"]["preStop"]["exec"]["command"]
    for port, other in ports.items():
        text = text.replace(f":{port}", f":{other}")
        command = [word.replace(f":{port}", f":{other}") for word in command]
    file = files / "sidecar.toml"
    file.write_text(text)
    proxy = Process("sidecar", [PINRING, "--config", str(file)], env={"POD_IP": "127.0.0.1"})
    try:
        proxy.wait_for_line("serves")
        session = RawSession(f"http://127.0.0.1:{ports['8080']}/mcp")
        stopping = Process("pre-stop", [NODE, *command[1:]])
        metrics = f"http://127.0.0.1:{ports['9902']}/metrics"
        eventually("a drain", lambda: re.search('state="draining"} 1$', httpx.get(metrics).text, re.M))
        assert newcomer(session.url).status_code == 503
        assert stopping.child.poll() is None
        assert session.post("ping").status_code == 200
        assert session.http.delete(session.url).status_code == 200
        # A proxy so young cannot know all sessions: it waits until none has shown itself for 30 s.
        assert stopping.wait(60) == 0
    finally:
        for process in (proxy, server.process):
            process.close()


@pytest.mark.parametrize("number", range(3))
def test_nginx_takes_what_is_shown_for_it(number, files):
    block = code_blocks(CONFIG / "deployment.md", "nginx")[number]
    text = f"pid {files}/nginx.pid; error_log stderr; events {{}} http {{ access_log off; {block}\n}}"
    (files / "nginx.conf").write_text(text)
    tried = subprocess.run(["nginx", "-t", "-c", str(files / "nginx.conf")], capture_output=True, text=True, timeout=60)
    assert tried.returncode == 0, tried.stderr


def test_haproxy_takes_what_is_shown_for_it(files):
    [block] = code_blocks(CONFIG / "deployment.md", "haproxy")
    times = "timeout connect 5s\ntimeout client 60s\ntimeout server 60s"
    (files / "haproxy.cfg").write_text(f"listen mcp\nmode http\nbind 127.0.0.1:1\n{times}\nserver a 127.0.0.1:2\n{block}")
    tried = subprocess.run(["haproxy", "-c", "-f", str(files / "haproxy.cfg")], capture_output=True, text=True, timeout=60)
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_the_metrics_that_are_named_exist(tmp_path):
    socket = tmp_path / "admin.sock"
    file = tmp_path / "pinring.toml"
    file.write_text(
        f'[server]\nlisten = "127.0.0.1:{free_port()}"\nadmin = "unix:{socket}"\n'
        '[[backends]]\nname = "a"\nurl = "http://127.0.0.1:1"\n'
    )
    proxy = Process("metrics", [PINRING, "--config", str(file)])
    try:
        proxy.wait_for_line("serves")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as admin:
            families = re.findall(r"^# TYPE (\w+)", admin.get("http://pinring/metrics").text, re.MULTILINE)
    finally:
        proxy.close()
    texts = [(CONFIG / "deployment.md").read_text(), *((KUBERNETES / name).read_text() for name in MANIFESTS)]
    named = set(re.findall(r"\bpinring_\w+", "".join(texts)))
    assert len(named) >= 10
    assert {re.sub("_(total|info)$", "", name) for name in named} <= set(families)


def compose(*command: str, **environment: str) -> subprocess.CompletedProcess:
    tool = ["docker-compose", "--file", str(CONFIG / "compose.yaml"), *command]
    return subprocess.run(tool, env=os.environ | environment, capture_output=True, text=True, timeout=60)


def test_compose_reads_its_file():
    read = compose("config", PINRING_SECRET=SECRET)
    assert read.returncode == 0, read.stderr
    assert set(yaml.safe_load(read.stdout)["services"]) == {"pinring", "server-a", "server-b", "server-c"}


def test_compose_asks_for_a_secret():
    read = compose("config", PINRING_SECRET="")
    assert read.returncode != 0 and "at least 32 bytes" in read.stderr


def test_the_image_takes_its_backends_and_secret_from_compose(files):
    services = yaml.safe_load(compose("config", PINRING_SECRET=SECRET).stdout)["services"]
    environment = services["pinring"]["environment"]
    hosts = re.findall(r"http://([\w-]+):(\d+)", environment["PINRING_BACKENDS"])
    assert {host for host, _ in hosts} == set(services["pinring"]["depends_on"])
    assert all(services[host]["environment"]["PORT"] == port for host, port in hosts)
    told = check((CONFIG / "image.toml").read_text(), files, **environment)
    assert told.returncode == 0, told.stdout + told.stderr
    grace = seconds(services["pinring"]["stop_grace_period"])
    assert waits(tomllib.loads((CONFIG / "image.toml").read_text())) + 5 <= grace


@pytest.fixture
def units(tmp_path) -> list[str]:
    """The units, as if the binary were installed."""
    for file in (CONFIG / "systemd").glob("pinring.s*"):
        text = file.read_text().replace("/usr/local/bin/pinring", PINRING)
        (tmp_path / file.name).write_text(text)
    return [str(tmp_path / "pinring.service"), str(tmp_path / "pinring.socket")]


def test_systemd_finds_no_fault_with_the_units(units):
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_systemd_calls_the_service_little_exposed(units):
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", units[0]]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert judged.returncode == 0, judged.stdout[-500:]


def test_the_units_fit_the_configuration_beside_them():
    configuration = tomllib.loads((CONFIG / "systemd/pinring.toml").read_text())
    service = (CONFIG / "systemd/pinring.service").read_text()
    socket = (CONFIG / "systemd/pinring.socket").read_text()
    assert f"ListenStream={configuration['server']['listen']}\n" in socket
    [name, source] = re.search(r"^LoadCredential=(\w+):(.*)$", service, re.MULTILINE).groups()
    assert configuration["affinity"]["secrets"] == [f"file:/run/credentials/pinring.service/{name}"]
    assert f">{source})" in service  # the commands at its head make it
    assert 20 + 5 <= int(re.search(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)[1])
