"""The goals as data: which figure of which cell, against which bound. Arithmetic only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from tests.studies.canary.bursts import BOUNDARIES
from tests.studies.canary.bursts import CONDITIONS as BURSTS
from tests.studies.canary.cells import ALPHA, BETA, SPLIT_ALPHA
from tests.studies.canary.counting import CONDITIONS
from tests.studies.canary.coverage import BOUNDED, MISS
from tests.studies.canary.figures import Figure
from tests.studies.canary.journal import Result

# A simulated error rate may exceed the stated one by what so many runs cannot tell apart.
SLACK = 1.2


class Word(StrEnum):
    """What came of a goal. OPEN: the runs are too few to say, or its cell has not been run."""

    REACHED = "REACHED"
    MISSED = "MISSED"
    OPEN = "OPEN"


@dataclass(frozen=True, slots=True)
class Bound:
    """How a value must stand to another; a `share` is shown in per cent."""

    comparison: Literal["<=", ">="]
    value: float
    unit: str = "share"


@dataclass(frozen=True, slots=True)
class Goal:
    """One line that the study must reach.

    Attributes:
        id: of the specification, `C1` to `C13`.
        sentence: for people.
        cell, figure: where it is measured.
        bound: of the figure.
    """

    id: str
    sentence: str
    cell: str
    figure: str
    bound: Bound


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal and what came of it; no figure when its cell has not been run."""

    goal: Goal
    found: Figure | None

    @property
    def word(self) -> Word:
        """REACHED only when the figure's far bound, of 99 per cent, keeps the goal's."""
        if self.found is None:
            return Word.OPEN
        bound = self.goal.bound
        if bound.comparison == "<=":
            kept, broken = self.found.high <= bound.value, self.found.low > bound.value
        else:
            kept, broken = self.found.low >= bound.value, self.found.high < bound.value
        return Word.REACHED if kept else Word.MISSED if broken else Word.OPEN


def judge(chosen: Sequence[Goal], results: Mapping[str, Result]) -> list[Judged]:
    """Hold every goal against what was measured."""
    return [Judged(goal, results[goal.cell].figures.get(goal.figure) if goal.cell in results else None) for goal in chosen]


def goals() -> list[Goal]:
    """All goals."""
    return [*_error_rates(), *_times(), *_promotion(), *_kinds(), *_coverage(), *_references()]


_ROLLBACK, _PROMOTION = Bound("<=", SLACK * ALPHA), Bound("<=", SLACK * BETA)
_MOST = Bound(">=", 0.95)


def _error_rates() -> list[Goal]:
    rolled, promoted = "false rollback", "false promotion"
    said = {"plain": "15 s"} | {name: name for name in CONDITIONS if name != "plain"}
    return [
        *(
            Goal("C1", f"A/A for a day, a look every {every} s: rolled back", f"aa-every-{every}s", rolled, _ROLLBACK)
            for every in (1, 5, 15, 60)
        ),
        Goal("C1", "A/A for a day, the gate's mixture of restarts: rolled back", "aa-restarting", rolled, _ROLLBACK),
        Goal("C1", "A/A, latency histogram, 400 looks: rolled back", "latency-aa", rolled, _ROLLBACK),
        *(
            Goal("C2", f"at the margin, a look every {every} s: promoted", f"boundary-{every}s", promoted, _PROMOTION)
            for every in (1, 15)
        ),
        *(Goal("C2", f"at the margin, {name}: promoted", f"bursts-boundary-{name}", promoted, _PROMOTION) for name in BOUNDARIES),
        Goal("C2", "at the objective: promoted", "boundary-objective", promoted, _PROMOTION),
        *(Goal("C3", f"A/A, {words}: rolled back", f"aa-{name}", rolled, _ROLLBACK) for name, words in said.items()),
        *(
            Goal("C3", f"at the margin, {words}: promoted", f"boundary-{name}", promoted, _PROMOTION)
            for name, words in said.items()
        ),
        *(Goal("C3", f"A/A, {name}: rolled back", f"bursts-aa-{name}", rolled, _ROLLBACK) for name in BURSTS),
        *(
            Goal("C3", f"A/A, clusters of 5, a look every {every} s: rolled back", f"bursts-aa-every-{every}s", rolled, _ROLLBACK)
            for every in (5, 60)
        ),
        Goal("C3", "A/A, clusters of 5, mixture of restarts: rolled back", "bursts-aa-restarting", rolled, _ROLLBACK),
    ]


def _times() -> list[Goal]:
    rest, equal = "canary 10 % of 1000/s, control the rest", "equal arms of 100/s"
    requests = "canary requests"
    return [
        Goal("C4", f"x10 errors found, {rest}", "detect-rest", "x10, scrapes", Bound("<=", 2, "scrapes")),
        Goal("C4", f"x5 errors found, {rest}", "detect-rest", "x5 every 1 s, s", Bound("<=", 30, "s")),
        Goal("C4", f"x2 errors found, {rest}", "detect-rest", "x2 every 1 s, s", Bound("<=", 120, "s")),
        Goal("C4", f"x10 errors found, {equal}", "detect-equal", "x10, scrapes", Bound("<=", 2, "scrapes")),
        *(
            Goal("C4", f"x2 errors, {said}: over Wald's test", cell, "x2, times Wald's", Bound("<=", 1.5, "x"))
            for cell, said in (("detect-rest", rest), ("detect-equal", equal))
        ),
        Goal("C4", "x5 errors, clusters of 5, found", "bursts-detect", "x5 every 5 s, s", Bound("<=", 150, "s")),
        Goal("C4", "x2 errors, clusters of 5, found", "bursts-detect", "x2 every 5 s, s", Bound("<=", 900, "s")),
        Goal("C4", "latency +25 % found", "latency-rest", f"+25 %, {requests}", Bound("<=", 500, requests)),
        Goal("C4", "latency +10 % found", "latency-rest", f"+10 %, {requests}", Bound("<=", 2500, requests)),
        Goal("C4", "1 % of requests take about 1 s, found", "latency-rest", f"tail 1 %, {requests}", Bound("<=", 1000, requests)),
        Goal("C4", f"x5 errors after two healthy hours found, {equal}", "detect-late", "restarting, s", Bound("<=", 150, "s")),
    ]  # fmt: skip


def _promotion() -> list[Goal]:
    return [
        Goal("C5", "a healthy canary promotes at margin 2x", "promote-2x", "events", Bound("<=", 150, "events")),
        Goal("C5", "a healthy canary promotes at margin 2x within 2 h", "promote-2x", "ever", _MOST),
        *(
            Goal("C5", "the planner's median over the simulated one", "planner", "median over simulated", bound)
            for bound in (Bound("<=", 1.5, "x"), Bound(">=", 0.67, "x"))
        ),
        Goal("C5", "promoted within the planner's 90 % time", "planner", "promoted within the 90 % time", Bound(">=", 0.85)),
        Goal("C7", "20 requests a minute, x4 errors found in 30 min", "low-traffic", "found, rest", Bound(">=", 0.75)),
        # No test that promotes wrongly in at most 5 per cent can do it on fewer: (1 - theta)^n, all events being the control's.
        Goal("C7", "fewest events of a promotion, control x9", "low-traffic", "fewest events, rest", Bound(">=", 15, "events")),
        Goal("C7", "fewest events of a promotion, equal arms", "low-traffic", "fewest events, equal", Bound(">=", 3, "events")),
    ]  # fmt: skip


def _kinds() -> list[Goal]:
    predictions = Bound("<=", 5000, "predictions")
    found = "5 points, canary predictions"
    return [
        Goal("C9", "10 % weight off by a fifth, found in 10,000 requests", "split", "10% off by a fifth, in 10,000", _MOST),
        Goal("C9", "50 % weight off by a fifth, found in 10,000 requests", "split", "50% off by a fifth, in 10,000", _MOST),
        Goal("C9", "a right split called wrong, 24 h", "split-aa", "false alarm", Bound("<=", SLACK * SPLIT_ALPHA)),
        Goal("C11", "a 5-point shift of a class found, control x9", "classes-rest", found, predictions),
        Goal("C11", "a 5-point shift of a class found, equal arms", "classes-equal", found, predictions),
        Goal("C11", "ten metrics, A/A: rolled back", "family", "false rollback", _ROLLBACK),
    ]


def _coverage() -> list[Goal]:
    covered = Bound("<=", SLACK * MISS)
    names = ("binomial-0.001", "binomial-0.3", "poisson", *BOUNDED)
    return [
        Goal("C12", f"95 % confidence sequence, {name}: misses at any look", f"cover-{name}", "missed", covered) for name in names
    ]


def _references() -> list[Goal]:
    lead = Bound(">=", 0.0)
    quiet = ("quiet, x4", "quiet, x10")
    return [
        Goal("C13", "users' failing series promoted by our gate", "complaints", "promoted", Bound("<=", 0, "cases")),
        *(
            Goal("C13", f"head to head, {name}: ours promotes", f"head-{name}", "ours: promote", _PROMOTION)
            for name in ("x2", "x3", "x10", *quiet)
        ),
        *(
            Goal("C13", f"head to head, {name}: ours rolls back", f"head-{name}", "ours: rollback", _ROLLBACK)
            for name in ("same", "outages, same", "quiet, same")
        ),
        *(
            Goal("C13", f"head to head, {name}: caught more often than by Kayenta", f"head-{name}", "lead over Kayenta", lead)
            for name in quiet
        ),
        Goal("C13", "whole gate: decisions unlike the study's", "gate-agrees", "other decisions", Bound("<=", 0, "runs")),
    ]
