"""`system.json`: what the supervisor last knew of its services, for everyone else to read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sre.errors import TargetUnavailable
from sre.targets.local.layout import Layout, Parts, Synchronous

SCHEMA = "sre.local/1"
STATE_NAME = "system.json"


@dataclass(slots=True)
class ServiceState:
    """One service or task.

    Attributes:
        state: `waiting`, `starting`, `ready`, `done` (a task), `restarting`, `stopped`.
        process: identity of its process, empty while there is none.
        restarts: how often it was started again after it had ended by itself.
        last: what its check last saw, or how it last ended.
    """

    state: str = "waiting"
    process: str = ""
    restarts: int = 0
    last: str = ""


@dataclass(slots=True)
class SystemState:
    """One system.

    Attributes:
        supervisor: identity of the supervising process.
        state: `starting`, `ready`, `failed` or `stopping`.
        why: the reason of `failed`.
        parts, ports, replicas, account, variant, synchronous: as in `Layout`.
        services: by name, in starting order.
    """

    supervisor: str
    state: str
    why: str
    parts: Parts
    ports: dict[str, int]
    replicas: list[str]
    account: str | None
    services: dict[str, ServiceState] = field(default_factory=dict)
    variant: str = "auto"
    synchronous: Synchronous = "on"

    def layout(self, home: Path, tools: Path) -> Layout:
        """The layout that the supervisor chose."""
        return Layout(home, tools, self.ports, tuple(self.replicas), self.account, self.parts, self.variant, self.synchronous)


def write(home: Path, state: SystemState) -> None:
    """Replace `system.json` at once: a reader sees the old or the new, never half."""
    temporary = home / f"{STATE_NAME}.new"
    temporary.write_text(json.dumps({"schema": SCHEMA, **asdict(state)}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(home / STATE_NAME)


def read(home: Path) -> SystemState | None:
    """What the supervisor last wrote; None when there is no system, or when the machine went down before the file was whole.

    Raises:
        TargetUnavailable: the file is of another schema.
    """
    try:
        document = json.loads((home / STATE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if document.pop("schema", None) != SCHEMA:
        raise TargetUnavailable(f"{home / STATE_NAME} is not of schema {SCHEMA}; end that system with the version that began it")
    document["services"] = {name: ServiceState(**service) for name, service in document["services"].items()}
    return SystemState(**document)


def hold(home: Path, service: str) -> None:
    """From now on the service is not started again when it ends; it is not ended by this."""
    (home / "run" / "held").mkdir(exist_ok=True)
    (home / "run" / "held" / service).touch()


def release(home: Path, service: str) -> None:
    """Take a hold back: the service is started again if it has ended."""
    (home / "run" / "held" / service).unlink(missing_ok=True)


def held(home: Path, service: str) -> bool:
    """Whether the service is held."""
    return (home / "run" / "held" / service).exists()
