"""What the judges of all drills under load have in common: two sources must agree, and the generator must not be the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sre.drills.base import Case, Judgement
from sre.judges.agreement import agreement
from sre.judges.ruling import doubt
from sre.load.saturation import saturation
from sre.units import Unit
from sre.verdict import Outcome, Verdict


def judgement(
    case: Case, of_users: Sequence[Verdict], of_watchers: Sequence[Verdict] = (), *, may_stop: bool = False, counted: bool = True
) -> Judgement:
    """Verdicts of a drill under load, doubted where their evidence may not tell the truth.

    A generator that was itself the bottleneck overturns what was kept: the system saw less than was promised. A breach stands,
    since a system that stalls makes its users late too; but who cannot send cannot show a lack of throughput. Servers that
    counted something else than the users saw overturn every verdict that was kept.

    Args:
        case: of the drill.
        of_users: verdicts on the samples.
        of_watchers: verdicts on what others saw meanwhile: replicas, alerts. They come first.
        may_stop: the drill ends its load itself.
        counted: False when the fault hit who counts for the servers, so that there is no second source.
    """
    recording, samples = case.load()
    saturated = saturation(recording, samples, may_stop=may_stop)
    verdicts = (*of_watchers, *(doubt(verdict, saturated, _overturned(verdict)) for verdict in of_users))
    if not counted:
        return Judgement(verdicts, (*saturated, "what the servers counted is not compared: the fault hit Prometheus itself"))
    agreed = agreement(
        recording,
        samples,
        case.server_counts(),
        scrape_seconds=float(case.facts.get("scrape_s", 0.0)),
        resend_seconds=float(case.facts.get("resend_s", math.inf)),
    )
    return Judgement(tuple(doubt(verdict, agreed.findings) for verdict in verdicts), (*saturated, *agreed.findings))


def _overturned(verdict: Verdict) -> frozenset[Outcome]:
    return frozenset({Outcome.KEPT, Outcome.BROKEN} if verdict.unit is Unit.PER_SECOND else {Outcome.KEPT})
