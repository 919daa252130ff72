"""From results to what the study shows: how rare loss is, and how long recoveries took. Plain text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sre.measure.proportion import at_most, median_interval
from sre.units import Unit, show
from tests.studies.failover.journal import LEAST_ACKED, Result
from tests.studies.failover.schedules import KINDS

RARE = 0.01  # strict mode: the 95 % upper bound of the share of schedules that lose
FIRST_WRITE_SECONDS = 30.0  # a primary that was killed is replaced within this
BLIND_OF = 20  # asynchronous mode: loss in at least one of so many, else the study could not see one


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Recoveries, in s; what was not seen is infinite.

    Attributes:
        n: how many.
        median, longest: of them; NaN of none.
        interval: 95 % of the median, from the order of the values alone; None of fewer than six.
    """

    n: int
    median: float
    longest: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a study shows.

    Attributes:
        judged: schedules with at least LEAST_ACKED acknowledged writes, and those with a difference however few they had.
        set_aside: sentences about the others.
        lossy: seeds of judged schedules with a difference.
        at_most: 95 % upper bound of the share of schedules that are lossy.
        acked: acknowledged writes in judged schedules.
        first_write, full_service: of primaries that were killed.
    """

    judged: int
    set_aside: tuple[str, ...]
    lossy: tuple[int, ...]
    at_most: float
    acked: int
    first_write: Times
    full_service: Times


def times(values: Iterable[float | None]) -> Times:
    """Summarise recoveries; None, not seen, counts as infinite."""
    found = sorted(math.inf if value is None else value for value in values)
    # The upper of two middle values: no mean of a value and infinity.
    median = float(np.quantile(found, 0.5, method="higher")) if found else math.nan
    return Times(n=len(found), median=median, longest=found[-1] if found else math.nan, interval=median_interval(found))


def summary(results: Sequence[Result]) -> Summary:
    """What the results of one study show. A loss counts however few writes there were and whatever else went wrong."""
    lossy = tuple(result.seed for result in results if result.differences)
    aside = {result.seed: reason for result in results if not result.differences and (reason := _aside(result))}
    judged = [result for result in results if result.seed not in aside]
    killed = [result for result in results if result.primary_killed and not result.why]
    return Summary(
        judged=len(judged),
        set_aside=tuple(f"schedule {seed}: {reason}" for seed, reason in aside.items()),
        lossy=lossy,
        at_most=at_most(len(lossy), len(judged)),
        acked=sum(result.acked for result in judged),
        first_write=times(result.first_write for result in killed),
        full_service=times(result.full_service for result in killed),
    )


def _aside(result: Result) -> str:
    return result.why or (f"{result.acked:,} of {LEAST_ACKED:,} acknowledged writes" if result.acked < LEAST_ACKED else "")


def conclusion(mode: str, found: Summary) -> tuple[bool, str]:
    """Whether the study shows what it must, and the sentence that says so.

    Args:
        mode: `strict`, in which nothing may be lost; `async`, in which something must be, else the study is blind; `kills`, in
            which nothing may be lost and every write must go on within the bound.
        found: from `summary`.
    """
    lossy = f"{len(found.lossy)} of {found.judged} schedules lossy"
    if mode == "async":
        seen = len(found.lossy) * BLIND_OF >= found.judged > 0
        return seen, f"{lossy}: {'loss is seen where it must be' if seen else f'fewer than 1 of {BLIND_OF}, the study is blind'}"
    if mode == "kills":
        slow = found.first_write.longest > FIRST_WRITE_SECONDS or not found.first_write.n
        said = f"{lossy}; first write after at most {found.first_write.longest:.1f} s, bound {FIRST_WRITE_SECONDS:.0f} s"
        return not found.lossy and not slow, said
    bound = f"{lossy}, at most {found.at_most * 100:.3f} % with 95 % confidence"
    if found.lossy:
        return False, f"{bound}: seeds {', '.join(map(str, found.lossy))}"
    return found.at_most < RARE, bound if found.at_most < RARE else f"{bound}: too few to show less than {show(RARE, Unit.RATIO)}"


def text(mode: str, results: Sequence[Result]) -> str:
    """The report, for a terminal."""
    found = summary(results)
    lines = [f"failover study, {mode}: {conclusion(mode, found)[1]}", f"{found.acked:,} acknowledged writes", ""]
    lines += [f"{'fault':<14}{'schedules':>10}{'lossy':>7}{'lost':>7}{'unknown':>9}{'first write, median':>21}{'max':>10}"]
    lines += [_row(kind, [result for result in results if kind in result.kinds]) for kind in KINDS]
    lines += ["", _times("first write after a primary was killed", found.first_write)]
    lines += [_times("full service after a primary was killed", found.full_service)]
    lines += ["", *(f"set aside: {sentence}" for sentence in found.set_aside)] if found.set_aside else []
    return "\n".join(lines) + "\n"


def _row(kind: str, results: Sequence[Result]) -> str:
    total = Counter[str]()
    for result in results:
        total += Counter(lossy=bool(result.differences), lost=result.lost, unknown=result.unknown_found + result.unknown_absent)
    first = times(result.first_write for result in results if result.kinds[0] == kind and not result.why)
    return (
        f"{kind:<14}{len(results):>10}{total['lossy']:>7}{total['lost']:>7}{total['unknown']:>9}"
        f"{show(first.median, Unit.SECONDS):>21}{show(first.longest, Unit.SECONDS):>10}"
    )


def _times(what: str, found: Times) -> str:
    if not found.n:
        return f"{what}: no data"
    interval = f" (95 % {' to '.join(show(end, Unit.SECONDS) for end in found.interval)})" if found.interval else ""
    longest = f"longest {show(found.longest, Unit.SECONDS)}"
    return f"{what}: median {show(found.median, Unit.SECONDS)}{interval}, {longest}, {found.n} times"
