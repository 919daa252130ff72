from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from sre.slo import promql, rules
from sre.slo.live import Reading, read
from sre.slo.objective import Calendar, Objective
from sre.slo.standing import Standing, Unknown, ask, firing, stand
from sre.slo.windows import DAY_S, HOUR_S, MINUTE_S, Severity, usable, workbook
from tests.sre.slo.history import backfill, record, served

SCRAPE = 15.0
BEGIN = 1_780_000_800.0  # a whole minute
COMPARED = BEGIN + 6 * HOUR_S + 10 * MINUTE_S
RECORDED = COMPARED - 10 * MINUTE_S  # from here on the rules recorded
END = COMPARED + 2.5 * HOUR_S


def make_objective(bad: str, total: str) -> Objective:
    return Objective(
        name=f"of-{total.replace('_', '-')}", service="api", description="", target=0.999, period_s=30 * DAY_S,
        bad=promql.counter(bad), total=promql.counter(total), windows=usable(workbook(30 * DAY_S)[:2], 0.001),
    )  # fmt: skip


OBJECTIVES = (make_objective("busy_bad", "busy_all"), make_objective("quiet_bad", "quiet_all"))


def counters() -> dict[str, list[tuple[float, float]]]:
    """Of a busy service with two outages and a restart, and of one with 30 requests an hour that fails once, then often."""
    rng = np.random.default_rng(20_260_101)
    at = np.arange(BEGIN, END + 1, SCRAPE)
    since = at - COMPARED
    share = np.full(len(at), 0.0005)
    share[(since > 600) & (since < 900)] = 0.6
    share[(since > 4500) & (since < 6600)] = 0.012
    busy = rng.poisson(30.0 * SCRAPE, len(at))
    busy_bad = rng.binomial(busy, share)
    quiet = rng.poisson(30.0 / 3600 * SCRAPE, len(at))
    quiet_bad = np.where((since > 5000) & (since < 7500), quiet, 0)
    quiet_bad[int(np.flatnonzero((quiet > 0) & (since > 1500))[0])] = 1
    found = {}
    for name, increments in (("busy_all", busy), ("busy_bad", busy_bad), ("quiet_all", quiet), ("quiet_bad", quiet_bad)):
        values = np.cumsum(increments)
        restarted = since > 3000
        values[restarted] -= values[np.flatnonzero(restarted)[0] - 1]
        found[name] = list(zip(at.tolist(), values.astype(float).tolist(), strict=True))
    return found


@pytest.fixture(scope="module")
def url(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that holds the counters, and what the rules of both objectives recorded of them."""
    folder = tmp_path_factory.mktemp("rules")
    backfill(programs, folder, counters())
    file = folder / "rules.yml"
    file.write_text(rules.text(rules.rules(OBJECTIVES, "https://example.test/runbooks")))
    # The first pass records counts, the second what is computed from counts, which it must find recorded.
    for _ in range(2):
        with served(programs, folder) as address:
            record(programs, folder, address, file, (RECORDED, END))
    with served(programs, folder) as address:
        yield address


def standing(url: str, objective: Objective, at: float) -> Standing:
    (found,) = ask(url, [objective], at)
    assert isinstance(found, Standing), found
    return found


def values(url: str, expression: str, begin: float, end: float) -> dict[float, float]:
    """What Prometheus says every minute, by time."""
    span = {"query": expression, "start": f"{begin:.3f}", "end": f"{end:.3f}", "step": "60"}
    answer = httpx.get(f"{url}/api/v1/query_range", params=span, trust_env=False).raise_for_status()
    return {float(at): float(value) for one in answer.json()["data"]["result"] for at, value in one["values"]}


def test_the_evaluator_says_what_the_rules_say_at_every_instant(url: str) -> None:
    at = np.arange(COMPARED, END + 1, 60.0)
    said = []
    for objective in OBJECTIVES:
        reading = read(url, objective, BEGIN, END)
        assert isinstance(reading, Reading)
        account = stand(objective, reading, END).account
        for window in objective.windows:
            ours = firing(account, window, at)
            said_so = values(url, rules.burning(objective, window), COMPARED, END)
            theirs = np.array([moment in said_so for moment in at.tolist()])
            # `increase` extrapolates to the edges of its window, so that a change may show one evaluation earlier or later.
            changing = {at[index + near] for index in np.flatnonzero(np.diff(theirs)) for near in (0, 1)}
            assert [moment for moment in at[ours != theirs] if moment not in changing] == []
            said += [bool(theirs.any()), not theirs.all()]
    assert all(said), "an alert that never fires, or always, compares nothing"


def test_the_budget_left_is_what_the_rules_say(url: str) -> None:
    # The rules add up windows of five minutes that overlap, so that the first and the last minutes of all weigh less.
    for objective, tolerance in zip(OBJECTIVES, (0.01, 0.05), strict=True):
        recorded = rules.selector("slo:budget:left", objective)
        (at,) = values(url, f"timestamp({recorded})", END, END).values()
        (theirs,) = values(url, recorded, END, END).values()
        assert 1 - stand_from(url, objective, RECORDED, at).budget.left == pytest.approx(1 - theirs, rel=tolerance)


def stand_from(url: str, objective: Objective, since: float, at: float) -> Standing:
    reading = read(url, objective, since, at)
    assert isinstance(reading, Reading)
    return stand(objective, reading, at)


def test_a_standing_tells_alarms_incidents_and_what_remains(url: str) -> None:
    at = COMPARED + 900
    found = standing(url, OBJECTIVES[0], at)
    fast, slow = found.alarms
    assert (fast.window.severity, fast.on) == (Severity.PAGE, True)
    assert fast.line().startswith("page: burn ")
    assert found.forecast.expected == 0
    (incident,) = found.incidents
    assert incident.start == pytest.approx(COMPARED + 600, abs=2 * MINUTE_S)
    assert incident.end == pytest.approx(COMPARED + 900, abs=MINUTE_S)
    assert slow.long.total > fast.long.total > fast.short.total > 0
    assert found.budget.interval is not None
    assert found.reading.exact


def test_an_alert_waits_as_long_as_it_is_told(url: str) -> None:
    fast = OBJECTIVES[0].windows[0]
    at = np.arange(COMPARED, END, 60.0)
    began = float(at[np.flatnonzero(firing(standing(url, OBJECTIVES[0], END).account, fast, at))[0]])
    patient = replace(OBJECTIVES[0], windows=(replace(fast, for_s=5 * MINUTE_S),))
    assert not standing(url, patient, began + 4 * MINUTE_S).alarms[0].on
    assert standing(url, patient, began + 5 * MINUTE_S).alarms[0].on


def test_of_what_nobody_counts_nobody_knows(url: str) -> None:
    known, unknown = ask(url, [OBJECTIVES[0], make_objective("busy_bad", "nowhere")], END)
    assert isinstance(known, Standing)
    assert isinstance(unknown, Unknown)
    assert unknown.why.startswith("nothing counts the events of api/of-nowhere")


def test_windows_reach_back_before_a_calendar_period(url: str) -> None:
    begun = Calendar(datetime.fromtimestamp(END - HOUR_S, UTC), 30, "d")
    found = standing(url, replace(OBJECTIVES[0], calendar=begun), END)
    assert found.budget.total < found.alarms[1].long.total
