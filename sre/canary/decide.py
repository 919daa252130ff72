"""The one decision at an instant, for pipelines: what the gate would have said, had it looked once per scrape until then."""

from __future__ import annotations

from sre.canary.counting import Counting
from sre.canary.plan import Plan
from sre.canary.reading import until
from sre.canary.source import Source
from sre.errors import UsageError
from sre.judges.canary.decision import Standing
from sre.judges.canary.gate import Gate

_MAX_LOOKS = 10_000  # Prometheus answers a range of 11,000 points at most


def judge(plan: Plan, url: str, *, at: float, since: float, stage: int = 0) -> Standing:
    """Judge what happened between two instants.

    Args:
        plan: of the canary.
        url: of Prometheus.
        at: until when, seconds since the epoch.
        since: from when on the canary had the stage's share of traffic, seconds since the epoch.
        stage: index in the plan.

    Returns:
        Where the canary stands after the last look; HOLD with the reason when anything is missing there.

    Raises:
        UsageError: the span holds no look, or too many.
    """
    looks = int((at - since) / plan.scrape)
    if not 0 < looks <= _MAX_LOOKS:
        raise UsageError(
            f"a span of {at - since:g} s holds {looks} scrapes of {plan.scrape:g} s; judge between 1 and {_MAX_LOOKS:,} of them"
        )
    if not 0 <= stage < len(plan.rules().stages):
        raise UsageError(f"stage {stage} has no control to compare with; judge one of 0 to {len(plan.rules().stages) - 1}")
    counting, gate = Counting(plan, since), Gate(plan.rules())
    whole = Source(plan, url).look(counting.since, stage, at)
    for number in range(1, looks + 1):
        moment = whole.at - (looks - number) * plan.scrape
        standing = gate.look(counting.look(until(whole, moment, counting.since)))
    return standing
