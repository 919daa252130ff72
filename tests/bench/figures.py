"""What was measured, as values: rounds, rows of rounds, and single figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

_COUNTS = (" failed", " hung", " other")


class Doubtful(Exception):
    """It was measured, and nothing follows from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One server under closed-loop load for some seconds.

    Attributes:
        rps: right answers a second.
        p50_ms, p95_ms, p99_ms: of the latency that wrk saw.
        cpu_us: CPU time of all server processes, divided by the right answers.
        pss_mb: memory of all server processes, shared pages once.
        errors: answers other than 2xx and broken connections.
        backing_cores: used by database, registry and monitoring meanwhile.
        others_cores: used by everything else that is neither server nor generator.
        tries: how often the round was measured until others left the machine alone.
    """

    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: float
    pss_mb: float
    errors: int
    backing_cores: float
    others_cores: float
    tries: int


@dataclass(slots=True)
class Row:
    """All rounds of one server; what is judged are their medians."""

    key: str
    title: str
    rounds: list[Round] = field(default_factory=list)
    failed: str = ""

    def median(self, name: str) -> float:
        """The median of a field of the rounds. A row without rounds raises StatisticsError."""
        return float(median(getattr(item, name) for item in self.rounds))


@dataclass(slots=True)
class Results:
    """Everything that one run measured.

    Attributes:
        rows: by key.
        figures: single numbers by name, in the unit that the name ends with.
        doubts: why figures with this prefix were measured and say nothing.
        shown: documents of the open-loop runs, for the report.
        remarks: what a reader must know: rounds that others disturbed, peers that are absent.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    shown: dict[str, dict[str, object]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def value(self, key: str, name: str) -> float:
        """A row's median. Raises KeyError when the row has no round."""
        row = self.rows.get(key)
        if row is None or not row.rounds:
            raise KeyError(f"{key}: {row.failed if row and row.failed else 'not measured'}")
        return row.median(name)

    def values(self, keys: list[str], name: str) -> list[float]:
        """The medians of several rows. Raises KeyError when one has no round, or for no rows."""
        if not keys:
            raise KeyError("no peer was measured")
        return [self.value(key, name) for key in keys]

    def best(self, keys: list[str], name: str) -> float:
        """The largest median among those of the rows that have one. Raises KeyError when none has."""
        found = [self.rows[key].median(name) for key in keys if key in self.rows and self.rows[key].rounds]
        if not found:
            raise KeyError(f"none of {', '.join(keys)} was measured")
        return max(found)

    def figure(self, name: str) -> float:
        """A single number. Raises KeyError when it was not measured, and Doubtful when it says nothing.

        A request that failed or hung did so whoever was saturated: such a count is believed unless it is zero.
        """
        failures = name.endswith(_COUNTS) and self.figures.get(name, 0) > 0
        for prefix, why in self.doubts.items():
            if name.startswith(prefix) and not failures:
                raise Doubtful(why)
        if name not in self.figures:
            raise KeyError(f"{name}: not measured")
        return self.figures[name]


def in_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Quantiles by nearest rank, in ms; empty for no samples."""
    ordered = sorted(seconds)
    ranks = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: 1000 * ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for name, share in ranks.items() if ordered}
