from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sre.judges.budget import Method
from sre.slo import promql
from sre.slo.live import COARSE_STEP_S, STALE_S, STEP_S, Missing, Reading, goal, read
from sre.slo.objective import Budgeting, Calendar, Objective
from tests.sre.slo.history import backfill, served

DAY = 86_400.0
SCRAPE = 15.0
T0 = 1_780_000_000.0  # the first sample
T1 = T0 + 3 * DAY  # the last


def make_objective(bad: str = "bad_total", total: str = "all_total") -> Objective:
    return Objective(
        name="tried", service="api", description="", target=0.999, period_s=30 * DAY, bad=promql.counter(bad),
        total=promql.counter(total),
    )  # fmt: skip


def steps(increments: Sequence[float], start: float, first: float = 0.0) -> list[tuple[float, float]]:
    """A counter that stands at `first` at `start` and then counts, one sample a scrape."""
    points, value = [(start, first)], first
    for number, increment in enumerate(increments, 1):
        value += increment
        points.append((start + number * SCRAPE, value))
    return points


def every(count: int, increment: float) -> list[float]:
    return [increment] * count


@pytest.fixture(scope="module")
def url(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three days of counters that began before Prometheus did."""
    n = int((T1 - T0) / SCRAPE)
    restarted = steps(every(100, 4), T0, 1000) + steps(every(n - 102, 4), T0 + 102 * SCRAPE, 7)
    series = {
        'all_total{replica="1"}': steps(every(n, 10), T0, 5_000_000),
        'all_total{replica="2"}': restarted,
        'all_total{replica="3"}': steps(every(20, 1), T0 + 2 * DAY, 3),  # appears later, and is gone after five minutes
        'bad_total{replica="1"}': steps([*every(n - 40, 0), *every(40, 2)], T0, 80),
        'late_total{replica="1"}': steps(every(20, 1), T1 - 20 * SCRAPE, 2),
        "quiet_total": steps(every(n, 0), T0, 12),
        "old_total": steps(every(20, 1), T0, 0),
        "racy_total": steps([5, 5, 5], T1 - 45, 0),
        "racy_good_total": steps([5, 6, 4], T1 - 45, 0),
        "broken_total": [(T1 - 30, 1.0), (T1 - 15, float("nan")), (T1, 3.0)],
        "level": [(T0 + 60 * number, 0.25 if number % 2 else 0.75) for number in range(int((T1 - T0) / 60) + 1)],
    }
    folder = tmp_path_factory.mktemp("history")
    backfill(programs, folder, series)
    with served(programs, folder) as address:
        yield address


def reading(url: str, objective: Objective, since: float, at: float) -> Reading:
    found = read(url, objective, since, at)
    assert isinstance(found, Reading), found
    return found


def why(url: str, objective: Objective, since: float = T1 - 600, at: float = T1) -> str:
    found = read(url, objective, since, at)
    assert isinstance(found, Missing), found
    return found.why


def test_every_increment_is_counted_once_over_days_and_restarts(url: str) -> None:
    found = reading(url, make_objective(), T0 - 10 * DAY, T1)
    n = int((T1 - T0) / SCRAPE)
    # What the restarted replica had counted when it was first seen anew counts; what the first scrape of all found does not.
    assert found.counts.total.sum() == 10 * n + 4 * 100 + 7 + 4 * (n - 102) + 3 + 20
    assert found.counts.bad.sum() == 80
    assert (found.exact, found.resets) == (True, 1)
    assert found.counts.start == T0
    assert found.counts.ends[-1] == T1
    assert all("bad_total" in query or "all_total" in query for query in found.queries)


def test_a_span_takes_what_happened_within_it(url: str) -> None:
    begin, end = T0 + DAY + 7, T0 + DAY + 7 + 100 * SCRAPE
    found = reading(url, make_objective(), begin, end)
    assert found.counts.total.sum() == 14 * 100
    assert found.counts.bad.sum() == 0
    assert found.counts.start == begin
    # Later samples do not count, nor do they make an instant of the past fresh.
    assert reading(url, make_objective(), T1 - 3600, T1 - 40 * SCRAPE).counts.bad.sum() == 0
    assert reading(url, make_objective(), T1 - 3600, T1 - 39 * SCRAPE).counts.bad.sum() == 2


def test_increments_lie_in_the_step_of_their_sample(url: str) -> None:
    found = reading(url, make_objective(), T1 - 3600, T1)
    counts = found.counts
    burning = counts.ends[counts.bad > 0]
    assert burning[0] == pytest.approx(T1 - 39 * SCRAPE, abs=STEP_S)
    assert burning[-1] == T1
    assert counts.bad.max() <= 4


def test_failures_that_first_appear_count_from_zero_and_none_at_all_are_none(url: str) -> None:
    assert reading(url, make_objective("late_total"), T0 - DAY, T1).counts.bad.sum() == 22
    found = reading(url, make_objective("nowhere_total"), T0 - DAY, T1)
    assert (found.counts.bad.sum(), found.counts.total.sum() > 0) == (0, True)


def test_an_idle_service_has_counted_nothing(url: str) -> None:
    found = reading(url, make_objective("nowhere_total", "quiet_total"), T1 - DAY, T1)
    assert (found.counts.bad.sum(), found.counts.total.sum()) == (0, 0)


def test_differences_of_counters_that_are_read_one_after_the_other_add_up(url: str) -> None:
    total, good = promql.counter("racy_total"), promql.counter("racy_good_total")
    found = reading(url, replace(make_objective(), bad=promql.minus(total, good), total=total), T0, T1)
    assert (found.counts.bad.sum(), found.counts.bad.min(), found.counts.total.sum()) == (0, 0, 15)


def test_what_is_no_sum_of_counters_is_computed_by_prometheus(url: str) -> None:
    bad, total = promql.samples("level", 60.0, "{}")
    found = reading(url, replace(make_objective(), bad=bad, total=total, sampled=True), T1 - 3600, T1)
    assert not found.exact
    assert len(found.counts.ends) == 3600 / COARSE_STEP_S
    assert found.counts.bad.sum() / found.counts.total.sum() == pytest.approx(0.5, abs=0.05)


def test_without_data_there_is_no_reading(url: str) -> None:
    assert why(url, make_objective(total="nowhere_total")) == "nothing counts the events of api/tried; is the service scraped?"
    assert "the newest sample of api/tried is" in why(url, make_objective(total="old_total"), T0 - 60)
    assert "the newest sample of api/tried is 301 s old" in why(url, make_objective(), T1 - 3600, T1 + STALE_S + 1)
    assert isinstance(read(url, make_objective(), T1 - 3600, T1 + STALE_S), Reading)
    assert "broken_total[1d]: the value is NaN" in why(url, make_objective(total="broken_total"))
    assert "nothing counts" in why(url, make_objective(), T0 - 20 * DAY, T0 - 10 * DAY)


def test_a_server_that_is_not_there_is_no_data() -> None:
    assert "bad_total[1d]): no answer came (" in why("http://127.0.0.1:1", make_objective())


GOOD = {"status": "success", "data": {"resultType": "matrix", "result": []}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (json.dumps({"status": "error", "error": "too many samples"}), "status is 'error' too many samples"),
        (json.dumps({**GOOD, "warnings": ["a store is down"]}), "Prometheus warns: a store is down"),
        (json.dumps({"status": "success", "data": {"resultType": "scalar", "result": "1"}}), "is a scalar, not a vector"),
        ("[]", "the answer is none of Prometheus"),
        ("<html>sign in</html>", "the answer is none of Prometheus"),
    ],
)
def test_an_answer_that_is_not_whole_is_no_data(body: str, said: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        assert said in why(f"http://127.0.0.1:{server.server_address[1]}", make_objective())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_goal_takes_the_objective_over() -> None:
    sliced = replace(make_objective(), budgeting=Budgeting.TIMESLICES, slice_s=60.0, slice_target=0.95)
    found = goal(sliced, T0)
    assert (found.target, found.period, found.since) == (0.999, 30 * DAY, None)
    assert (found.method, found.slice_s, found.slice_target, found.independent) == (Method.TIMESLICES, 60.0, 0.95, False)
    assert [str(member) for member in Method] == [str(member) for member in Budgeting]


def test_a_month_of_the_calendar_is_as_long_as_it_is() -> None:
    monthly = replace(make_objective(), calendar=Calendar(datetime(2026, 1, 1, tzinfo=UTC), 1, "M"))
    found = goal(monthly, datetime(2026, 2, 10, tzinfo=UTC).timestamp())
    assert (found.since, found.period) == (datetime(2026, 2, 1, tzinfo=UTC).timestamp(), 28 * DAY)
