"""How many predictions a second the system delivered, and kept delivering."""

from __future__ import annotations

import numpy as np

from sre.judges.ruling import incomplete, rule
from sre.measure.quantiles import answered, blocks, estimate_mean
from sre.measure.samples import Recording, Samples
from sre.promises import Promise
from sre.verdict import Verdict


def throughput(promise: Promise, recording: Recording, samples: Samples, *, warm_up: float = 0.0) -> Verdict:
    """Judge a throughput promise: predictions that arrived while requests were sent, each second of that span.

    What the system answers after the last request was planned is a backlog worked off, and does not count.

    Args:
        promise: bound per second.
        recording: of the samples.
        samples: ordered by planned time.
        warm_up: s at the start that do not count.
    """
    if missing := incomplete(promise, recording, samples):
        return missing
    start = recording.started + warm_up
    end = recording.started + min(recording.seconds, recording.ended - recording.started)
    arrived = samples["done"][answered(samples)]
    inside = arrived[(arrived >= start) & (arrived < end)]
    block, count = blocks(inside, start, end)
    per_second = np.bincount(block, minlength=count) / ((end - start) / count) if end > start else np.empty(0)
    found = estimate_mean(per_second)
    why = f"{len(inside):,} predictions arrived in {max(0.0, end - start):.1f} s"
    return rule(promise, found.value, found.interval, len(inside), why)
