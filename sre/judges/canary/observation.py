"""What a look at a canary finds: exact increments of counters since the look before, of both arms, or why there are none.

The arms are the canary and its control. The control runs what is in production, began when the canary began and gets as many
requests, so that the two differ in nothing but the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Trouble(StrEnum):
    """Why a metric has no data. Every one of them means HOLD."""

    EMPTY = "empty"
    NOT_A_NUMBER = "not-a-number"
    INFINITE = "infinite"
    STALE = "stale"
    PARTIAL = "partial"
    WARNINGS = "warnings"
    SEVERAL_SERIES = "several-series"
    WRONG_TYPE = "wrong-type"
    MALFORMED = "malformed"
    UNINITIALISED = "uninitialised"
    TARGET_DOWN = "target-down"
    CLIENT_ERROR = "client-error"
    SERVER_ERROR = "server-error"
    TIMED_OUT = "timed-out"
    UNREACHABLE = "unreachable"
    CLOCK_SKEW = "clock-skew"


@dataclass(frozen=True, slots=True)
class Missing:
    """No data of one metric.

    Attributes:
        metric: its name in the plan; `requests` for the counter of requests.
        trouble: the kind.
        detail: subject, value and remedy, one sentence.
    """

    metric: str
    trouble: Trouble
    detail: str


@dataclass(frozen=True, slots=True)
class Events:
    """Events among requests, of each arm: failed requests among all."""

    canary: int
    canary_of: int
    control: int
    control_of: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations per bucket, not cumulative, of each arm.

    Attributes:
        edges: upper edges, inclusive, ascending, without infinity.
        canary, control: one count per edge and one for what is above the last.
    """

    edges: tuple[float, ...]
    canary: tuple[int, ...]
    control: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Classes:
    """Predictions per class, of each arm; `labels` in a fixed order."""

    labels: tuple[str, ...]
    canary: tuple[int, ...]
    control: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Crashes:
    """How often processes of each arm ended and began again."""

    canary: int
    control: int


@dataclass(frozen=True, slots=True)
class Means:
    """Mean of a bounded value over the interval, of each arm, scaled to 0..1."""

    canary: float
    control: float


Observation = Events | Histogram | Classes | Crashes | Means


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two looks.

    Attributes:
        start, end: seconds since the epoch.
        stage: index of the stage in the rules.
        canary_requests, control_requests: answered by each arm.
        observations: by metric; those in `missing` are not among them.
        missing: metrics without data. A metric is in exactly one of the two.
    """

    start: float
    end: float
    stage: int
    canary_requests: int
    control_requests: int
    observations: Mapping[str, Observation]
    missing: tuple[Missing, ...] = ()
