"""Every metric name, label and histogram edge, and the fields of a log line.

With several processes per replica the launcher sets PROMETHEUS_MULTIPROC_DIR before this module is imported: the metrics then
live in files that all of them share, and `exposition()` adds them up, whichever process answers the scrape.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import orjson
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

SERVICE = "ml-api"
EXPOSITION_TYPE = CONTENT_TYPE_LATEST
STAGES = ("preprocess", "inference", "postprocess")
UNMATCHED = "unmatched"  # path label of everything that is no route: raw paths would be an unbounded label
# Close together where answers lie, so that a version that is a third slower fills other buckets.
REQUEST_EDGES_S = (
    0.0005, 0.0007, 0.001, 0.0014, 0.0018, 0.0025, 0.0035, 0.005, 0.007, 0.01, 0.014, 0.018, 0.025, 0.035, 0.05, 0.07,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
STAGE_EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
CONFIDENCE_EDGES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
BRIGHTNESS_EDGES = tuple(float(edge) for edge in range(16, 256, 16))
BYTES_EDGES = tuple(1000.0 * 2**power for power in range(14))  # 1 KB to 8 MB

_BEGAN_S = time.monotonic()

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["method", "path", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "http_request_duration_seconds", "Head in to last byte out", ["path"], buckets=REQUEST_EDGES_S, registry=REGISTRY
)
REQUEST_ERRORS = Counter(
    "http_request_errors_total",
    "Requests that the service failed: status 5xx, or refused because too much was waiting",
    ["path", "status"],
    registry=REGISTRY,
)
PREDICTION_SECONDS = Histogram(
    "model_prediction_duration_seconds", "Image bytes to probabilities", buckets=STAGE_EDGES_S, registry=REGISTRY
)
PREDICTIONS = Counter("model_predictions_total", "Images predicted", ["model_version"], registry=REGISTRY)
MODEL_VERSION = Gauge("model_version", "Version that is served; 0 while none is", registry=REGISTRY, multiprocess_mode="livemax")
STAGE_SECONDS = Histogram(
    "request_stage_duration_seconds", "One stage of a prediction", ["stage"], buckets=STAGE_EDGES_S, registry=REGISTRY
)
for _stage in STAGES:
    STAGE_SECONDS.labels(_stage)
RECORDS_WRITTEN = Counter("model_prediction_records_written_total", "Predictions written to the database", registry=REGISTRY)
RECORDS_DROPPED = Counter(
    "model_prediction_records_dropped_total", "Predictions that never reached the database", registry=REGISTRY
)
RECORDS_WAITING = Gauge(
    "model_prediction_records_waiting", "Predictions not yet written", registry=REGISTRY, multiprocess_mode="livesum"
)
API_KEYS_STALE = Gauge(
    "api_keys_stale",
    "1 while the file of API keys is broken and the keys from before stay in use",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
MODEL_VARIANT = Gauge(
    "model_variant",
    "1 for the version and variant that is served, 0 for those from before",
    ["model_version", "variant"],
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
PROCESS_STARTED = Gauge(
    "process_start_time_seconds",
    "When the newest process of the replica began, seconds since the epoch; it changes when one was started again",
    registry=REGISTRY,
    multiprocess_mode="max",
)
IN_FLIGHT = Gauge("http_requests_in_flight", "Requests begun and not answered", registry=REGISTRY, multiprocess_mode="livesum")
SPANS_EXPORTED = Counter("trace_spans_exported_total", "Spans that the collector took", registry=REGISTRY)
SPANS_DROPPED = Counter("trace_spans_dropped_total", "Spans of sampled requests that never reached it", registry=REGISTRY)
PREDICTED_CLASSES = Counter(
    "model_predicted_classes_total", "Images predicted, by their best class", ["model_version", "label"], registry=REGISTRY
)
CONFIDENCE = Histogram(
    "model_confidence", "Probability of the best class", ["model_version"], buckets=CONFIDENCE_EDGES, registry=REGISTRY
)
INPUT_BRIGHTNESS = Histogram(
    "model_input_brightness",
    "Mean pixel, 0 to 255, of one image in 16",
    ["model_version"],
    buckets=BRIGHTNESS_EDGES,
    registry=REGISTRY,
)
INPUT_BYTES = Histogram(
    "model_input_bytes", "Size, as it was sent, of one image in 16", ["model_version"], buckets=BYTES_EDGES, registry=REGISTRY
)


def expect(path: str) -> None:
    """Show every counter of one predicting route as 0: one that first appears as 1 has no increase in Prometheus."""
    for status in ("200", "400", "401", "403", "404", "408", "413", "415", "429", "431", "499", "500", "503"):
        REQUESTS.labels("POST", path, status)
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"):
        REQUESTS.labels(method, path, "405")
    for status in ("429", "500", "503"):
        REQUEST_ERRORS.labels(path, status)
    REQUEST_SECONDS.labels(path)


expect("/predict")


async def report_in_flight(in_flight: Callable[[], int], every_s: float = 1.0) -> None:
    """Show for ever how many requests are in flight: counting each in and out would cost more than all else about it."""
    while True:
        IN_FLIGHT.set(in_flight())
        await asyncio.sleep(every_s)


_served: list[Gauge] = []


def serving(version: str, variant: str) -> None:
    """Say what is served from now on."""
    MODEL_VERSION.set(float(version))
    while _served:
        _served.pop().set(0)
    _served.append(MODEL_VARIANT.labels(version, variant))
    _served[-1].set(1)


# hot reload, A/B and shadow: loader.py and traffic.py
ROLES = ("production", "challenger")
CHALLENGER_VERSION = Gauge(
    "model_challenger_version",
    "Version of the second model; 0 while there is none",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
_MODELS_TAKEN = Counter("model_taken_total", "Models taken into service", ["role"], registry=REGISTRY)
_MODELS_REFUSED = Counter("model_refused_total", "Registered models that were not fit to serve", ["role"], registry=REGISTRY)
_SHADOW_PREDICTIONS = Counter(
    "shadow_predictions_total", "Images that the challenger answered unseen", ["model_version"], registry=REGISTRY
)
_SHADOW_AGREEMENTS = Counter(
    "shadow_agreements_total", "Those for which it named the class that production named", ["model_version"], registry=REGISTRY
)
_SHADOW_FAILURES = Counter(
    "shadow_failures_total", "Requests that the challenger could not answer", ["model_version"], registry=REGISTRY
)
_SHADOW_DIFFERENCE = Histogram(
    "shadow_probability_difference",
    "Largest difference between the probabilities of the two for one image",
    ["model_version"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    registry=REGISTRY,
)
SHADOW_DROPPED = Counter("shadow_dropped_total", "Requests not shown to the challenger: too many waited", registry=REGISTRY)


@cache
def models_taken(role: str) -> Counter:
    """The child of `model_taken_total`."""
    return _MODELS_TAKEN.labels(role)


@cache
def models_refused(role: str) -> Counter:
    """The child of `model_refused_total`."""
    return _MODELS_REFUSED.labels(role)


class ShadowMetrics:
    """What is known about one challenger that answers unseen, bound to its version."""

    def __init__(self, model_version: str) -> None:
        self.predictions = _SHADOW_PREDICTIONS.labels(model_version)
        self.agreements = _SHADOW_AGREEMENTS.labels(model_version)
        self.failures = _SHADOW_FAILURES.labels(model_version)
        self.difference = _SHADOW_DIFFERENCE.labels(model_version)


for _role in ROLES:
    models_taken(_role)
    models_refused(_role)


class PodUsage(Collector):
    """CPU and memory of the replica's processes, read at scrape from `/proc`.

    `pod_cpu_usage` is in cores, averaged since the scrape before (at first: since the start).
    `pod_memory_usage` is in resident bytes.
    """

    def __init__(self, family_of: int | None = None) -> None:
        """With `family_of`, that process and its children are counted; without, this process alone."""
        self._family_of = family_of
        self._then_s = _BEGAN_S
        self._cpu_then_s = 0.0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Two gauges."""
        cpu_s, memory_bytes, now_s = 0.0, 0, time.monotonic()
        for pid in self._pids():
            try:
                # the name in field 2 may hold spaces, so count from behind it: utime, stime and rss are fields 14, 15 and 24
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:  # it ended between the listing and the reading
                continue
            cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            memory_bytes += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        # a worker that died takes its CPU time out of the sum: report no negative usage
        cores = max(0.0, cpu_s - self._cpu_then_s) / max(now_s - self._then_s, 1e-3)
        self._then_s, self._cpu_then_s = now_s, cpu_s
        yield GaugeMetricFamily("pod_cpu_usage", "CPU cores in use by the replica, averaged since the last scrape", value=cores)
        yield GaugeMetricFamily("pod_memory_usage", "Resident memory of the replica, in bytes", value=memory_bytes)

    def _pids(self) -> list[int]:
        if self._family_of is None:
            return [os.getpid()]
        children = Path(f"/proc/{self._family_of}/task/{self._family_of}/children").read_text(encoding="ascii")
        return [self._family_of, *map(int, children.split())]


@cache
def _scraped() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        REGISTRY.register(PodUsage())
        return REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    shared.register(PodUsage(family_of=os.getppid()))
    return shared


def exposition() -> bytes:
    """All metrics of the replica in Prometheus's text format (`EXPOSITION_TYPE`)."""
    return generate_latest(_scraped())


class JsonLines(logging.Formatter):
    """One JSON object per record: timestamp, level, service, pod, message, and those of FIELDS that the record carries."""

    FIELDS = (
        "trace_id",
        "span_id",
        "request_id",
        "method",
        "path",
        "status",
        "duration_ms",
        "model_version",
        "variant",
        "key",
        "code",
        "unlogged",
    )

    def __init__(self, pod: str) -> None:
        super().__init__()
        self._pod = pod

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "service": SERVICE,
            "pod": self._pod,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in self.FIELDS if name in record.__dict__}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: str, pod: str) -> None:
    """Send every record of at least `level` to stdout as JSON lines. Libraries speak from WARNING on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(pod))
    logging.basicConfig(level="WARNING", handlers=[handler], force=True)
    logging.getLogger("system").setLevel(level)
