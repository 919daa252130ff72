"""What every answer adds to its metrics, past the methods of their library: those check, lock and pack at each of a dozen values.

Nothing is put off: a scrape has every answer that left before it, also those of a process that was killed since.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client.values import MutexValue

from system import telemetry

_INPUTS_EVERY = 16
_GRID = 16  # rows and columns of an image that are enough for its mean


@cache
def _cell(value: Any) -> memoryview[float]:
    """The number behind a value of prometheus_client: one float64, where a scrape reads it.

    Only one thread may add to it, and only by this view. To be asked for in the process that adds: a fork has files of its own.
    """
    if isinstance(value, MutexValue):
        number = memoryview(bytearray(8)).cast("d")
        value.get = lambda: number[0]  # type: ignore[method-assign]
        return number
    value.inc(0)  # opens this process's file, after a fork too
    file, key = value._file, value._key  # noqa: SLF001 - where its own methods write
    at = file._positions[key]  # noqa: SLF001
    return memoryview(file._m)[at : at + 8].cast("d")  # noqa: SLF001


class Tally:
    """A counter's child that one thread adds to."""

    __slots__ = ("_cell",)

    def __init__(self, child: Any) -> None:
        self._cell = _cell(child._value)  # noqa: SLF001

    def inc(self, amount: float = 1) -> None:
        """Add to it."""
        self._cell[0] += amount


class Spread:
    """A histogram's child that one thread adds to."""

    __slots__ = ("_cells", "_edges", "_sum")

    def __init__(self, child: Any) -> None:
        self._edges = tuple(child._upper_bounds)  # noqa: SLF001 - the last is infinite
        self._cells = [_cell(bucket) for bucket in child._buckets]  # noqa: SLF001
        self._sum = _cell(child._sum)  # noqa: SLF001

    def observe(self, amount: float) -> None:
        """Add one observation."""
        self._cells[bisect_left(self._edges, amount)][0] += 1
        self._sum[0] += amount


@cache
def requests(method: str, path: str, status: int) -> Tally:
    """The child of `http_requests_total`, looked up once. `path` is a route, never what the client sent."""
    return Tally(telemetry.REQUESTS.labels(method, path, str(status)))


@cache
def request_seconds(path: str) -> Spread:
    """The child of `http_request_duration_seconds`."""
    return Spread(telemetry.REQUEST_SECONDS.labels(path))


@cache
def request_errors(path: str, status: int) -> Tally:
    """The child of `http_request_errors_total`."""
    return Tally(telemetry.REQUEST_ERRORS.labels(path, str(status)))


class ModelMetrics:
    """What one loaded model counts, its children looked up once. All of them are there, as 0, before its first answer."""

    def __init__(self, version: str, labels: Sequence[str]) -> None:
        """To be made in the process that answers."""
        self._predicted = Tally(telemetry.PREDICTIONS.labels(version))
        self._classes = [Tally(telemetry.PREDICTED_CLASSES.labels(version, label)) for label in labels]
        self._confident = Spread(telemetry.CONFIDENCE.labels(version))
        self._stages = [Spread(telemetry.STAGE_SECONDS.labels(stage)) for stage in telemetry.STAGES]
        self._whole = Spread(telemetry.PREDICTION_SECONDS)
        self._brightness = Spread(telemetry.INPUT_BRIGHTNESS.labels(version))
        self._size = Spread(telemetry.INPUT_BYTES.labels(version))
        self._unseen = _INPUTS_EVERY  # the first one is looked at

    def answered(self, best: int, confidence: float) -> None:
        """Count one image's answer: the index of its best class, and that class's probability."""
        self._predicted.inc()
        self._classes[best].inc()
        self._confident.observe(confidence)

    def took(self, began: float, decoded: float, inferred: float, ended: float) -> None:
        """Time the stages of one request, by the instants between them."""
        preprocess, inference, postprocess = self._stages
        preprocess.observe(decoded - began)
        inference.observe(inferred - decoded)
        postprocess.observe(ended - inferred)
        self._whole.observe(ended - began)

    def saw(self, images: npt.NDArray[np.uint8], contents: Sequence[tuple[bytes, str]]) -> None:
        """Look at the inputs of one request, which is done for one image in 16: enough to see a drift, too few to cost.

        Args:
            images: uint8 (n, side, side, 3), n >= 1.
            contents: each image as it was sent, with its media type.
        """
        self._unseen += len(contents)
        if self._unseen >= _INPUTS_EVERY:
            self._unseen = 0
            step = max(1, images.shape[1] // _GRID)
            # not numpy's mean: its code has left the processor's caches between two looks, and is long in coming back
            seen = images[-1, step // 2 :: step, step // 2 :: step].tobytes()
            self._brightness.observe(sum(seen) / len(seen))
            self._size.observe(sum([len(content) for content, _ in contents]) / len(contents))
