"""A small HTTPS server with a certificate authority of its own, so that the generator meets real sockets and real TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sre.load import worker
from sre.readings import Endpoints, LoadPlan
from sre.targets.base import Load

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
PrivateKey = ec.EllipticCurvePrivateKey

API_KEY = "key-of-the-load-tests"


@dataclass
class Answers:
    """What the server does; tests change it before and while it serves."""

    status: int = 200
    body: bytes = b'{"label":"7","confidence":0.98}'
    stall_after: float | None = None  # seconds after the first request, for `stall_for` seconds, nobody is answered
    stall_for: float = 0.0
    seen: list[tuple[str, str, int]] = field(default_factory=list)  # key, content type, body length
    first: float | None = None

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        self.first = self.first or arrived
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((headers.get("x-api-key", ""), headers.get("content-type", ""), size))
        if self.stall_after is not None and 0 <= arrived - self.first - self.stall_after < self.stall_for:
            await asyncio.sleep(self.first + self.stall_after + self.stall_for - arrived)
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(frozen=True)
class Authority:
    """A certificate authority and a certificate for 127.0.0.1, as files."""

    ca_file: Path
    cert_file: Path
    key_file: Path


def make_authority(folder: Path) -> Authority:
    folder.mkdir()
    now = dt.datetime.now(dt.UTC)

    def certificate(name: str, issuer: str, key: PrivateKey, signer: PrivateKey, *, ca: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = Authority(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.ca_file.write_bytes(certificate("ca", "ca", ca_key, ca_key, ca=True))
    authority.cert_file.write_bytes(certificate("127.0.0.1", "ca", key, ca_key, ca=False))
    authority.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls") / "right")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signed nothing here."""
    return make_authority(tmp_path_factory.mktemp("tls") / "wrong")


@pytest.fixture(scope="session")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "1.jpg").write_bytes(b"j" * 900)
    (folder / "2.png").write_bytes(b"p" * 1200)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `launch` records."""
    return tmp_path / "load"


@pytest.fixture
def launch(make_endpoints: Callable[..., Endpoints], folder: Path, bodies: Path) -> Iterator[Callable[..., Load]]:
    """Starts the generator against a port; what a failed test leaves running is ended."""
    loads: list[Load] = []

    def start(port: int, plan: LoadPlan, ca_file: Path | None = None, **options: Any) -> Load:
        endpoints = make_endpoints(port) if ca_file is None else make_endpoints(port, ca_file)
        loads.append(worker.start(endpoints, plan, folder, bodies, **options))
        return loads[-1]

    yield start
    for load in loads:
        if load.running():
            load.stop()


@pytest.fixture
def make_endpoints(tmp_path: Path, authority: Authority, bodies: Path) -> Callable[..., Endpoints]:
    def make(port: int, ca_file: Path = authority.ca_file) -> Endpoints:
        key_file = tmp_path / "api-key"
        key_file.write_text(API_KEY + "\n", encoding="ascii")
        return Endpoints(
            ingress=f"https://127.0.0.1:{port}", ca_file=ca_file, api_key_file=key_file,
            prometheus="", alertmanager="", mlflow="", database="", passfile=tmp_path, bodies=bodies,
        )  # fmt: skip

    return make


@pytest.fixture
def server(authority: Authority) -> Iterator[tuple[Answers, int]]:
    """What it answers, and its port."""
    answers = Answers()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        answers.app, interface="asgi3", lifespan="off", log_level="error", ssl_certfile=authority.cert_file,
        ssl_keyfile=authority.key_file, timeout_graceful_shutdown=1,
    )  # fmt: skip
    serving = uvicorn.Server(config)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield answers, int(listener.getsockname()[1])
    finally:
        serving.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
