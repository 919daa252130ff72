"""What Prometheus and Alertmanager say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx
import requests
from urllib3.util import Retry

from sre.readings import Alert, ServerCounts

WITHIN_S = 10
_PREDICT = 'job="serving",path="/predict"'


class Prometheus:
    """Reads one Prometheus server.

    Args:
        url: base URL.
    """

    def __init__(self, url: str) -> None:
        # Imported here: it brings pandas and a plotting library, and most commands never ask Prometheus.
        from prometheus_api_client import PrometheusConnect  # noqa: PLC0415

        session = requests.Session()
        # A proxy of the caller's environment knows nothing of this machine's ports.
        session.trust_env = False
        self._connect = PrometheusConnect(url=url, session=session, retry=Retry(0), timeout=WITHIN_S)

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]] | None:
        """Series of an instant query; None when Prometheus cannot answer, an empty list when nothing matches.

        Args:
            expression: PromQL.
            at: seconds since the epoch; now when left out.
        """
        from prometheus_api_client.exceptions import PrometheusApiClientException  # noqa: PLC0415

        parameters = {} if at is None else {"time": f"{at:.3f}"}
        try:
            result: list[dict[str, Any]] = self._connect.custom_query(
                expression, params={**parameters, "timeout": f"{WITHIN_S}s"}
            )
        except (PrometheusApiClientException, OSError, ValueError, KeyError, TypeError):
            return None
        return result

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The one value of a query; None when there is no answer, no series, more than one, or no number."""
        series = self.query(expression, at)
        if series is None or len(series) != 1:
            return None
        number = float(series[0]["value"][1])
        return number if math.isfinite(number) else None


def server_counts(url: str, start: float, end: float, track: str = "") -> ServerCounts | None:
    """Exact counter increments of the prediction path between two instants.

    Raw samples are summed instead of `increase()`, which extrapolates. A counter that begins again after a restart counts from
    zero; what it had counted since its last scrape is lost and shows as a reset.

    Args:
        url: of Prometheus.
        start: seconds since the epoch, in quiet time before the load.
        end: seconds since the epoch, two scrapes after the load.
        track: `canary`, `control` or `stable`; all replicas when empty.

    Returns:
        The counts, or None when Prometheus cannot answer or holds no sample before `start`.
    """
    prometheus = Prometheus(url)
    span = math.ceil(end - start) + 30
    selected = f'{_PREDICT},track="{track}"' if track else _PREDICT
    expression = f"http_requests_total{{{selected}}}[{span}s]"
    series = prometheus.query(expression, end)
    if not series:
        return None
    total = errors = 0.0
    resets, first, last = 0, math.inf, -math.inf
    for one in series:
        points = [(float(at), float(value)) for at, value in one["values"]]
        before = [point for point in points if point[0] <= start]
        inside = [point for point in points if point[0] > start]
        grown, fell = _increase([*before[-1:], *inside], known_before=bool(before))
        total += grown
        errors += grown if one["metric"]["status"].startswith("5") else 0.0
        resets += fell
        first = min([first, *(at for at, _ in before[-1:])])
        last = max([last, *(at for at, _ in inside)])
    if math.isinf(first) or math.isinf(last):
        return None
    buckets = f"increase(http_request_duration_seconds_bucket{{{selected}}}[{math.ceil(end - start)}s])"
    quantile = f"histogram_quantile(0.95, sum by (le) ({buckets}))"
    return ServerCounts(first, last, total, errors, prometheus.value(quantile, end), resets, (expression, quantile))


def _increase(points: Sequence[tuple[float, float]], *, known_before: bool) -> tuple[float, int]:
    if not points:
        return 0.0, 0
    # A series that began inside the span began at zero.
    grown = 0.0 if known_before else points[0][1]
    resets = 0
    for (_, earlier), (_, later) in pairwise(points):
        fell = later < earlier
        grown += later if fell else later - earlier
        resets += fell
    return grown, resets


def alerts(url: str) -> tuple[Alert, ...] | None:
    """What Alertmanager holds; None when it cannot be asked or answers something else."""
    try:
        document = httpx.get(f"{url}/api/v2/alerts", timeout=5, trust_env=False).raise_for_status().json()
        if not isinstance(document, list):
            return None
        return tuple(
            Alert(
                name=item["labels"]["alertname"],
                active=item["status"]["state"] == "active",
                starts_at=datetime.fromisoformat(item["startsAt"]).timestamp(),
                runbook_url=item["annotations"].get("runbook_url", ""),
            )
            for item in document
        )
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
