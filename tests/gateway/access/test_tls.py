"""TLS on both ports, and the third port for the rooms on loopback without TLS."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from finetuner.exceptions import InvalidInput
from finetuner.flow.settings import Certificate, configured_flow, flow_addresses, flow_file
from tests.gateway.conftest import TOKEN, ToyFlow, run_toy_flow

FINETUNER = Path(sys.executable).with_name("finetuner")
ASK = """
import sys
import finetuner
for host in sys.argv[1:3]:
    finetuner.login(host=host, token=sys.argv[3])
    print("token" in finetuner.api.session.connection().call("/runs/list"))
"""


def write_certificate(folder: Path, *, passphrase: bytes | None = None) -> Certificate:
    """Write a self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, locked))
    return Certificate(folder / "cert.pem", folder / "key.pem")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_flow(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[ToyFlow]:
    with run_toy_flow(tmp_path_factory.mktemp("tls"), "ToyVision", TOKEN, certificate) as running:
        yield running


@pytest.mark.parametrize(
    ("ciphers", "taken"),
    [("ECDHE+AESGCM", True), ("ECDHE-ECDSA-AES256-SHA", False), ("ECDHE+AES+SHA384", False)],
)
def test_old_ciphers_are_refused(tls_flow: ToyFlow, ciphers: str, taken: bool) -> None:
    context = ssl._create_unverified_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    for address in (tls_flow.http.removeprefix("https://"), tls_flow.grpc.removeprefix("grpc://")):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as plain:
            if taken:
                context.wrap_socket(plain).close()
                continue
            with pytest.raises(OSError, match=r"(?i)handshake|reset|eof"):
                context.wrap_socket(plain)


def test_both_ports_speak_only_tls(tls_flow: ToyFlow, certificate: Certificate) -> None:
    address = tls_flow.grpc.removeprefix("grpc://")
    credentials = grpc.ssl_channel_credentials(certificate.file.read_bytes())
    for channel, answers in (
        (grpc.secure_channel(address, credentials), True),
        (grpc.insecure_channel(address), False),
    ):
        with channel:
            stub = health_pb2_grpc.HealthStub(channel)
            if answers:
                assert stub.Check(health_pb2.HealthCheckRequest(), timeout=100).status == 1
            else:
                with pytest.raises(grpc.RpcError):
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=100)
    page = httpx.get(tls_flow.http, verify=str(certificate.file))
    assert page.status_code == 200
    assert page.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(httpx.TransportError):
        httpx.get(tls_flow.http.replace("https", "http"))
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(tls_flow.http)


def test_the_rooms_port_is_on_loopback_and_asks_for_the_token(tls_flow: ToyFlow) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{tls_flow.rooms_port}") as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=100).status == 1
        call = channel.stream_stream("/jina.JinaRPC/Call")
        with pytest.raises(grpc.RpcError) as refused:
            next(call(iter([b""]), timeout=100))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.process
def test_the_client_trusts_the_file_that_it_is_given(tls_flow: ToyFlow, certificate: Certificate) -> None:
    secure = [tls_flow.grpc.replace("grpc", "grpcs"), tls_flow.http]
    environment = {**os.environ, "FINETUNER_CA": str(certificate.file)}
    command = [sys.executable, "-W", "ignore", "-c", ASK, *secure, TOKEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\nFalse\n"
    del environment["FINETUNER_CA"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
    assert "FlowUnreachable: the certificate of grpcs://" in done.stderr
    assert "Set FINETUNER_CA" in done.stderr


def test_the_settings_of_a_flow_with_tls(certificate: Certificate, tmp_path: Path) -> None:
    settings = configured_flow(
        flow_file(), workspace=tmp_path, grpc_port=0, http_port=0, bind="0.0.0.0", certificate=certificate
    )
    with settings as content:
        gateway, where = content["gateway"], flow_addresses(content)
    assert (where.grpc.split(":")[0], where.http.split(":")[0]) == ("grpcs", "https")
    assert (gateway["ssl_certfile"], gateway["ssl_keyfile"]) == (str(certificate.file), str(certificate.key))
    assert gateway["protocol"] == ["grpc", "http", "grpc"]
    (indexer,) = [room for room in content["executors"] if room["name"] == "indexer"]
    assert indexer["uses_with"]["encoder"] == f"grpc://127.0.0.1:{gateway['port'][2]}"


def test_wrong_files_are_refused(certificate: Certificate, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"--tls-key must be a PEM file\. Got .*nowhere"):
        Certificate(certificate.file, tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="must be a certificate and its private key"):
        Certificate(certificate.key, certificate.file)
    with pytest.raises(InvalidInput, match="without a passphrase"):
        write_certificate(tmp_path, passphrase=b"secret")
    with pytest.raises(InvalidInput, match="must be a certificate and its private key"):
        Certificate(certificate.file, write_certificate(tmp_path).key)


@pytest.mark.process
def test_finetuner_up_refuses_one_file_alone(certificate: Certificate, tmp_path: Path) -> None:
    command = [str(FINETUNER), "up", "--tls-cert", str(certificate.file), "--workspace", str(tmp_path / "w")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    expected = "--tls-cert and --tls-key must be given together. Got one of them. Add the other."
    assert done.stderr == f"finetuner: {expected}\n"
    assert list(tmp_path.iterdir()) == []
