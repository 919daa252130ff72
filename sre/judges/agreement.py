"""Do the client's samples and the servers' counters tell of the same load? Two sources that disagree prove nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sre.measure.quantiles import latencies, quantile
from sre.measure.samples import Recording, Samples
from sre.readings import ServerCounts

TOLERANCE = 0.01  # of the client's count, for what the terms below do not name: clocks, a probe of someone else
LEAST_COVERED = 0.5  # of the load's length
FIRST_BUCKET, BUCKET_RATIO = 0.005, 2.5  # of the servers' histogram: its lowest edge, and its widest step from edge to edge
_OF_INGRESS = frozenset({429, 502, 503, 504})  # statuses that the ingress also gives by itself, unseen by a replica


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether the sources agree, and if not, sentences on how they differ."""

    agree: bool
    findings: tuple[str, ...]


def agreement(
    recording: Recording, samples: Samples, counted: ServerCounts | None, *, scrape_seconds: float, resend_seconds: float
) -> Agreement:
    """Compare how many requests were answered.

    A request is never slower for the servers than for the client, so their P95 may exceed the client's by one bucket of their
    histogram at most. Replicas are scraped up to `scrape_seconds` apart, so an answer that close to either end of the span may
    be counted or not; the client's own times say how many those are. Further stated errors: a request that the client gave up
    may have been answered; one that the ingress sent to a second replica is counted twice when the first answered 5xx, or late;
    the ingress answers some itself; a counter that began again lost at most one scrape interval.

    Args:
        recording: of the samples.
        samples: the client's view.
        counted: the servers' view; None when there is none.
        scrape_seconds: between two scrapes of one replica.
        resend_seconds: after which the ingress sends an unanswered request to another replica. The first may answer it too, as
            a frozen one does when it runs again, so each request that waited this long may have been counted twice.
    """
    findings = _unusable(recording, samples, counted, scrape_seconds)
    if counted is None or findings:
        return Agreement(agree=False, findings=findings)
    done = np.sort(samples["done"][samples["status"] > 0]) - recording.started + recording.started_wall

    def answered(start: float, end: float) -> int:
        return int(np.searchsorted(done, end) - np.searchsorted(done, start))

    surely = answered(counted.start + scrape_seconds, counted.end - scrape_seconds)
    perhaps = answered(counted.start - scrape_seconds, counted.end + scrape_seconds)
    slack = TOLERANCE * perhaps
    by_ingress = int(np.count_nonzero(np.isin(samples["status"], list(_OF_INGRESS))))
    given_up = int(np.count_nonzero(samples["status"] == 0))
    lost = counted.resets * _most_in(done, scrape_seconds)
    resent = int(np.count_nonzero(samples["done"] - samples["sent"] >= resend_seconds))
    low, high = surely - by_ingress - lost - slack, perhaps + given_up + counted.errors + resent + slack
    if low <= 0:
        return Agreement(agree=False, findings=(f"the stated error is as large as the {perhaps:,} answers themselves",))
    differences = []
    if not low <= counted.requests <= high:
        differences.append(
            f"the client saw between {surely:,} and {perhaps:,} answers, the servers counted {counted.requests:,.0f},"
            f" outside {low:,.0f} to {high:,.0f}"
        )
    internal = int(np.count_nonzero(samples["status"] == 500))
    if internal > counted.errors + lost + (perhaps - surely) + TOLERANCE * internal:
        differences.append(
            f"the client saw {internal:,} answers with status 500, the servers counted {counted.errors:,.0f} errors"
        )
    seen = quantile(latencies(samples), 0.95)
    if counted.p95 is not None and counted.p95 > max(FIRST_BUCKET, BUCKET_RATIO * seen):
        differences.append(f"the servers' own P95 of {counted.p95 * 1000:.0f} ms is more than users waited, {seen * 1000:.0f} ms")
    return Agreement(agree=not differences, findings=tuple(differences))


def _unusable(recording: Recording, samples: Samples, counted: ServerCounts | None, scrape_seconds: float) -> tuple[str, ...]:
    if counted is None:
        return ("the servers' counters could not be read, so the client's samples stand alone",)
    if not len(samples):
        return ("the client recorded nothing",)
    if not all(
        math.isfinite(number) and number >= 0 for number in (counted.start, counted.end, counted.requests, counted.errors)
    ):
        return (f"the servers' counters are not numbers: {counted.requests} requests, {counted.errors} errors",)
    length = recording.ended - recording.started
    covered = min(counted.end, recording.started_wall + length) - max(counted.start, recording.started_wall)
    if covered < LEAST_COVERED * length or counted.end - counted.start <= 2 * scrape_seconds:
        return (f"the servers' counters cover {max(0.0, covered):.0f} s of a load of {length:.0f} s",)
    return ()


def _most_in(done: np.ndarray[tuple[int], np.dtype[np.float64]], seconds: float) -> int:
    # The most answers in any span of that length: what one counter can lose at worst.
    return int((np.searchsorted(done, done + seconds) - np.arange(len(done))).max(initial=0))
