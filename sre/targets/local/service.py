"""What the supervisor runs: services that are kept running, tasks that are done once, and checks that say when each is ready."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from signal import SIGTERM, Signals

import httpx

from sre.targets.local.layout import Layout

# Variables of the caller that must not reach a service: they would silently change what it does.
_FOREIGN = ("ETCD_", "ML_", "MLFLOW_", "PATRONI_", "PG", "PROMETHEUS_", "SRE_")

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
        on_demand: it is held from the start, runs when somebody releases it, and nobody waits for it.
        niceness: 5, so that the load generator, which stands for users elsewhere, is never starved by the system it measures;
            10 for what only watches; 0 for what the others need in order to agree.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    check: Check
    after: tuple[str, ...] = ()
    stop_signal: Signals = SIGTERM
    account: str | None = None
    on_demand: bool = False
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


def base_environment(layout: Layout) -> dict[str, str]:
    """The caller's environment without settings meant for others, marked so that `down` finds every process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return {**kept, "SRE_SYSTEM": str(layout.home), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def answers(url: str, context: ssl.SSLContext | None = None) -> str:
    """Empty when the URL answers 200, else what was seen."""
    try:
        status = httpx.get(url, timeout=5, trust_env=False, verify=context or True).status_code
    except httpx.HTTPError as error:
        return f"{url}: {type(error).__name__} {error}"
    return "" if status == httpx.codes.OK else f"{url}: status {status}"


def checker(url: str) -> Check:
    """A check that asks a URL."""
    return lambda: answers(url)
