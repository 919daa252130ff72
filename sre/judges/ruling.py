"""The rules that every judge applies. No data, NaN, or a value too good to be true is never a pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sre.judges.manifests.objects import Finding
from sre.measure.samples import Recording, Samples
from sre.promises import Promise
from sre.units import Comparison, show
from sre.verdict import Outcome, Verdict

Interval = tuple[float, float]
_SHOWN = 3  # findings in a sentence


def rule(promise: Promise, measured: float, interval: Interval | None, n: int, why: str) -> Verdict:
    """Judge a value that has an interval.

    In this order: fewer than `promise.least` samples or no number: inconclusive. The value breaches: broken. Its interval is
    missing or reaches past the bound: inconclusive. Else kept.

    Args:
        promise: with bound and comparison.
        measured: in the base unit; NaN when there is nothing.
        interval: 95 %; None when there were too few blocks for one.
        n: samples that the value rests on.
        why: what was measured, a sentence without its full stop; the reason for an outcome other than kept is added.
    """
    kept = promise.comparison.holds
    if n < promise.least:
        return verdict(
            promise, Outcome.INCONCLUSIVE, measured, interval, n, f"{why}; {n:,} of at least {promise.least:,} samples"
        )
    if math.isnan(measured) or (math.isinf(measured) and kept(measured, promise.bound)):
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, n, f"{why}; that is not a measured value")
    if not kept(measured, promise.bound):
        return verdict(promise, Outcome.BROKEN, measured, interval, n, why)
    if interval is None:
        return verdict(promise, Outcome.INCONCLUSIVE, measured, None, n, f"{why}; too short for a 95 % interval")
    if not all(kept(end, promise.bound) for end in interval):
        worst = interval[1] if promise.comparison is Comparison.BELOW else interval[0]
        reached = f"its 95 % interval reaches {show(worst, promise.unit, promise.comparison)}"
        return verdict(promise, Outcome.INCONCLUSIVE, measured, interval, n, f"{why}; {reached}, past the bound")
    return verdict(promise, Outcome.KEPT, measured, interval, n, why)


def verdict(promise: Promise, outcome: Outcome, measured: float | None, interval: Interval | None, n: int, why: str) -> Verdict:  # noqa: PLR0913, PLR0917
    """A verdict on a row of the table; a NaN is recorded as None."""
    return Verdict(
        promise=promise.id,
        outcome=outcome,
        measured=None if measured is None or math.isnan(measured) else measured,
        bound=promise.bound,
        comparison=promise.comparison,
        unit=promise.unit,
        n=n,
        interval=interval,
        why=why,
    )


def incomplete(promise: Promise, recording: Recording, samples: Samples) -> Verdict | None:
    """Inconclusive when requests left no record or there are none: whoever is missing may have waited longest."""
    if len(samples) == recording.planned and len(samples):
        return None
    why = f"the recording holds {len(samples):,} of {recording.planned:,} planned requests"
    return verdict(promise, Outcome.INCONCLUSIVE, None, None, len(samples), why)


def doubt(judged: Verdict, findings: Sequence[str], outcomes: frozenset[Outcome] = frozenset({Outcome.KEPT})) -> Verdict:
    """Make a verdict inconclusive when something was found that takes its ground away.

    Args:
        judged: the verdict.
        findings: sentences; none leaves the verdict as it is.
        outcomes: those that the findings overturn. Two sources that disagree overturn kept only. A saturated load generator,
            whose own delay the samples hold, overturns broken too.
    """
    if not findings or judged.outcome not in outcomes:
        return judged
    return replace(judged, outcome=Outcome.INCONCLUSIVE, why=f"{judged.why}; but {'; '.join(findings)}")


def ruled(promise: Promise, findings: Iterable[Finding], compared: int, kept: str) -> Verdict:
    """Judge by what was found: the measured value is the number of findings.

    Args:
        promise: bound as a count.
        findings: all of them.
        compared: how many objects, volumes and files were compared. Without any, nothing is kept.
        kept: what was seen, in words, when nothing was found.
    """
    words = list(map(told, findings))
    if words:
        more = f"; and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        outcome = Outcome.KEPT if promise.comparison.holds(len(words), promise.bound) else Outcome.BROKEN
        return verdict(promise, outcome, float(len(words)), None, max(compared, 1), "; ".join(words[:_SHOWN]) + more)
    if not compared:
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, "there was nothing to compare")
    return verdict(promise, Outcome.KEPT, 0.0, None, compared, kept)


def told(finding: Finding) -> str:
    """A finding as one sentence."""
    return f"{finding.rule}: {finding.subject} {finding.what}"
