"""From a fault to full service: what the observers saw, and what the users did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sre.measure.quantiles import answered
from sre.measure.samples import Samples


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the replicas.

    Attributes:
        at: monotonic s, taken after the answer came.
        ready: replicas that were ready; one that the fault hit counts only under its new identity.
    """

    at: float
    ready: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What users noticed between a fault and full service.

    Attributes:
        requests: under way at the fault, or planned from there to the end of the span.
        failed: of them.
        first_success: s from the fault to the first prediction for a request planned after it; None when there was none.
    """

    requests: int
    failed: int
    first_success: float | None


def full_service(
    observations: Sequence[Observation], *, fault: float, replicas: int, held: float, longest_gap: float
) -> float | None:
    """Seconds from the fault to the start of the first span in which all replicas were ready, and stayed so for `held` s.

    The span begins with the observation that first saw it, so the time between two looks counts against the system. Looks that
    lie more than `longest_gap` s apart prove nothing about the time between: the span then begins anew.

    Args:
        observations: ordered by time.
        fault: monotonic s.
        replicas: how many full service has; at least one.
        held: s; returning and failing again at once is not recovery.
        longest_gap: s.

    Returns:
        None when no such span was seen.
    """
    begun: float | None = None
    last = fault
    for seen in observations:
        if seen.at < fault:
            continue
        if seen.ready < max(1, replicas):
            begun = None
        elif begun is None or seen.at - last > longest_gap:
            begun = seen.at
        if begun is not None and seen.at - begun >= held:
            return begun - fault
        last = seen.at
    return None


def impact(samples: Samples, *, fault: float, end: float) -> Impact:
    """What users noticed from `fault` to `end`, monotonic s."""
    touched = samples[~(samples["done"] < fault) & (samples["planned"] < end)]
    good = answered(touched)
    after = touched["done"][good & (touched["planned"] >= fault)]
    return Impact(
        requests=len(touched),
        failed=int(np.count_nonzero(~good)),
        first_success=float(after.min()) - fault if len(after) else None,
    )
