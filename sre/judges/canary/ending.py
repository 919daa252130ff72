"""Did a rollout end as it had to, and did the users notice the shifts?"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import numpy as np

from sre.judges.ruling import incomplete, verdict
from sre.measure.quantiles import answered
from sre.measure.samples import Recording, Samples
from sre.promises import Promise
from sre.verdict import Outcome, Verdict


def ending(promise: Promise, *, expected: str, ended: str, wanted: str, serving: Sequence[str]) -> Verdict:
    """Judge how a rollout ended. It must end as expected, and afterwards every replica serves the wanted version.

    Args:
        promise: bound as a count of wrong endings.
        expected: `promoted` or `rolled back`.
        ended: the same; any other ending is no decision, so it is inconclusive.
        wanted: the version that must be in production then.
        serving: those that the replicas serve; none is no data.
    """
    if ended not in {"promoted", "rolled back"} or not serving:
        seen = f"it ended {ended!r}" if serving else "no replica says what it serves"
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, f"{seen}, and had to be {expected}")
    wrong = [f"it was {ended} and had to be {expected}"] if ended != expected else []
    if set(serving) != {wanted}:
        wrong.append(f"replicas serve version {', '.join(serving)} and not {wanted} alone")
    why = "; ".join(wrong) or f"{ended}, as it had to be; every replica serves version {wanted}"
    return verdict(promise, Outcome.BROKEN if wrong else Outcome.KEPT, float(bool(wrong)), None, 1, why)


def requests_lost(promise: Promise, recording: Recording, samples: Samples, by_canary: float | None) -> Verdict:
    """Judge the requests that failed while traffic was shifted, other than by the canary's own answers.

    Args:
        promise: bound as a count.
        recording: of the samples.
        samples: whatever got no prediction counts as failed, the unsent and the unanswered too.
        by_canary: requests that the canary answered with a 5xx; None when nobody counted them. Of those only a 500 reaches a
            user, since the ingress asks a replica in production in place of a canary that is away or not ready.
    """
    n = len(samples)
    failed = n - int(np.count_nonzero(answered(samples)))
    if failed and by_canary is None:
        why = f"{failed:,} of {n:,} requests got no prediction, and nobody counted the canary's own failures"
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, n, why)
    own = min(round(by_canary or 0), int(np.count_nonzero(samples["status"] == HTTPStatus.INTERNAL_SERVER_ERROR)))
    lost = failed - own
    why = f"{failed:,} of {n:,} requests got no prediction, {own:,} of them by the canary's own failure"
    if not promise.comparison.holds(lost, promise.bound):
        return verdict(promise, Outcome.BROKEN, float(lost), None, n, why)
    if missing := incomplete(promise, recording, samples):
        return missing
    if n < promise.least:
        return verdict(promise, Outcome.INCONCLUSIVE, float(lost), None, n, f"{why}; {n:,} of at least {promise.least:,} samples")
    return verdict(promise, Outcome.KEPT, float(lost), None, n, why)
