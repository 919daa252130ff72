"""Months of traffic, made up: what happened is known to the event, and so is what should be said about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sre.judges.budget import Counts, Floats, Goal
from sre.slo.windows import DAY_S, HOUR_S, MINUTE_S

TARGET = 0.999
ALLOWED = 0.001
PERIOD_S = 30 * DAY_S
GOAL = Goal(target=TARGET, period=PERIOD_S)


@dataclass(frozen=True, slots=True)
class Incident:
    """A made-up incident.

    Attributes:
        start, end: s from the beginning.
        share: of requests that fail meanwhile.
    """

    start: float
    end: float
    share: float


def ends(count: int, step: float) -> Floats:
    """The ends of `count` steps of `step` s, shape (n,)."""
    return np.arange(1.0, count + 1.0) * step


def daily(at: Floats, mean: float, swing: float) -> Floats:
    """Requests a second that swing once a day around a mean, from it divided by to it times about `swing`, shape (n,)."""
    wave = swing ** np.sin(2 * np.pi * at / DAY_S)
    return np.asarray(mean * wave / wave.mean())


def incidents(seed: int, days: int, number: int) -> tuple[Incident, ...]:
    """Incidents of any size, from 0.05 % to total, and from a minute to a day: evenly spread on logarithmic scales."""
    rng = np.random.default_rng([seed, 1])
    starts = np.sort(rng.uniform(0, days * DAY_S, number))
    lasting = np.exp(rng.uniform(np.log(MINUTE_S), np.log(DAY_S), number))
    shares = np.exp(rng.uniform(np.log(0.0005), 0.0, number))
    ends = np.minimum(starts + lasting, days * DAY_S)
    return tuple(Incident(*one) for one in zip(starts.tolist(), ends.tolist(), shares.tolist(), strict=True))


def share(at: Floats, base: float, happened: tuple[Incident, ...]) -> Floats:
    """Share of requests that fail in each step, shape (n,)."""
    found = np.full(len(at), base)
    for one in happened:
        found = np.maximum(found, np.where((at > one.start) & (at <= one.end), one.share, 0.0))
    return found


def counts(seed: int, rate: Floats, failing: Floats, step: float) -> Counts:
    """Poisson requests and binomial failures of steps of `step` s, at `rate` a second each."""
    rng = np.random.default_rng([seed, 2])
    total = rng.poisson(rate * step)
    bad = rng.binomial(total, failing)
    return Counts(0.0, ends(len(rate), step), bad.astype(np.float64), total.astype(np.float64))


def office(seed: int, days: int, step: float) -> Counts:
    """A service that sleeps at night: 20 requests a second by day, 5 at its edges. 0.05 % fail, and 4 % for an hour of day 2."""
    at = ends(int(days * DAY_S / step), step)
    hour = at % DAY_S / HOUR_S
    rate = np.where((hour > 8) & (hour <= 20), np.where((hour > 9) & (hour <= 19), 20.0, 5.0), 0.0)
    failing = share(at, 0.0005, (Incident(DAY_S + 12 * HOUR_S, DAY_S + 13 * HOUR_S, 0.04),))
    return counts(seed, rate, failing, step)
