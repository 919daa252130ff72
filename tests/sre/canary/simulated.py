"""A Prometheus over real sockets that scraped a memory target, in the target's own time: what a rollout reads in its tests."""

from __future__ import annotations

import json
import math
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from sre.targets.memory import MemoryTarget

EVERY_S = 2.0
STARTED = "process_start_time_seconds"
REQUESTS = "http_requests_total"
_RANGE = re.compile(r"(\w+)\{(.*)\}\[(\d+)ms\]")
_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')

PLAN = """
schema: sre.canary/1
name: digits
scrape: 2s
errors: {rollback: 1%, promote: 5%, sample_ratio: 0.1%}
requests: http_requests_total{job="serving",path="/predict",track="$track"}
stages:
  - {weight: 10%, at_least: 10s, at_most: 3m}
  - {weight: 50%, at_least: 10s, at_most: 3m}
  - {weight: 100%, at_least: 20s, at_most: 3m}
no_data: {rollback_after: 20s}
at_deadline: hold
metrics:
  errors:
    kind: ratio
    events: http_requests_total{job="serving",path="/predict",track="$track",status=~"5.."}
    of: requests
    margin: 2x
    objective: {at_most: 10%}
  crashes: {kind: crashes, started: 'process_start_time_seconds{job="serving",track="$track"}', limit: 0}
"""


@dataclass
class Service:
    """What the service does: requests a second, and the share of errors by track.

    Attributes:
        failing: of each track; `promoted` is what production fails with once the candidate is there.
        crash_at: when the canary's process begins anew, wall s.
        away: the status that Prometheus answers with instead, 0 for none.
        seed: of the errors.
    """

    rate: float = 1000.0
    failing: dict[str, float] = field(default_factory=lambda: {"canary": 0.05, "control": 0.05, "stable": 0.05, "promoted": 0.05})
    crash_at: float = math.inf
    away: int = 0
    seed: int = 1


class Prometheus:
    """Scrapes every 2 s of the target's time.

    Attributes:
        url: of its API.
        service: what it scrapes; change it during a rollout to see it go wrong.
    """

    def __init__(self, target: MemoryTarget) -> None:
        self.service = Service()
        self._target = target
        self._production = ""
        self._random = np.random.default_rng(self.service.seed)
        self._samples: dict[tuple[tuple[str, str], ...], list[tuple[float, str]]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._starts: dict[str, float] = {}
        self._next = math.ceil(target.clock.wall() / EVERY_S) * EVERY_S
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with outer._lock:
                    status, body = outer._answer(parse_qs(urlsplit(self.path).query))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _scrape(self, at: float) -> None:
        split = self._target.router.split()
        shares = {"canary": split.canary, "control": split.control} if split else {}
        if split and not self._production:
            self._production = split.production
        for track, share in {"stable": 1.0 - sum(shares.values()), **shares}.items():
            if track != "stable" and at >= self.service.crash_at > self._starts.get(track, at) and track == "canary":
                self._starts[track] = self.service.crash_at
                self._counts[track, "200"] = self._counts[track, "500"] = 0
            promoted = track == "stable" and split is not None and split.production != self._production
            requests = int(self.service.rate * EVERY_S * share)
            failed = int(self._random.binomial(requests, self.service.failing["promoted" if promoted else track]))
            labels = {"job": "serving", "instance": f"{track}-1", "track": track}
            self._write("up", labels, at, "1")
            self._write(STARTED, labels, at, str(self._starts.setdefault(track, at - 1.0)))
            for status, more in (("200", requests - failed), ("500", failed)):
                self._counts[track, status] = self._counts.get((track, status), 0) + more
                counted = str(self._counts[track, status])
                self._write(REQUESTS, {**labels, "path": "/predict", "status": status}, at, counted)

    def _write(self, name: str, labels: dict[str, str], at: float, value: str) -> None:
        self._samples.setdefault(tuple(sorted({"__name__": name, **labels}.items())), []).append((at, value))

    def _answer(self, asked: dict[str, list[str]]) -> tuple[int, bytes]:
        now = self._target.clock.wall()
        while self._next <= now:
            self._scrape(self._next)
            self._next += EVERY_S
        if self.service.away:
            return self.service.away, b"{}"
        query = asked["query"][0]
        if query == "time()":
            return 200, _said({"resultType": "scalar", "result": [now, f"{now:.3f}"]})
        found = _RANGE.fullmatch(query)
        assert found, query
        at = float(asked["time"][0])
        since = at - int(found[3]) / 1000
        wanted = [("__name__", "=", found[1]), *_MATCHER.findall(found[2])]
        result = []
        for key, values in self._samples.items():
            inside = [[moment, value] for moment, value in values if since < moment <= at]
            if inside and all(_matches(dict(key).get(name, ""), how, value) for name, how, value in wanted):
                result.append({"metric": dict(key), "values": inside})
        return 200, _said({"resultType": "matrix", "result": result})


def _matches(value: str, how: str, wanted: str) -> bool:
    return value == wanted if how == "=" else re.fullmatch(wanted, value) is not None


def _said(data: dict[str, Any]) -> bytes:
    return json.dumps({"status": "success", "data": data}).encode()
