"""A real PostgreSQL for the session, and a fresh database in it for each test that asks."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from sre.targets.local.programs import find

FLAGS = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "shared_buffers=16MB")
START_S = 30


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    def choose() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return choose


@pytest.fixture(scope="session")
def postgres(programs: Path, free_port: Callable[[], int]) -> Iterator[str]:
    """`postgresql://postgres@127.0.0.1:PORT` of a server that trusts this machine."""
    found = find("postgres", programs)
    environment = {**os.environ, **found.environment}
    # PostgreSQL refuses to run as root
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="ml-test-pg-"))
    try:
        os.chown(folder, account.pw_uid, account.pw_gid)
        data, port = folder / "data", free_port()
        arguments = [found.companion("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(arguments, check=True, capture_output=True, cwd=folder, env=environment, **as_user)  # type: ignore[call-overload]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(  # type: ignore[call-overload]
                [found.path, "-D", data, "-p", str(port), *FLAGS], stdout=log, stderr=log, cwd=folder, env=environment, **as_user
            )
        try:
            url = f"postgresql://postgres@127.0.0.1:{port}"
            _wait(url, server, folder / "log")
            yield url
        finally:
            server.terminate()
            server.wait(20)
    finally:
        shutil.rmtree(folder)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(f"{url}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline or server.poll() is not None:
                pytest.fail(f"PostgreSQL did not start within {START_S} s: {error}\n{log.read_text()}")
            time.sleep(0.1)
        else:
            return


_numbers = count()


@pytest.fixture
def database_url(postgres: str) -> str:
    """A fresh, empty database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{postgres}/{name}"
