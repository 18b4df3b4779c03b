"""Replicas that speak HTTP/2 alone: the Python SDK's server under hypercorn, without TLS and with it."""

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rig.client import SESSIONS, run
from test_reinitialize import REINITIALIZE, brought_back

pytestmark = pytest.mark.proxy

HTTP2 = "[pool]\nhttp2 = true\n"


@pytest.fixture(params=["clear", "tls"])
def replicas(request, own_fleet, tmp_path):
    """Three replicas, and what pinring is to be told of them."""
    if request.param == "clear":
        return own_fleet(*["http2"] * 3).three, HTTP2
    files = issue(tmp_path)
    three = own_fleet(*["http2"] * 3, arguments=files).three
    for replica in three:
        replica.scheme = "https"
    return three, f'{HTTP2}[pool.tls]\nroots = "{files[0]}"\n'


def issue(folder: Path) -> tuple[str, str]:
    """A certificate for this machine that has issued itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "replicas")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "own.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "own.key").write_bytes(key.private_bytes(pem, form, plain))
    return str(folder / "own.pem"), str(folder / "own.key")


def test_sessions_stay_with_their_replica(replicas, pinring, client):
    three, extra = replicas
    sessions = run(client, "counters", [pinring(three, extra=extra).url])
    assert len({session["id"] for session in sessions}) == SESSIONS
    assert len({session["where"] for session in sessions}) > 1
    for session in sessions:
        assert session["counts"] == [f"{session['where']}:{number}" for number in range(1, 6)]


def test_streams_of_both_kinds_bring_what_they_should(replicas, pinring, client):
    three, extra = replicas
    url = pinring(three, extra=extra).url
    for session in run(client, "progress", [url]):
        assert (session["steps"], session["result"]) == ([1, 2, 3, 4, 5], session["where"])
    for session in run(client, "announce", [url]):
        assert session["heard"] == [f"{session['index']} one", f"{session['index']} two"]
    for session in run(client, "ask", [url]):
        assert session["answer"] == f"{session['where']}:re: who is {session['index']}"


def test_a_deleted_session_is_not_found(replicas, pinring, client):
    three, extra = replicas
    for session in run(client, "delete", [pinring(three, extra=extra).url]):
        assert (session["deleted"], session["post"], session["get"]) == (200, 404, 404)


def test_the_sessions_of_a_killed_replica_go_on_at_the_others(replicas, pinring, client):
    three, extra = replicas
    proxy = pinring(three, extra=f"{REINITIALIZE}\n{extra}")
    killed = three[0]

    def kill() -> None:
        killed.kill()
        proxy.process.wait_for_line("its sessions are lost")

    back = brought_back(run(client, "forgotten", [proxy.url], meanwhile=kill), killed.name)
    # Whoever has less to do gets them: where one of the two is slow, all may go to the other.
    assert {session["went_to"] for session in back} <= {"b", "c"}
