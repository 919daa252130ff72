"""Quantiles of what users waited, and the 95 % interval of a figure whose samples are not independent.

Requests planned one after the other meet the same queue, so the interval comes from a block bootstrap: whole blocks of
consecutive planned time are drawn with replacement (Künsch 1989; fixed block length, 95 % percentile interval). It is fast for
600,000 samples because each block is a histogram and a resample is a weighting of the blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sre.measure.samples import Failure, Samples

Floats = npt.NDArray[np.float64]

BLOCKS = 60
LEAST_BLOCKS = 10  # with fewer, a percentile of resamples says nothing
SHORTEST_BLOCK_SECONDS = 1.0
_RESAMPLES = 1000
_SEED = 20_260_101
_TAIL = 0.025
# Bins grow by 0.1 %: no resample is off by more, and the upper edge is taken, against ourselves.
_GROWTH = math.log1p(0.001)
_SMALLEST_SECONDS = 1e-5
_BINS = math.ceil(
    math.log(1e8) / _GROWTH
)  # up to 1,000 s; what is longer, infinity included, has the last bin and reads infinite
_CHUNK = 100  # resamples at a time, so that memory stays below 20 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and its 95 % interval; `interval` is None when there were too few blocks for one."""

    value: float
    interval: tuple[float, float] | None


def answered(samples: Samples) -> npt.NDArray[np.bool_]:
    """Who got a prediction, shape (n,). A record without a time, or with one before its plan, proves no answer."""
    possible = np.isfinite(samples["done"]) & (samples["done"] >= samples["planned"])
    got: npt.NDArray[np.bool_] = possible & (samples["failure"] == Failure.NONE)
    return got


def latencies(samples: Samples) -> Floats:
    """What each user waited from the planned send, s, shape (n,); infinite for whoever got no prediction: never absent."""
    return np.where(answered(samples), samples["done"] - samples["planned"], np.inf)


def quantile(values: Floats, q: float) -> float:
    """The smallest value that at least a share `q` of `values` does not exceed; NaN of nothing. Never interpolated."""
    return float(np.quantile(values, q, method="inverted_cdf")) if len(values) else math.nan


def blocks(times: Floats, start: float, end: float) -> tuple[npt.NDArray[np.int64], int]:
    """Cut a span into blocks of equal length, at most BLOCKS and none shorter than SHORTEST_BLOCK_SECONDS.

    Args:
        times: s, shape (n,), on the same clock as `start` and `end`.
        start: of the span, s.
        end: of the span, s.

    Returns:
        The block of each time, shape (n,), and the number of blocks.
    """
    span = end - start
    count = max(1, min(BLOCKS, int(span / SHORTEST_BLOCK_SECONDS))) if span > 0 else 1
    position = (times - start) / (span if span > 0 else 1.0) * count
    return np.clip(position, 0, count - 1).astype(np.int64), count


def estimate_quantile(planned: Floats, waited: Floats, q: float, start: float, end: float) -> Estimate:
    """A quantile with its interval: the value exact, the interval within 0.1 %.

    Args:
        planned: when each request was planned, monotonic s, shape (n,).
        waited: from `latencies`, s, shape (n,).
        q: for example 0.95.
        start: of the span in which requests were planned, monotonic s.
        end: of that span.
    """
    value = quantile(waited, q)
    block, count = blocks(planned, start, end)
    if count < LEAST_BLOCKS or not len(waited):
        return Estimate(value, None)
    with np.errstate(divide="ignore"):  # a latency of zero
        bins = np.clip(np.ceil(np.log(waited / _SMALLEST_SECONDS) / _GROWTH), 0, _BINS).astype(np.int64)
    used, column = np.unique(bins, return_inverse=True)
    edges = np.where(used < _BINS, _SMALLEST_SECONDS * np.exp(used * _GROWTH), np.inf)
    flat = np.bincount(block * len(used) + column, minlength=count * len(used))
    histogram = flat.reshape(count, len(used)).astype(np.float64)
    chunks = np.split(_weights(count), _RESAMPLES // _CHUNK)
    # einsum, not @: BLAS starts threads that wait for each other on a machine whose cores are busy serving.
    drawn = np.concatenate([_first_at_least(np.einsum("rb,bk->rk", chunk, histogram), q) for chunk in chunks])
    return Estimate(value, _percentiles(edges[drawn], value))


def estimate_mean(values: Floats) -> Estimate:
    """The mean of one figure per block, for example answers a second, with its interval."""
    if not len(values):
        return Estimate(math.nan, None)
    value = float(values.mean())
    if len(values) < LEAST_BLOCKS:
        return Estimate(value, None)
    return Estimate(value, _percentiles(_weights(len(values)) @ values / len(values), value))


def _weights(count: int) -> Floats:
    # How often each block is drawn in each resample, shape (resamples, blocks).
    return np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float64)


def _first_at_least(counts: Floats, q: float) -> npt.NDArray[np.intp]:
    # A resample may consist of empty blocks only; it then reads the last bin, the worst.
    cumulative = np.cumsum(counts, axis=1)
    reached = (cumulative >= q * cumulative[:, -1:]) & (cumulative > 0)
    first: npt.NDArray[np.intp] = np.where(reached.any(axis=1), np.argmax(reached, axis=1), counts.shape[1] - 1)
    return first


def _percentiles(drawn: Floats, value: float) -> tuple[float, float]:
    low = float(np.quantile(drawn, _TAIL, method="lower"))
    high = float(np.quantile(drawn, 1 - _TAIL, method="higher"))
    return min(low, value), max(high, value)
