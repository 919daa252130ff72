"""What Prometheus and Alertmanager say."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx
import requests
from urllib3.util import Retry

from sre.probes.answers import Api, Gap, Series, matrix, vector
from sre.probes.counters import Processes, Target, by_target, falls, increments, samples, starts
from sre.readings import Alert, ServerCounts

WITHIN_S = 10
_BEFORE_S = 30  # so far back a counter's value before a span is looked for


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

    Raw samples are summed instead of `increase()`, which extrapolates; see `sre.probes.counters`. What a target counts while it
    cannot be scraped nobody knows, so the counts end with the last scrape at which no target was down.

    Args:
        url: of Prometheus.
        start: seconds since the epoch, in quiet time before the load.
        end: seconds since the epoch, two scrapes after the load.
        track: `canary`, `control` or `stable`; all replicas when empty.

    Returns:
        The counts, or None when Prometheus cannot answer, has scraped no replica before `start`, a replica was down all the
        time, or nobody knows what one had counted before it was first scraped.
    """
    start, end = round(start, 3), round(end, 3)
    carried = {"job": "serving"} | ({"track": track} if track else {})
    targets = ",".join(f'{name}="{value}"' for name, value in carried.items())
    span = f"[{math.ceil(end - start) + _BEFORE_S}s]"
    queries = (f"up{{{targets}}}", f"up{{{targets}}}{span}", f"process_start_time_seconds{{{targets}}}{span}",
               f'http_requests_total{{{targets},path="/predict"}}{span}')  # fmt: skip
    try:
        there, up, started, requests = asyncio.run(_asked(Api(url, WITHIN_S), queries, end, carried))
        lines = by_target(up, "up")
        until = _last_whole([lines.get(target, []) for target in by_target(there, "up")], end)
        scraped = {target: tuple(at for at, state in line if state == "1") for target, line in lines.items()}
        of = Processes(scraped, {}, starts(started, "process_start_time_seconds"))
        found = samples(of, requests, until)
        fell: dict[Target, set[float]] = defaultdict(set)
        for target, at in falls(of, found, {}):
            if at > start:
                fell[target].add(at)
        counted = increments(of, found, {}, start, fell)
    except Gap:
        return None
    # A scrape without the counter counts too: nothing was asked of that replica yet.
    before = ([at for at in ats if at <= start] for ats in scraped.values())
    first = min((ats[-1] for ats in before if ats), default=end)
    last = max((values[-1].at for values in found.values()), default=start)
    if counted.unknown or not first <= start < last:
        return None
    buckets = f'increase(http_request_duration_seconds_bucket{{{targets},path="/predict"}}[{math.ceil(end - start)}s])'
    quantile = f"histogram_quantile(0.95, sum by (le) ({buckets}))"
    errors = sum(grown for key, grown in counted.grown.items() if dict(key).get("status", "").startswith("5"))
    return ServerCounts(
        first, last, float(sum(counted.grown.values())), float(errors), Prometheus(url).value(quantile, end),
        sum(map(len, fell.values())), (*queries, quantile),
    )  # fmt: skip


async def _asked(api: Api, queries: Sequence[str], at: float, carried: Mapping[str, str]) -> list[tuple[Series, ...]]:
    """The series of each query; of an instant first, which are those that are still scraped, then of ranges.

    One after the other: a scrape that an answer shows is whole in the next one, because Prometheus commits a scrape at once.
    """
    bodies = [await api.ask("query", query, time=f"{at:.3f}") for query in queries]
    return [vector(bodies[0], at, carried), *(matrix(body, at, carried) for body in bodies[1:])]


def _last_whole(lines: Sequence[Sequence[tuple[float, str]]], end: float) -> float:
    """The last instant at which no target was down: `end`, or that of a scrape, or minus infinity."""

    def down(line: Sequence[tuple[float, str]], at: float) -> bool:
        return [state for moment, state in line if moment <= at][-1:] not in ([], ["1"])

    instants = sorted((at for line in lines for at, _ in line), reverse=True)
    return next((at for at in (end, *instants) if not any(down(line, at) for line in lines)), -math.inf)


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
