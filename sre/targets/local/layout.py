"""The folder, the ports and the account of one local system."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sre.errors import CannotRun

# Below Linux's range for outgoing connections (32768 and up), so that no client takes a port while its service restarts.
_FIRST_PORT, _BLOCK, _BLOCKS = 20_000, 60, 200
MEMBERS = ("postgres-1", "postgres-2", "postgres-3")
# Every TCP service of a member of the database cluster; all are reached through the cables.
_MEMBER_SERVICES = ("postgres", "patroni", "etcd", "etcd-peer")
CABLES = tuple(f"{service}-{number}" for number in range(1, len(MEMBERS) + 1) for service in _MEMBER_SERVICES)
# Replicas that serve a candidate and, for comparison, what is in production. They run only while there is a canary.
ARMS = ("canary-1", "control-1")
_SINGLE_PORTS = (
    "ingress", "ingress-status", "postgres", "mlflow", "prometheus", "alertmanager",
    "node-exporter", "postgres-exporter", "nginx-exporter", *CABLES, *(f"{cable}-inside" for cable in CABLES), *ARMS,
)  # fmt: skip

# What runs: everything; the database cluster alone; what answers predictions with a single database server, as a restored place
# does; or that server alone.
Parts = Literal["all", "cluster", "serving", "database"]
# Whether a commit waits for a standby: always, while there is one, or never.
Synchronous = Literal["strict", "on", "off"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one system lives.

    Attributes:
        home: its folder; nothing is written elsewhere.
        tools: folder of unpacked programs.
        ports: by service.
        replicas: names of the serving replicas.
        account: whom PostgreSQL runs as when we are root, else None.
        parts: which services there are.
        variant: of the model that the replicas serve; `auto` lets each choose by measuring.
        synchronous: whether a commit waits for a standby.
    """

    home: Path
    tools: Path
    ports: Mapping[str, int]
    replicas: tuple[str, ...]
    account: str | None
    parts: Parts
    variant: str = "auto"
    synchronous: Synchronous = "on"

    @property
    def members(self) -> tuple[str, ...]:
        """The database servers: a cluster, or the only one of a restored place."""
        return MEMBERS if self.clustered else ("postgres",)

    @property
    def clustered(self) -> bool:
        """Whether the database is a cluster."""
        return self.parts in ("all", "cluster")

    @property
    def secrets(self) -> Path:
        """Passwords, keys; readable by the owner only."""
        return self.home / "secrets"

    @property
    def config(self) -> Path:
        """Rendered configuration files."""
        return self.home / "config"

    def data(self, member: str) -> Path:
        """Data directory of one database server; it may move it aside, so the folder around it is its own."""
        return self.home / "data" / member / "pgdata"

    def store(self, number: str) -> Path:
        """Data directory of one member of etcd."""
        return self.home / "data" / f"etcd-{number}"

    def private(self, member: str) -> Path:
        """Configuration, key and socket of one database server; only its account can look inside."""
        return self.config / member

    @property
    def offsite(self) -> Path:
        """The second place of every backup; stands for one far away."""
        return self.home / "offsite"

    @property
    def objects(self) -> Path:
        """The object store: one folder per bucket."""
        return self.home / "data" / "objects"

    @property
    def logs(self) -> Path:
        """One file per service."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Working folder of every process; emptied by `down`."""
        return self.home / "run"

    @property
    def split(self) -> Path:
        """What the ingress looks at to split the traffic: a folder per arm, a file per slot of requests that the arm gets."""
        return self.run / "split"

    @property
    def arms(self) -> Path:
        """Folder for Prometheus: where canary and control are scraped, while there are any."""
        return self.run / "arms"

    def address(self, service: str) -> str:
        """`127.0.0.1:PORT` of a service."""
        return f"127.0.0.1:{self.ports[service]}"

    def url(self, service: str) -> str:
        """Plain HTTP base URL of a service."""
        return f"http://{self.address(service)}"

    def dsn(self, user: str, database: str) -> str:
        """Libpq URL of the primary, wherever it is; libpq takes the password from the password file."""
        return f"{self.dsn_of(','.join(self.members), user, database)}&target_session_attrs=read-write"

    def dsn_of(self, members: str, user: str, database: str) -> str:
        """The same of one server, whatever its role, or of any that answers, with commas between."""
        hosts = ",".join(map(self.address, members.split(",")))
        return f"postgresql://{user}@{hosts}/{database}?sslmode=verify-full&sslrootcert={self.config / 'ca.pem'}"


def number_of(name: str) -> str:
    """The number in the name of a member, of its etcd or of one of its cables: that of their host."""
    return name.rpartition("-")[2]


def replica_names(count: int) -> tuple[str, ...]:
    """`serving-1`, `serving-2`, ..."""
    return tuple(f"serving-{number}" for number in range(1, count + 1))


def unprivileged_account() -> str | None:
    """The account for programs that refuse root; None when we are an ordinary user.

    Raises:
        CannotRun: we are root and the account `nobody` does not exist.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_name
    except KeyError:
        raise CannotRun("PostgreSQL refuses root and there is no account `nobody`; create one, or run as a user") from None


def claim_ports(home: Path, replicas: tuple[str, ...], kept: int | None = None) -> tuple[dict[str, int], socket.socket]:
    """Choose free ports, so that two systems on one machine never choose the same.

    A system takes a whole block and keeps the block's first port bound as its claim for as long as it lives.

    Args:
        home: decides which block is tried first, so that a system usually comes back on the same ports.
        replicas: names that need a port each.
        kept: first port of the only block that will do: members of etcd remember each other's.

    Returns:
        Ports by service, and the socket that holds the claim, which is bound to the block's first.

    Raises:
        CannotRun: no block is free.
    """
    names = (*_SINGLE_PORTS, *replicas)
    first = int.from_bytes(hashlib.sha256(str(home).encode()).digest()[:4]) % _BLOCKS
    blocks = [kept] if kept else [_FIRST_PORT + (first + attempt) % _BLOCKS * _BLOCK for attempt in range(_BLOCKS)]
    for base in blocks:
        # Without SO_REUSEADDR: with it, two sockets of which none listens may hold the same port.
        claim = _bound(base, reuse=False)
        if claim is None:
            continue
        ports = {name: base + 1 + index for index, name in enumerate(names)}
        probes = [_bound(port, reuse=True) for port in ports.values()]
        for probe in probes:
            if probe is not None:
                probe.close()
        if all(probes):
            return ports, claim
        claim.close()
    if kept:
        raise CannotRun(
            f"the database cluster of {home} lives on the ports from {kept} to {kept + len(names)}, and another program holds "
            "one; end that (`ss -ltnp` shows it), or begin anew with `sre down --purge`"
        )
    raise CannotRun(f"no block of {_BLOCK} free ports between {_FIRST_PORT} and {_FIRST_PORT + _BLOCKS * _BLOCK}")


def _bound(port: int, *, reuse: bool) -> socket.socket | None:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A socket of an ended connection in TIME_WAIT does not hold a port; a listener does.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return None
    return probe
