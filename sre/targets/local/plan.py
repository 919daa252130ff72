"""Which processes make a local system, in which order, and how each shows that it is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from signal import SIGINT, SIGQUIT, SIGTERM, Signals

import httpx
import psycopg

from sre.targets.local.layout import Layout
from sre.targets.local.prepare import MAX_BODY_BYTES, SUPERUSER, configuration, database, roles
from sre.targets.local.programs import find

# Variables of the caller that must not reach a service: they would silently change what it does.
_FOREIGN = ("ML_", "MLFLOW_", "PG", "PROMETHEUS_", "SRE_")

Check = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that is kept running.

    Attributes:
        name: unique.
        command: program and arguments.
        environment: complete.
        check: returns an empty string when the service is ready, else what it last saw.
        after: services and tasks that must be ready first.
        stop_signal: the signal that ends it in good order.
        account: whom it runs as, None for ourselves.
        niceness: 5, so that the load generator, which stands for users elsewhere, is never starved by the system it measures;
            10 for what only watches.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    check: Check
    after: tuple[str, ...] = ()
    stop_signal: Signals = SIGTERM
    account: str | None = None
    niceness: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Work that is done once, unless `skip` says there is none: a function of ours, or a command that must exit with 0."""

    name: str
    skip: Callable[[], bool] = lambda: False
    function: Callable[[Layout], None] | None = None
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()


def nodes(layout: Layout) -> list[Service | Task]:
    """All services and tasks of a system, in an order in which each comes after what it needs."""
    tracking = [*_database(layout), *_tracking(layout)]
    serving = [_replica(layout, name) for name in layout.replicas]
    if layout.parts == "serving":
        return [*tracking, *serving]
    return [*tracking, _training(layout), *serving, *_ingress(layout), *_monitoring(layout)]


def base_environment(layout: Layout) -> dict[str, str]:
    """The caller's environment without settings meant for others, marked so that `down` finds every process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return {**kept, "SRE_SYSTEM": str(layout.home), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def _database(layout: Layout) -> list[Service | Task]:
    postgres = find("postgres", layout.tools)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(layout.ports["postgres"]),
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        # Files below the data directory instead of /dev/shm: nothing stays behind after a SIGKILL.
        "dynamic_shared_memory_type": "mmap",
        "wal_level": "replica",
        "max_wal_senders": "4",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    options = tuple(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
    return [
        Task(name="initdb", function=database),
        Service(
            name="postgres",
            command=(str(postgres.path), "-D", str(layout.database), *options),
            environment={**base_environment(layout), **postgres.environment},
            check=lambda: _postgres_accepts(layout),
            after=("initdb",),
            # SIGTERM would wait for every client to leave.
            stop_signal=SIGINT,
            account=layout.account,
        ),
        Task(name="roles", function=roles, after=("postgres",)),
        Task(
            name="migrate",
            command=(sys.executable, "-m", "system", "migrate"),
            environment={
                **base_environment(layout),
                "PGPASSFILE": str(layout.secrets / "passfile"),
                "ML_DATABASE_URL": layout.dsn("serving", "predictions"),
            },
            after=("roles",),
        ),
    ]


def _tracking(layout: Layout) -> list[Service | Task]:
    return [
        Service(
            name="mlflow",
            command=(
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(layout.ports["mlflow"]),
                "--workers", "1", "--artifacts-destination", (layout.objects / "ml-models-staging").as_uri(),
            ),
            environment={
                **base_environment(layout),
                "PGPASSFILE": str(layout.secrets / "passfile"),
                "MLFLOW_BACKEND_STORE_URI": layout.dsn("mlflow", "mlflow").replace("postgresql:", "postgresql+psycopg:"),
                "MLFLOW_DISABLE_TELEMETRY": "true",
        "ORT_DISABLE_TELEMETRY": "1",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            check=lambda: _answers(layout.url("mlflow") + "/health"),
            after=("roles",),
            niceness=10,
        ),
    ]  # fmt: skip


def system_environment(layout: Layout) -> dict[str, str]:
    """What every role of the system is told."""
    return {
        **base_environment(layout),
        "ML_OBJECTS_URL": layout.objects.as_uri(),
        "ML_MLFLOW_URL": layout.url("mlflow"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _training(layout: Layout) -> Task:
    return Task(
        name="train",
        skip=lambda: _has_production_model(layout),
        command=(sys.executable, "-m", "system", "train"),
        environment=system_environment(layout),
        after=("mlflow",),
    )


def _replica(layout: Layout, name: str) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", "system", "serve"),
        environment={
            **system_environment(layout),
            "PGPASSFILE": str(layout.secrets / "passfile"),
            "ML_PORT": str(layout.ports[name]),
            "ML_REPLICA": name,
            "ML_DATABASE_URL": layout.dsn("serving", "predictions"),
            "ML_API_KEYS_FILE": str(layout.config / "api-keys.json"),
            "ML_CACHE_DIR": str(layout.home / "data" / "models" / name),
            "ML_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
            "ML_VARIANT": layout.variant,
        },
        check=lambda: _answers(f"{layout.url(name)}/health/ready"),
        after=("migrate", "mlflow" if layout.parts == "serving" else "train"),
    )


def _ingress(layout: Layout) -> list[Service | Task]:
    nginx = find("nginx", layout.tools)
    return [
        Task(name="configure", function=configuration),
        Service(
            name="ingress",
            command=(str(nginx.path), "-p", str(layout.run), "-c", str(layout.config / "nginx.conf"), "-e", "stderr"),
            environment={**base_environment(layout), **nginx.environment},
            check=lambda: _answers(f"http://{layout.address('ingress-status')}/status"),
            after=("configure",),
            stop_signal=SIGQUIT,
        ),
    ]


def _monitoring(layout: Layout) -> list[Service | Task]:
    data, config = layout.home / "data", layout.config
    listen = "--web.listen-address"
    watchers: list[tuple[str, str, tuple[str, ...], dict[str, str]]] = [
        ("prometheus", "/-/ready", (
            f"--config.file={config / 'prometheus.yml'}", f"--storage.tsdb.path={data / 'prometheus'}",
            "--storage.tsdb.retention.time=30d", "--log.level=warn",
        ), {}),
        ("alertmanager", "/-/ready", (
            f"--config.file={config / 'alertmanager.yml'}", f"--storage.path={data / 'alertmanager'}",
            "--cluster.listen-address=", "--log.level=warn",
        ), {}),
        ("node-exporter", "/", ("--collector.disable-defaults", "--collector.filesystem", "--collector.cpu",
                                "--collector.meminfo", "--collector.loadavg", "--log.level=warn"), {}),
        ("nginx-exporter", "/metrics", (f"-nginx.scrape-uri=http://{layout.address('ingress-status')}/status",), {}),
        ("postgres-exporter", "/metrics", ("--log.level=warn",), {
            "DATA_SOURCE_URI": f"{layout.address('postgres')}/postgres?sslmode=disable",
            "DATA_SOURCE_USER": "monitor",
            "DATA_SOURCE_PASS_FILE": str(layout.secrets / "monitor.password"),
        }),
    ]  # fmt: skip
    after = {"nginx-exporter": ("ingress",), "postgres-exporter": ("roles",)}
    services: list[Service | Task] = []
    for name, ready_path, arguments, extra in watchers:
        program = find(name, layout.tools)
        address = f"{'-web.listen-address' if name == 'nginx-exporter' else listen}={layout.address(name)}"
        services.append(
            Service(
                name=name,
                command=(str(program.path), address, *arguments),
                environment={**base_environment(layout), **program.environment, **extra},
                check=_checker(layout.url(name) + ready_path),
                after=after.get(name, ("configure",)),
                niceness=10,
            )
        )
    return services


def _has_production_model(layout: Layout) -> bool:
    alias = {"name": "digits-resnet8", "alias": "production"}
    answer = httpx.get(
        f"{layout.url('mlflow')}/api/2.0/mlflow/registered-models/alias", params=alias, timeout=10, trust_env=False
    )
    return answer.status_code == httpx.codes.OK


def _checker(url: str) -> Check:
    return lambda: _answers(url)


def _answers(url: str) -> str:
    try:
        status = httpx.get(url, timeout=5, trust_env=False).status_code
    except httpx.HTTPError as error:
        return f"{url}: {type(error).__name__} {error}"
    return "" if status == httpx.codes.OK else f"{url}: status {status}"


def _postgres_accepts(layout: Layout) -> str:
    try:
        psycopg.connect(layout.dsn(SUPERUSER, "postgres"), passfile=str(layout.secrets / "passfile"), connect_timeout=5).close()
    except psycopg.Error as error:
        return str(error).strip()
    return ""
