"""W3C trace context (https://www.w3.org/TR/trace-context-2/) and the export of spans, which no request waits for.

`tracestate` is neither read nor kept: it is for calls that go further, and answering a request makes none.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from system.telemetry import SERVICE, SPANS_DROPPED, SPANS_EXPORTED

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_TIMEOUT_S = 5.0
_BATCH = 512

# Ids are no secrets: they must only never repeat. 128 random bits of a generator that each process seeds from the
# system's randomness do that, at a fifth of what uuid4 costs; a generator of our own, so that nobody's `random.seed` meets it.
_random = Random()  # noqa: S311 - see above
os.register_at_fork(after_in_child=_random.seed)

_SAMPLED = 0x01
_RANDOM = 0x02  # level 2: the trace id has at least 56 random bits
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


class Trace(NamedTuple):
    """One request's place in a trace.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits.
        span_id: of this request, 16 digits.
        parent_id: of the span that sent it, 16 digits; empty when this request began the trace.
        flags: as sent on: bit 0 is "sampled", bit 1 "the trace id is random".
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: int = _RANDOM

    @property
    def sampled(self) -> bool:
        """Whether a span of this request leaves."""
        return bool(self.flags & _SAMPLED)

    def header(self) -> bytes:
        """`traceparent` with our span: the value by which a client finds this request."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}".encode()


def draw(traceparent: bytes | None, share: float) -> tuple[str, Trace]:
    """A new request id (32 hexadecimal digits) and the request's place in its trace, from one draw of random bits.

    A parent that is not well formed counts as none, as the standard demands. The sender's decision to sample is kept;
    of the requests without a parent, `share` are sampled.
    """
    parent = _PARENT.fullmatch(traceparent) if traceparent is not None else None
    if parent is not None and (parent[1] != b"00" or parent[5] is None):  # only later versions may be longer
        digits = f"{_random.getrandbits(192):048x}"
        flags = int(parent[4], 16) & (_SAMPLED | _RANDOM)
        return digits[:32], Trace(parent[2].decode(), digits[32:], parent[3].decode(), flags)
    digits = f"{_random.getrandbits(320):080x}"
    flags = _RANDOM | _SAMPLED if _random.random() < share else _RANDOM
    return digits[:32], Trace(digits[32:64], digits[64:], "", flags)


class Finished(NamedTuple):
    """A sampled request that has been answered. Instants are on the clock of `perf_counter`.

    Attributes:
        name: method and route, as "POST /predict".
        stages: name, begin and end of its parts.
    """

    trace: Trace
    name: str
    began: float
    ended: float
    status: int
    attributes: dict[str, str | int]
    stages: Sequence[tuple[str, float, float]]


class Tracer:
    """Sends finished spans to an OpenTelemetry collector, in a thread of its own.

    Without a URL nothing of OpenTelemetry is imported, and every method does nothing.
    A collector that is away costs the spans, which are counted; requests never notice.

    Attributes:
        share: of the requests that come without a trace, how many are sampled.
    """

    def __init__(self, url: str, *, share: float, replica: str, capacity: int = 2048) -> None:
        """`url` is of OTLP over HTTP, as http://host:4318/v1/traces; `capacity` is the most spans that wait."""
        self.share = share
        self._url = url
        self._replica = replica
        self._capacity = capacity
        self._queue: deque[Finished] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = False

    def offer(self, span: Finished) -> None:
        """Queue a span, or count it as dropped when the queue is full."""
        if not self._url:
            return
        if len(self._queue) >= self._capacity:
            SPANS_DROPPED.inc()
            return
        self._queue.append(span)

    def start(self) -> None:
        """Begin to export."""
        if not self._url:
            return
        # here and not in the thread: an import of a third of a second there would stall the first requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would say once a second what is said here once
        self._exporter = OTLPSpanExporter(endpoint=self._url, timeout=_TIMEOUT_S)
        self._resource = Resource.create({"service.name": SERVICE, "service.instance.id": self._replica})
        self._thread = threading.Thread(target=self._run, name="tracer", daemon=True)
        self._thread.start()

    def stop(self, *, within_s: float) -> None:
        """Export what waits, for at most about `within_s`; the rest is dropped and counted."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join(within_s)
        self._exporter.shutdown()  # type: ignore[no-untyped-call] # ends its pause between two attempts, if it is in one
        SPANS_DROPPED.inc(len(self._take(self._capacity)))

    def _run(self) -> None:
        while True:
            stopping = self._stopping.wait(_INTERVAL_S)
            while (batch := self._take(_BATCH)) and self._export(batch):
                pass
            if stopping:
                break

    def _take(self, most: int) -> list[Finished]:
        batch: list[Finished] = []
        with suppress(IndexError):  # another thread may take the last one first
            while len(batch) < most:
                batch.append(self._queue.popleft())
        return batch

    def _export(self, batch: list[Finished]) -> bool:
        epoch_s = time.time() - time.perf_counter()
        spans = [span for finished in batch for span in _spans(finished, epoch_s, self._resource)]
        taken = self._exporter.export(spans).name == "SUCCESS"
        (SPANS_EXPORTED if taken else SPANS_DROPPED).inc(len(batch))
        if not taken and not self._away:
            log.warning("the trace collector at ML_OTLP_URL takes no spans; they are dropped and counted until it does")
        self._away = not taken
        return taken


def _spans(finished: Finished, epoch_s: float, resource: Resource) -> list[ReadableSpan]:
    """The request's span, and one below it for each stage. `epoch_s` is when `perf_counter` was 0."""
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - only where spans leave
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415

    def context(span_id: int, *, remote: bool = False) -> SpanContext:
        return SpanContext(int(trace.trace_id, 16), span_id, is_remote=remote, trace_flags=TraceFlags(trace.flags))

    def instant(at: float) -> int:
        return int((epoch_s + at) * 1e9)

    trace = finished.trace
    own = context(int(trace.span_id, 16))
    whole = ReadableSpan(
        finished.name,
        own,
        context(int(trace.parent_id, 16), remote=True) if trace.parent_id else None,
        resource,
        finished.attributes,
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if finished.status >= 500 else StatusCode.UNSET),
        start_time=instant(finished.began),
        end_time=instant(finished.ended),
    )
    stages = [
        ReadableSpan(name, context(_random.getrandbits(64)), own, resource, start_time=instant(began), end_time=instant(ended))
        for name, began, ended in finished.stages
    ]
    return [whole, *stages]
