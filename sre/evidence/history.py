"""What all signed runs of a drill say together: how often its promises were kept, and how long it took."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sre.evidence.standing import outcome_of, records, signed
from sre.measure.proportion import at_most, median_interval
from sre.measure.quantiles import quantile
from sre.promises import PROMISES, Promise
from sre.units import Comparison, show, show_bound
from sre.verdict import Outcome

_DECIDED = frozenset({Outcome.KEPT, Outcome.BROKEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """All that runs of one drill on one target say of one promise.

    Attributes:
        promise: against today's bound; verdicts on another are left out.
        drill: its name.
        target: that it ran on.
        measured: what was measured whenever it was kept or broken, in the promise's unit, ascending.
        kept: how many of these kept it.
        undecided: runs of that drill that decided nothing, or in which a step failed.
    """

    promise: Promise
    drill: str
    target: str
    measured: tuple[float, ...]
    kept: int
    undecided: int

    @property
    def least(self) -> float:
        """Lower end of the one-sided 95 % interval of the share that keep it (Clopper and Pearson 1934); 0 of none."""
        return 1.0 - at_most(len(self.measured) - self.kept, len(self.measured))

    @property
    def median(self) -> float:
        """The lower of two middle values, never a mean of a value and infinity; NaN of none."""
        return quantile(np.array(self.measured), 0.5)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the median, at least 95 %, from the order of the values alone; None of fewer than six."""
        return median_interval(self.measured)

    def document(self) -> dict[str, Any]:
        """For machines, in the promise's unit; what was never seen is null."""
        return {
            "drill": self.drill, "promise": self.promise.id, "target": self.target, "bound": self.promise.bound,
            "runs": len(self.measured), "kept": self.kept, "at_least": self.least, "median": _finite(self.median),
            "interval": None if self.interval is None else [_finite(end) for end in self.interval],
            "measured": [_finite(value) for value in self.measured], "undecided": self.undecided,
        }  # fmt: skip

    def row(self) -> tuple[str, ...]:
        """For people: drill, promise, target, bound, kept, at least, median, interval, worst, undecided."""
        word = self._word
        bound = f"{self.promise.comparison} {show_bound(self.promise.bound, self.promise.unit)}"
        ends = self.interval
        worst = (max if self.promise.comparison is Comparison.BELOW else min)(self.measured, default=math.nan)
        return (
            self.drill, self.promise.id, self.target, bound, f"{self.kept} of {len(self.measured)}", f"{self.least:.1%}",
            word(self.median), "" if ends is None else f"{word(ends[0])} to {word(ends[1])}", word(worst),
            str(self.undecided or ""),
        )  # fmt: skip

    def _word(self, value: float) -> str:
        return "" if math.isnan(value) else show(value, self.promise.unit, self.promise.comparison)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


COLUMNS = ("drill", "promise", "target", "bound", "kept", "at least (95 %)", "median", "95 % of it", "worst", "undecided")


def trials(root: Path, key: Ed25519PublicKey | None, drills: Iterable[str] = (), target: str = "") -> list[Trials]:
    """Every signed run, by drill, promise and target.

    Args:
        root: folder of all runs.
        key: whose signature counts; None lets nothing count.
        drills: names of drills; all when empty.
        target: name of a target; all when empty.
    """
    chosen = set(drills)
    wanted = {(name, row.id): row for row in PROMISES for name in row.drills if not chosen or name in chosen}
    found: dict[tuple[str, str, str], list[tuple[Outcome, float | None]]] = defaultdict(list)
    for folder, record in records(root):
        told = [(drill, row) for drill in record.drills for row in PROMISES if (drill.name, row.id) in wanted]
        if not told or (target and record.target != target) or not signed(folder, record, key):
            continue
        for drill, row in told:
            outcome, verdict = outcome_of(drill, row)
            found[drill.name, row.id, record.target].append((outcome, verdict.measured if verdict else None))
    return [_trials(wanted[name, of], name, on, found[name, of, on]) for name, of, on in sorted(found)]


def _trials(promise: Promise, drill: str, target: str, ended: Sequence[tuple[Outcome, float | None]]) -> Trials:
    decided = [(outcome, value) for outcome, value in ended if outcome in _DECIDED and value is not None]
    return Trials(
        promise=promise, drill=drill, target=target, measured=tuple(sorted(value for _, value in decided)),
        kept=sum(outcome is Outcome.KEPT for outcome, _ in decided), undecided=len(ended) - len(decided),
    )  # fmt: skip
