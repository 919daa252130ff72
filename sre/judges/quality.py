"""Is the model good enough? Judged by its answers, not by what its training says."""

from __future__ import annotations

from scipy.stats import binomtest

from sre.judges.ruling import rule, verdict
from sre.promises import Promise
from sre.verdict import Outcome, Verdict


def accuracy(promise: Promise, right: int, asked: int) -> Verdict:
    """Judge the share of right answers, with its exact binomial interval (Clopper and Pearson 1934).

    Args:
        promise: bound as a ratio.
        right: answers with the right class.
        asked: images sent; what was not answered was not right.
    """
    if not asked:
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, "no image was sent")
    exact = binomtest(right, asked).proportion_ci(confidence_level=0.95, method="exact")
    why = f"{right} of {asked} unseen images are named rightly"
    return rule(promise, right / asked, (float(exact.low), float(exact.high)), asked, why)
