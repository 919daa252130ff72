"""Which share of the requests got a prediction, and which did not."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from sre.judges.ruling import incomplete, rule
from sre.measure.quantiles import answered
from sre.measure.samples import Recording, Samples
from sre.promises import Promise
from sre.units import Comparison
from sre.verdict import Verdict


def availability(promise: Promise, recording: Recording, samples: Samples) -> Verdict:
    """Judge a promise on the share of requests: `<` bounds those that failed, `>=` those that got a prediction.

    The interval is exact for independent requests (Clopper and Pearson 1934). Failures come in bursts, so it speaks of this load,
    not of the outages of a month.

    Args:
        promise: bound as a ratio.
        recording: of the samples.
        samples: whatever got no prediction counts as failed, the unsent and the unanswered too.
    """
    if missing := incomplete(promise, recording, samples):
        return missing
    n = len(samples)
    failed = n - int(np.count_nonzero(answered(samples)))
    counted = failed if promise.comparison is Comparison.BELOW else n - failed
    exact = binomtest(counted, n).proportion_ci(confidence_level=0.95, method="exact")
    return rule(promise, counted / n, (float(exact.low), float(exact.high)), n, f"{failed:,} of {n:,} requests got no prediction")
