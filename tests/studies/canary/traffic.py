"""Seeded traffic of two arms, many runs side by side: counts per look, no clock.

A run is a column. Every condition but `ratio`, `tail`, `slower` and `shift` treats both arms alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The default buckets of Prometheus' client libraries, s.
EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MEDIAN_S, SPREAD = 0.045, 0.6  # of the lognormal latency: median, and standard deviation of its logarithm
TAIL_S = 1.0

_BLOCK = 64  # looks drawn at once
_DAY_S = 86_400.0
_NODE_BURST = 20.0  # errors of a bad node, mean
_OUTAGE = 200.0  # an outage multiplies the rate by this


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Failed requests of two arms.

    Attributes:
        runs: columns.
        looks: rows.
        every_s: between looks, s.
        canary_per_s, control_per_s: requests.
        base: share of the control's requests that fail.
        ratio: the canary's share of failures over the control's.
        cluster: mean of a geometric number of failures that come at once, in one arm; 1 for one by one.
        bad_node: probability, per look and arm, that one of its nodes fails about 20 requests.
        diurnal: highest over lowest rate within 24 h.
        outages: probability per look that something both arms use is down.
        resets: probability per look and arm that a process ends and what it counted since the look before is lost in part.
        missed: probability per look that nothing is scraped; the next look shows both.
    """

    runs: int
    looks: int
    every_s: float = 15.0
    canary_per_s: float = 100.0
    control_per_s: float = 100.0
    base: float = 0.001
    ratio: float = 1.0
    cluster: float = 1.0
    bad_node: float = 0.0
    diurnal: float = 1.0
    outages: float = 0.0
    resets: float = 0.0
    missed: float = 0.0

    @property
    def share(self) -> float:
        """The canary's share of what the two arms get together."""
        return self.canary_per_s / (self.canary_per_s + self.control_per_s)

    def draw(self, seed: int) -> Iterator[tuple[Ints, Ints]]:
        """Failures of the canary and of the control per look, each of shape (runs,)."""
        rng = np.random.default_rng(seed)
        held = np.zeros((2, self.runs), dtype=np.int64)
        for start in range(0, self.looks, _BLOCK):
            looks = np.arange(start, min(start + _BLOCK, self.looks))
            block = self._block(rng, looks)
            if self.missed:
                seen = rng.random((len(looks), self.runs)) >= self.missed
                for row, there in zip(block, seen, strict=True):
                    held += row
                    yield held[0] * there, held[1] * there
                    held *= ~there
            else:
                yield from ((row[0], row[1]) for row in block)

    def _block(self, rng: np.random.Generator, looks: Ints) -> Ints:
        """Shape (looks, 2, runs)."""
        size = (len(looks), 2, self.runs)
        swing = (self.diurnal - 1.0) / (self.diurnal + 1.0)
        day = 1.0 + swing * np.sin(2 * math.pi * looks * self.every_s / _DAY_S)
        arms = np.array([self.canary_per_s * self.ratio, self.control_per_s]) * self.base * self.every_s
        mean = (day[:, None] * arms)[:, :, None]
        if self.outages:
            down = rng.random((len(looks), 1, self.runs)) < self.outages
            mean = mean * np.where(down, _OUTAGE, 1.0)
        happened = rng.poisson(mean / self.cluster, size)
        found = happened
        if self.cluster > 1.0:
            extra = rng.negative_binomial(np.maximum(happened, 1), 1.0 / self.cluster)
            found = happened + np.where(happened > 0, extra, 0)
        if self.bad_node:
            found = found + np.where(rng.random(size) < self.bad_node, rng.poisson(_NODE_BURST, size), 0)
        if self.resets:
            kept = np.where(rng.random(size) < self.resets, rng.random(size), 1.0)
            found = rng.binomial(found, kept)
        return found


def latency_shares(*, slower: float = 1.0, tail: float = 0.0) -> Floats:
    """Share of requests per bucket of EDGES_S and above, shape (12,).

    Args:
        slower: factor on every latency.
        tail: share of requests that take about TAIL_S, between 1 and 2.5 s, in place of their own time.
    """
    cumulative = ndtr(np.log(np.asarray(EDGES_S) / (MEDIAN_S * slower)) / SPREAD)
    shares = np.diff(cumulative, prepend=0.0, append=1.0) * (1.0 - tail)
    shares[EDGES_S.index(TAIL_S) + 1] += tail
    return np.asarray(shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Categories:
    """Observations in categories, of two arms: latency buckets, predicted classes.

    Attributes:
        runs, looks: see `Errors`.
        canary, control: shares per category, shape (categories,).
        canary_per_look, control_per_look: observations; exact, as in a recording cut by number.
    """

    runs: int
    looks: int
    canary: Floats
    control: Floats
    canary_per_look: int
    control_per_look: int

    @property
    def share(self) -> float:
        """The canary's share of what the two arms get together."""
        return self.canary_per_look / (self.canary_per_look + self.control_per_look)

    def draw(self, seed: int) -> Iterator[tuple[Ints, Ints]]:
        """Counts per look of the canary and of the control, each of shape (runs, categories)."""
        rng = np.random.default_rng(seed)
        for _ in range(self.looks):
            yield (
                rng.multinomial(self.canary_per_look, self.canary, self.runs),
                rng.multinomial(self.control_per_look, self.control, self.runs),
            )


def class_shares(*, classes: int = 10, shift: float = 0.0) -> Floats:
    """Shares of predicted classes: equal, then `shift` taken from all others and given to the first. Shape (classes,)."""
    shares = np.full(classes, 1.0 / classes) - shift / (classes - 1)
    shares[0] = 1.0 / classes + shift
    return shares
