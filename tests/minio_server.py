"""A real MinIO server, on a folder of its own."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from botocore.session import get_session  # type: ignore[import-untyped]

from sre.targets.certificates import Authority
from tests import servers
from tests.cluster import find_program
from tests.sre.targets.local.ports import free_port

_UP_WITHIN_S = 60.0


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

    def make_bucket(self, name: str, authority: Path) -> None:
        """Over TLS, verified with a file of certificates."""
        client = get_session().create_client(
            "s3", endpoint_url=f"https://{self.address}", region_name="us-east-1", verify=str(authority),
            aws_access_key_id=self.user, aws_secret_access_key=self.password,
        )  # fmt: skip
        client.create_bucket(Bucket=name)


@contextlib.contextmanager
def serve(folder: Path, authority: Authority | None = None, host: str = "127.0.0.1") -> Iterator[MinioServer]:
    """A server without buckets, over TLS where there is an authority; skips the test where MinIO is not at hand.

    Args:
        folder: for everything of it; gets `ca.pem` where there is an authority.
        authority: signs its certificate.
        host: address of this machine at which it listens.
    """
    executable = find_program("minio")
    if executable is None:
        pytest.skip("MinIO is not here: put `minio` on PATH")
    certificates = folder / "certificates"
    certificates.mkdir()
    if authority is not None:
        certificate, key = authority.issue("minio", hosts=("localhost", host))
        (certificates / "public.crt").write_bytes(certificate)
        (certificates / "private.key").write_text(key)
        (folder / "ca.pem").write_bytes(authority.pem)
    address = f"{host}:{free_port()}"
    made = MinioServer(address, f"{'s3+https' if authority else 's3'}://{address}", "minio", secrets.token_hex(16))
    command = [str(executable), "server", str(folder / "data"), "--address", address, "--certs-dir", str(certificates)]
    settings = {"MINIO_ROOT_USER": made.user, "MINIO_ROOT_PASSWORD": made.password, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    url = f"{'https' if authority else 'http'}://{address}/minio/health/cluster"
    context = ssl.create_default_context(cafile=folder / "ca.pem") if authority else False
    with servers.running(
        command, folder, settings, lambda: httpx.get(url, timeout=2, trust_env=False, verify=context), within_s=_UP_WITHIN_S
    ):
        yield made
