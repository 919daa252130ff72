"""Every metric name, label and histogram edge, and the fields of a log line.

With several processes per replica the launcher sets PROMETHEUS_MULTIPROC_DIR before this module is imported: the metrics then
live in files that all of them share, and `exposition()` adds them up, whichever process answers the scrape.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
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
REQUEST_EDGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_EDGES_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)

_BEGAN_S = time.monotonic()

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["method", "path", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "http_request_duration_seconds", "First byte in to last byte out", ["path"], buckets=REQUEST_EDGES_S, registry=REGISTRY
)
REQUEST_ERRORS = Counter(
    "http_request_errors_total", "Requests that the service failed: status 5xx", ["path", "status"], registry=REGISTRY
)
PREDICTION_SECONDS = Histogram(
    "model_prediction_duration_seconds", "Image bytes to probabilities", buckets=STAGE_EDGES_S, registry=REGISTRY
)
PREDICTIONS = Counter("model_predictions_total", "Images predicted", ["model_version"], registry=REGISTRY)
MODEL_VERSION = Gauge("model_version", "Version that is served; 0 while none is", registry=REGISTRY, multiprocess_mode="livemax")
_STAGE_SECONDS = Histogram(
    "request_stage_duration_seconds", "One stage of a prediction", ["stage"], buckets=STAGE_EDGES_S, registry=REGISTRY
)
STAGE_SECONDS = {stage: _STAGE_SECONDS.labels(stage) for stage in STAGES}
RECORDS_WRITTEN = Counter("model_prediction_records_written_total", "Predictions written to the database", registry=REGISTRY)
RECORDS_DROPPED = Counter(
    "model_prediction_records_dropped_total", "Predictions that never reached the database", registry=REGISTRY
)
RECORDS_WAITING = Gauge(
    "model_prediction_records_waiting", "Predictions not yet written", registry=REGISTRY, multiprocess_mode="livesum"
)


@cache
def requests(method: str, path: str, status: int) -> Counter:
    """The child of `http_requests_total`, looked up once. `path` is a route, never what the client sent."""
    return REQUESTS.labels(method, path, str(status))


@cache
def request_seconds(path: str) -> Histogram:
    """The child of `http_request_duration_seconds`."""
    return REQUEST_SECONDS.labels(path)


@cache
def request_errors(path: str, status: int) -> Counter:
    """The child of `http_request_errors_total`."""
    return REQUEST_ERRORS.labels(path, str(status))


@cache
def predictions(model_version: str) -> Counter:
    """The child of `model_predictions_total`."""
    return PREDICTIONS.labels(model_version)


# A counter that first appears as 1 has no increase in Prometheus: what promises rest on must be seen as 0 first.
for _status in (200, 500, 503):
    requests("POST", "/predict", _status)
for _status in (500, 503):
    request_errors("/predict", _status)
request_seconds("/predict")


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

    FIELDS = ("trace_id", "method", "path", "status", "duration_ms", "model_version", "code")

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
