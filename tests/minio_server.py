"""A real MinIO server, on a folder of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from sre.targets.local.certificates import Authority
from tests.cluster import find_program

_UP_WITHIN_S = 60.0
_DOWN_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class MinioServer:
    """A server that is up.

    Attributes:
        address: host and port.
        objects_url: as `ML_OBJECTS_URL` has it.
        user: that may do everything.
        password: of it.
    """

    address: str
    objects_url: str
    user: str
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """What a client with all rights is told, and that it should ask no cloud for keys."""
        return {"AWS_ACCESS_KEY_ID": self.user, "AWS_SECRET_ACCESS_KEY": self.password, "AWS_EC2_METADATA_DISABLED": "true"}


@contextlib.contextmanager
def serve(folder: Path, authority: Authority | None = None) -> Iterator[MinioServer]:
    """A server without buckets, over TLS where there is an authority; skips the test where MinIO is not at hand."""
    executable = find_program("minio")
    if executable is None:
        pytest.skip("MinIO is not here: put `minio` on PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    certificates = folder / "certificates"
    certificates.mkdir()
    if authority is not None:
        certificate, key = authority.issue("minio")
        (certificates / "public.crt").write_bytes(certificate)
        (certificates / "private.key").write_text(key)
        (folder / "ca.pem").write_bytes(authority.pem)
    address = f"127.0.0.1:{port}"
    made = MinioServer(address, f"{'s3+https' if authority else 's3'}://{address}", "minio", secrets.token_hex(16))
    command = [str(executable), "server", str(folder / "data"), "--address", address, "--certs-dir", str(certificates)]
    settings = {"MINIO_ROOT_USER": made.user, "MINIO_ROOT_PASSWORD": made.password, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | settings, start_new_session=True)
    try:
        _await_health(server, made, folder, log)
        yield made
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(_DOWN_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def _await_health(server: subprocess.Popen[bytes], made: MinioServer, folder: Path, log: Path) -> None:
    tls = made.objects_url.startswith("s3+https")
    context = ssl.create_default_context(cafile=folder / "ca.pem") if tls else False
    url = f"{'https' if tls else 'http'}://{made.address}/minio/health/cluster"
    deadline = time.monotonic() + _UP_WITHIN_S
    seen = "nothing"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"minio ended with {server.returncode}:\n{log.read_text()[-2000:]}")
        try:
            answer = httpx.get(url, timeout=2, trust_env=False, verify=context)
            if answer.status_code == 200:
                return
            seen = str(answer.status_code)
        except httpx.HTTPError as error:
            seen = repr(error)
        time.sleep(0.1)
    pytest.fail(f"minio not up after {_UP_WITHIN_S:.0f} s (last: {seen}):\n{log.read_text()[-2000:]}")
