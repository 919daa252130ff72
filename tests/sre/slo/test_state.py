from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from sre.slo.state import OBJECTIVES, standings
from sre.targets.local.target import LocalTarget
from sre.verdict import Outcome

AVAILABILITY, LATENCY, REPLICAS = OBJECTIVES
Answer = Callable[[dict[str, str | None]], str]


@pytest.fixture
def prometheus() -> Iterator[Answer]:
    """Begins a server that answers each objective's query with one value, or with no series; gives its URL."""
    values: dict[str, str | None] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlparse(self.path).query)["query"][0]
            asked.append(query)
            value = next(value for name, value in values.items() if query.startswith(name))
            result = [] if value is None else [{"metric": {}, "value": [0, value]}]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()

        def begin(given: dict[str, str | None]) -> str:
            values.update(given)
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield begin
        server.shutdown()
        thread.join()
    assert not [query for query in asked if "{window}" in query]


def answers(availability: str | None, latency: str | None, replicas: str | None) -> dict[str, str | None]:
    return {"1 - ": availability, "histogram_quantile": latency, "count(": replicas}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answers("1", "0.02", "3"), ["kept", "kept", "kept"]),
        (answers("0.999", "0.4999", "4"), ["kept", "kept", "kept"]),
        (answers("0.99899", "0.5", "2"), ["broken", "broken", "broken"]),
        (answers("0", "+Inf", "0"), ["broken", "inconclusive", "broken"]),
        (answers("NaN", "NaN", None), ["inconclusive", "inconclusive", "inconclusive"]),
        (answers(None, None, "3"), ["inconclusive", "inconclusive", "kept"]),
    ],
)
def test_each_objective_at_and_around_its_bound(prometheus: Answer, given: dict[str, str | None], expected: list[str]) -> None:
    assert [standing.outcome for standing in standings(prometheus(given), "1h")] == expected


@pytest.mark.parametrize(("availability", "left"), [("1", 1.0), ("0.9995", 0.5), ("0.999", 0.0), ("0.998", -1.0)])
def test_the_budget_is_what_of_the_allowed_failures_is_left(prometheus: Answer, availability: str, left: float) -> None:
    standing = standings(prometheus(answers(availability, "0.1", "3")), "1h")[0]
    assert standing.budget_left == pytest.approx(left)


def test_only_a_share_has_a_budget(prometheus: Answer) -> None:
    assert [standing.budget_left for standing in standings(prometheus(answers(None, "0.1", "3")), "1h")] == [None, None, None]


def test_without_prometheus_nothing_is_kept() -> None:
    found = standings("http://127.0.0.1:1", "1h")
    assert {standing.outcome for standing in found} == {Outcome.INCONCLUSIVE}
    assert {standing.measured for standing in found} == {None}


@pytest.mark.local
def test_the_real_system_is_known_to_prometheus(system: LocalTarget) -> None:
    found = {standing.objective.name: standing for standing in standings(system.endpoints.prometheus, "1h")}
    assert found["replicas"].measured is not None
    assert 0 <= found["replicas"].measured <= 3
