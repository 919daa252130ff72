"""How long users waited, counted from the moment their request was planned."""

from __future__ import annotations

from sre.judges.ruling import incomplete, rule
from sre.measure.quantiles import estimate_quantile, latencies
from sre.measure.samples import Recording, Samples
from sre.promises import Promise
from sre.units import show
from sre.verdict import Verdict


def latency(promise: Promise, recording: Recording, samples: Samples, *, quantile: float, warm_up: float = 0.0) -> Verdict:
    """Judge a latency promise. Whoever got no prediction waited for ever.

    Args:
        promise: bound in s.
        recording: of the samples.
        samples: ordered by planned time.
        quantile: for example 0.95.
        warm_up: s at the start that do not count.
    """
    if missing := incomplete(promise, recording, samples):
        return missing
    start = recording.started + warm_up
    counted = samples[samples["planned"] >= start]
    end = recording.started + min(recording.seconds, recording.ended - recording.started)
    found = estimate_quantile(counted["planned"], latencies(counted), quantile, start, end)
    shown = show(found.value, promise.unit, promise.comparison)
    why = f"{quantile * 100:g} % of {len(counted):,} requests had their prediction within {shown} of the planned send"
    return rule(promise, found.value, found.interval, len(counted), why)
