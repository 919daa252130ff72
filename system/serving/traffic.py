"""The second model's part of the traffic: it answers a share of it (A/B), or answers unseen beside production (shadow)."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt

from system.model.transform import Pixels
from system.serving.priority import give_way
from system.telemetry import SHADOW_DROPPED, ShadowMetrics

log = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float32]
Offered = tuple[Pixels, Probabilities]

CAPACITY = 128  # offers that wait: 19 MB of images of 224 x 224 pixels
_EVERY_S = 0.01  # to wake the thread for every offer would cost the request more than everything else here
_ANSWERED, _SHADOWED = b"challenger", b"shadow"  # separate draws: else the requests that are shadowed were the very ones answered


def challenged(key: str, share: float) -> bool:
    """Whether the challenger answers requests with this key: always the same for one key and share, on every replica.

    Keys fall evenly, and one that is challenged at some share is challenged at every larger one, so that a growing share moves
    nobody back.

    Args:
        key: of the request.
        share: 0 to 1.
    """
    return _drawn(key, share, _ANSWERED)


def _drawn(key: str, share: float, purpose: bytes) -> bool:
    position = int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose).digest(), "big")
    return position < share * 2**64  # exact: a share is only shifted, and Python compares int and float by value


class Challenger(Protocol):
    """A model that answers in one other thread than the requests', at any time."""

    version: str

    def infer_now(self, images: Pixels) -> Probabilities:
        """Float32 (n, classes) for images, uint8 (n, side, side, 3)."""


class Shadow:
    """Shows requests that production answered to the challenger, and counts how far the two agree.

    It never slows or fails a request: `offer` only queues, one thread of lower priority does the rest, what it cannot take in
    time is dropped and counted, and a challenger that raises is counted.
    """

    def __init__(self, challenger: Callable[[], Challenger | None], share: float) -> None:
        """`challenger` gives the one of the moment; `share` of the keys are offered to it, 0 to 1."""
        self._challenger = challenger
        self._share = share
        self._queue: deque[Offered] = deque()
        self._metrics: ShadowMetrics | None = None
        self._version = ""  # of the challenger that the metrics are bound to
        self._complained = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def offer(self, images: Pixels, probabilities: Probabilities, key: str) -> None:
        """Queue what production was asked and what it said; nobody may write into either array afterwards.

        Args:
            images: uint8 (n, side, side, 3).
            probabilities: float32 (n, classes).
            key: of the request.
        """
        if self._challenger() is None or not _drawn(key, self._share, _SHADOWED):
            return
        if len(self._queue) >= CAPACITY:
            SHADOW_DROPPED.inc()
            return
        self._queue.append((images, probabilities))

    def start(self) -> None:
        """Begin to compare, if there is a share to compare."""
        if self._share > 0:
            self._thread.start()

    def stop(self, *, within_s: float) -> None:
        """End after the comparison at hand; what still waits is forgotten."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def _run(self) -> None:
        give_way()
        while not self._stopping.wait(_EVERY_S):
            while self._queue and not self._stopping.is_set():
                self._compare(*self._queue.popleft())

    def _compare(self, images: Pixels, expected: Probabilities) -> None:
        challenger = self._challenger()
        if challenger is None:
            return
        if self._metrics is None or challenger.version != self._version:
            self._metrics, self._version, self._complained = ShadowMetrics(challenger.version), challenger.version, False
        try:
            found = challenger.infer_now(images)
            if found.shape != expected.shape or not np.isfinite(found).all():
                raise ValueError(f"its answer {found.shape} is not {expected.shape} finite numbers")  # noqa: TRY301 - one way to fail
            differences = np.abs(found - expected).max(axis=1).tolist()
            agreements = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
        except Exception:
            self._metrics.failures.inc()
            if not self._complained:
                self._complained = True
                log.exception("version %s could not answer as a shadow; further failures are only counted", challenger.version)
            return
        self._metrics.predictions.inc(len(images))
        self._metrics.agreements.inc(agreements)
        for difference in differences:
            self._metrics.difference.observe(difference)
