"""The bus over TLS, on a server that was built with it: the built-in one is not."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, BusUnreachableError, embedded_server, open_delegation_port
from tests.runtime.bus.server_processes import ServerProcess, free_ports
from tests.runtime.bus.worker_processes import Workers

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


def has_tls() -> bool:
    """Whether the server under test can be asked for TLS: without a certificate it says what it lacks."""
    command = [str(embedded_server.find_binary()), "--port", "0", "--tls-port", str(free_ports(1)[0])]
    said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    return "No tls-cert-file" in said.stdout


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key; good for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server that speaks TLS there, and the certificate to trust."""
    if not has_tls():
        pytest.skip("this server was built without TLS")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = make_certificate(folder)
    plain, port = free_ports(2)
    files = (
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(certificate),
    )
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", "--appendonly", "yes")
    server = ServerProcess(folder / "server", plain, *files, *options)
    try:
        server.start()
        yield port, certificate
    finally:
        server.kill()


async def test_a_task_goes_to_a_worker_and_back_over_tls(
    encrypted: tuple[int, Path], package: MakePackage
) -> None:
    port_number, certificate = encrypted
    url = f"rediss://127.0.0.1:{port_number}?ssl_ca_certs={certificate}"
    settings = BusSettings(url, lease_s=0.6, presence_s=0.1)
    workers = await anyio.to_thread.run_sync(Workers, settings, 1)
    try:
        async with open_delegation_port(settings) as port:
            await port.submit(package("t", intent="stream 3 10"))
            kinds = []
            with anyio.fail_after(10):
                async for event in port.events():
                    assert isinstance(event, DelegationEvent)
                    kinds.append(event.kind)
                    if event.is_terminal:
                        break
            assert kinds[-1] == "final"
            assert kinds.count("partial") == 3
    finally:
        workers.end()


async def test_a_certificate_that_nobody_vouches_for_is_refused(encrypted: tuple[int, Path]) -> None:
    port_number, _ = encrypted
    settings = BusSettings(f"rediss://127.0.0.1:{port_number}", command_timeout_s=0.5)
    with pytest.raises(BusUnreachableError, match="no Redis server answers"):
        async with open_delegation_port(settings):
            pass
