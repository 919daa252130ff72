"""Which processes make a local system, in which order, and how each shows that it is ready."""

from __future__ import annotations

import sys
from signal import SIGQUIT
from urllib.parse import urlencode

from sre.targets.local import cluster
from sre.targets.local.layout import ARMS, MEMBERS, Layout
from sre.targets.local.prepare import MAX_BODY_BYTES, configuration
from sre.targets.local.programs import find
from sre.targets.local.service import Service, Task, answers, base_environment, checker
from sre.targets.registry import CANDIDATE, PRODUCTION, Registry


def nodes(layout: Layout) -> list[Service | Task]:
    """All services and tasks of a system, in an order in which each comes after what it needs."""
    if layout.parts in ("cluster", "database"):
        return cluster.services(layout)
    tracking = [*_database(layout), *_tracking(layout)]
    serving = [_replica(layout, name) for name in layout.replicas]
    if layout.parts == "serving":
        return [*tracking, *serving]
    canary, control = ARMS
    serving += [_replica(layout, canary, alias=CANDIDATE, on_demand=True), _replica(layout, control, on_demand=True)]
    return [*tracking, _training(layout), *serving, *_ingress(layout), *_monitoring(layout)]


def _database(layout: Layout) -> list[Service | Task]:
    return [
        *cluster.services(layout),
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
                "MLFLOW_BACKEND_STORE_URI": _sqlalchemy(layout, "mlflow", "mlflow"),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            check=lambda: answers(layout.url("mlflow") + "/health"),
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


def _replica(layout: Layout, name: str, *, alias: str = PRODUCTION, on_demand: bool = False) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-m", "system", "serve"),
        environment={
            **system_environment(layout),
            "PGPASSFILE": str(layout.secrets / "passfile"),
            "ML_PORT": str(layout.ports[name]),
            "ML_REPLICA": name,
            "ML_MODEL_ALIAS": alias,
            "ML_DATABASE_URL": layout.dsn("serving", "predictions"),
            "ML_API_KEYS_FILE": str(layout.config / "api-keys.json"),
            "ML_CACHE_DIR": str(layout.home / "data" / "models" / name),
            "ML_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
            "ML_VARIANT": layout.variant,
        },
        check=lambda: answers(f"{layout.url(name)}/health/ready"),
        after=("migrate", "mlflow" if layout.parts == "serving" else "train"),
        on_demand=on_demand,
    )


def _ingress(layout: Layout) -> list[Service | Task]:
    nginx = find("nginx", layout.tools)
    return [
        Task(name="configure", function=configuration),
        Service(
            name="ingress",
            command=(str(nginx.path), "-p", str(layout.run), "-c", str(layout.config / "nginx.conf"), "-e", "stderr"),
            environment={**base_environment(layout), **nginx.environment},
            check=lambda: answers(f"http://{layout.address('ingress-status')}/status"),
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
        # These two collectors name no server, so that what they say of three servers would clash.
        ("postgres-exporter", "/metrics", ("--no-collector.bgwriter", "--no-collector.database", "--log.level=error"), {
            "DATA_SOURCE_NAME": ",".join(_watched(layout, member) for member in MEMBERS),
            "PGPASSFILE": str(layout.secrets / "passfile"),
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
                check=checker(layout.url(name) + ready_path),
                after=after.get(name, ("configure",)),
                niceness=10,
            )
        )
    return services


def _has_production_model(layout: Layout) -> bool:
    return Registry(layout.url("mlflow")).named(PRODUCTION) is not None


def _sqlalchemy(layout: Layout, user: str, name: str) -> str:
    # SQLAlchemy has its own form for several hosts.
    options = [
        *(("host", layout.address(member)) for member in layout.members), ("target_session_attrs", "read-write"),
        ("sslmode", "verify-full"), ("sslrootcert", str(layout.config / "ca.pem")), ("connect_timeout", "3"),
    ]  # fmt: skip
    return f"postgresql+psycopg://{user}@/{name}?{urlencode(options)}"


def _watched(layout: Layout, member: str) -> str:
    authority = layout.config / "ca.pem"
    return f"postgresql://monitor@{layout.address(member)}/postgres?sslmode=verify-full&sslrootcert={authority}&connect_timeout=3"
