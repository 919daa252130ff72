"""The verdict: one value from which the terminal line, JSON, JUnit, HTML and the exit code derive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sre.errors import ExitCode
from sre.units import Comparison, Unit, show, show_bound


class Outcome(StrEnum):
    """How a promise, a drill or a whole run ended."""

    KEPT = "kept"
    BROKEN = "broken"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"

    @property
    def exit_code(self) -> ExitCode:
        """The exit status that says the same."""
        return _EXIT[self]


_EXIT = {
    Outcome.KEPT: ExitCode.KEPT,
    Outcome.BROKEN: ExitCode.BROKEN,
    Outcome.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    Outcome.ERROR: ExitCode.CANNOT_RUN,
}
# A measured breach is never hidden by a later error, and an error never by a lack of data.
_PRECEDENCE = (Outcome.BROKEN, Outcome.ERROR, Outcome.INCONCLUSIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one promise came to in one drill.

    Attributes:
        promise: id of the promise, for example `pod-recovery`.
        outcome: kept, broken, inconclusive or error.
        measured: in the base unit; None when nothing could be measured.
        bound: in the base unit.
        comparison: how `measured` must stand to `bound`.
        unit: of measured, bound and interval.
        n: how many samples the value rests on.
        interval: 95 % interval of `measured`, or the two looks between which an event lies; None where one value was observed.
        why: one sentence for people.
    """

    promise: str
    outcome: Outcome
    measured: float | None
    bound: float
    comparison: Comparison
    unit: Unit
    n: int
    interval: tuple[float, float] | None
    why: str

    def line(self) -> str:
        """The measured value against its bound: `6.4 s of 30 s`."""
        return f"{show(self.measured, self.unit, self.comparison)} of {show_bound(self.bound, self.unit)}"


def combine(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a whole from its parts: broken > error > inconclusive > kept; of nothing, inconclusive."""
    seen = set(outcomes)
    if not seen:
        return Outcome.INCONCLUSIVE
    return next((outcome for outcome in _PRECEDENCE if outcome in seen), Outcome.KEPT)
