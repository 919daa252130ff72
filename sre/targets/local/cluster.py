"""The database servers of a system: which processes they are, and in which order they start.

A whole system has three members under Patroni, which agree through three members of etcd. A restored place has one plain server.
"""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path
from signal import SIGINT

import psycopg

from sre.errors import TargetUnavailable
from sre.targets.local import cables, database
from sre.targets.local.interpreter import patroni
from sre.targets.local.layout import CABLES, MEMBERS, Layout, number_of
from sre.targets.local.programs import find
from sre.targets.local.service import Service, Task, answers, base_environment


def services(layout: Layout) -> list[Service | Task]:
    """Everything up to the roles, in order."""
    servers = _cluster(layout) if layout.clustered else _single(layout)
    # One member is enough to begin with; on a later start any of them may be the primary.
    begun: list[Service | Task] = [*servers, Task(name="roles", function=database.roles, after=layout.members[:1])]
    if layout.clustered:
        begun.append(
            Task(
                name="backup-repository",
                function=database.repository,
                skip=lambda: database.has_repository(layout),
                after=("roles",),
            )
        )
    return begun


def _single(layout: Layout) -> list[Service | Task]:
    postgres = find("postgres", layout.tools)
    private = layout.private("postgres")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(layout.ports["postgres"]),
        "unix_socket_directories": str(private),
        "password_encryption": "scram-sha-256",
        "dynamic_shared_memory_type": "mmap",
        "hba_file": str(private / "pg_hba.conf"),
        "ssl": "on",
        "ssl_cert_file": str(private / "tls.crt"),
        "ssl_key_file": str(private / "tls.key"),
        # What it was restored from must never receive anything from it.
        "archive_mode": "off",
        "primary_conninfo": "",
        "synchronous_standby_names": "",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    options = tuple(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
    return [
        Task(name="initdb", function=database.initialise),
        Service(
            name="postgres",
            command=(str(postgres.path), "-D", str(layout.data("postgres")), *options),
            environment={**base_environment(layout), **postgres.environment},
            check=lambda: _accepts(layout),
            after=("initdb",),
            # SIGTERM would wait for every client to leave.
            stop_signal=SIGINT,
            account=layout.account,
        ),
    ]


def _cluster(layout: Layout) -> list[Service | Task]:
    # One member makes the database, or has it from a backup; the others copy it, and would else each make one of their own.
    having = [member for member in MEMBERS if (layout.data(member) / "PG_VERSION").exists()]
    first = (having or MEMBERS)[0] if len(having) < 2 else ""
    numbers = [number_of(member) for member in MEMBERS]
    command, extra = patroni(layout)
    programs = {**find("postgres", layout.tools).environment, **find("pgbackrest", layout.tools).environment}
    trust = ssl.create_default_context(cafile=layout.config / "ca.pem")
    trust.load_cert_chain(layout.config / "toolkit.pem", layout.secrets / "toolkit.key")

    def member(number: str) -> Service:
        name = f"postgres-{number}"
        # libpq and pgBackRest look into the home folder for more settings; the caller's is not theirs.
        private = str(layout.private(name))
        own = {**programs, **extra, "SRE_MEMBER": number, "HOME": private, "PGPASSFILE": f"{private}/pgpass"}
        libraries = [paths["LD_LIBRARY_PATH"] for paths in (programs, extra) if "LD_LIBRARY_PATH" in paths]
        joined = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
        after = tuple(f"etcd-{one}" for one in numbers)
        return Service(
            name=name,
            command=(*command, f"{private}/patroni.yml"),
            environment={**base_environment(layout), **own, **joined},
            check=lambda: answers(f"https://{layout.address(f'patroni-{number}')}/health", trust),
            after=("configure-database", *after, *((first,) if first not in ("", name) else ())),
            account=layout.account,
            niceness=0,
        )

    def etcd(number: str) -> Service:
        return Service(
            name=f"etcd-{number}",
            command=_etcd(layout, number),
            environment={**base_environment(layout), **find("etcd", layout.tools).environment, "SRE_MEMBER": number},
            check=lambda: answers(f"https://{layout.address(f'etcd-{number}')}/health", trust),
            after=("cables",),
            account=layout.account,
            niceness=0,
        )

    return [
        Task(name="configure-database", function=database.configure),
        _cables(layout),
        *(etcd(number) for number in numbers),
        *(member(number) for number in numbers),
    ]


def _cables(layout: Layout) -> Service:
    plan = layout.run / "cables.json"
    numbers = {cable: number_of(cable) for cable in CABLES}
    control = layout.run / "cables"
    control.mkdir(parents=True, exist_ok=True)
    document = {
        "control": str(control),
        "cables": [
            {"name": cable, "member": number, "listen": layout.ports[cable], "to": layout.ports[f"{cable}-inside"]}
            for cable, number in numbers.items()
        ],
        "members": {number: [str(layout.data(f"postgres-{number}").parent)] for number in sorted(set(numbers.values()))},
    }
    plan.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Service(
        name="cables",
        command=(sys.executable, "-m", "sre.targets.local.cables", str(plan)),
        environment=base_environment(layout),
        check=lambda: _carries(control),
        niceness=0,
    )


def _carries(control: Path) -> str:
    try:
        cables.status(control)
    except TargetUnavailable as error:
        return str(error)
    return ""


def _etcd(layout: Layout, number: str) -> tuple[str, ...]:
    private, name = layout.private(f"postgres-{number}"), f"etcd-{number}"
    cluster = ",".join(f"etcd-{one}=https://{layout.address(f'etcd-peer-{one}')}" for one in range(1, len(MEMBERS) + 1))
    # Half more than the usual patience, for a machine that runs everything. A new leader of etcd renews every lease and adds the
    # time of an election: more of it, and a lost host is not replaced within 30 s.
    options: dict[str, str] = {
        "name": name,
        "data-dir": str(layout.store(number)),
        "listen-client-urls": f"https://{layout.address(f'{name}-inside')}",
        "advertise-client-urls": f"https://{layout.address(name)}",
        "listen-peer-urls": f"https://{layout.address(f'etcd-peer-{number}-inside')}",
        "initial-advertise-peer-urls": f"https://{layout.address(f'etcd-peer-{number}')}",
        "initial-cluster": cluster,
        "initial-cluster-token": "ml",
        "heartbeat-interval": "150",
        "election-timeout": "1500",
        "auto-compaction-retention": "1",
        "logger": "zap",
        "log-level": "warn",
    }  # fmt: skip
    for side in ("", "peer-"):
        options[f"{side}cert-file"] = str(private / "tls.crt")
        options[f"{side}key-file"] = str(private / "tls.key")
        options[f"{side}trusted-ca-file"] = str(layout.config / "ca.pem")
        options[f"{side}client-cert-auth"] = "true"
    return (str(find("etcd", layout.tools).path), *(f"--{key}={value}" for key, value in options.items()))


def _accepts(layout: Layout) -> str:
    try:
        database.superuser(layout, within_s=5).close()
    except psycopg.Error as error:
        return str(error).strip()
    return ""
