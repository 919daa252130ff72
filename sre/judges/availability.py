"""Which share of the requests got a prediction, and which did not."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from sre.judges.ruling import incomplete, rule, verdict
from sre.measure.quantiles import answered
from sre.measure.samples import Recording, Samples
from sre.promises import Promise
from sre.units import Comparison
from sre.verdict import Outcome, Verdict


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


def none_failed(promise: Promise, recording: Recording, samples: Samples) -> Verdict:
    """Judge a promise on the number of requests that got no prediction. It speaks of this load alone, so it has no interval.

    One failure is a failure however few requests there were; that there is none takes `promise.least` of them.

    Args:
        promise: bound as a count.
        recording: of the samples.
        samples: whatever got no prediction counts as failed, the unsent and the unanswered too.
    """
    n = len(samples)
    failed = n - int(np.count_nonzero(answered(samples)))
    why = f"{failed:,} of {n:,} requests got no prediction"
    if not promise.comparison.holds(failed, promise.bound):
        return verdict(promise, Outcome.BROKEN, float(failed), None, n, why)
    if missing := incomplete(promise, recording, samples):
        return missing
    if n < promise.least:
        return verdict(
            promise, Outcome.INCONCLUSIVE, float(failed), None, n, f"{why}; {n:,} of at least {promise.least:,} samples"
        )
    return verdict(promise, Outcome.KEPT, float(failed), None, n, why)
