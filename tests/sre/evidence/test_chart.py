from __future__ import annotations

import math
import re

import pytest

from sre.evidence.chart import Level, Marks, Span, chart, rows, sentences, summary
from sre.measure.windows import Series

PLAIN = Marks(steps=(), fault=None, deadline=None, latency=(), rate=())
OUTAGE = Series(
    width=2.0,
    start=(0.0, 2.0, 4.0, 6.0),
    sent=(2000, 2000, 0, 2000),
    ok=(2000, 1000, 0, 1996),
    failed=(0, 1000, 0, 4),
    p50=(0.010, 0.020, None, 0.010),
    p95=(0.020, None, None, 0.025),
    p99=(0.030, None, None, 0.040),
)
QUIET = Series(width=1.0, start=(0.0,), sent=(0,), ok=(0,), failed=(5,), p50=(None,), p95=(None,), p99=(None,))


def _points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_a_line_breaks_where_nothing_was_planned_and_leaves_at_the_top_where_too_many_failed() -> None:
    latency = chart(OUTAGE, PLAIN, 1000.0).panels[0]
    p95 = dict(latency.paths)["p95"]
    assert p95.count("M") == 2
    (_, first), (_, lost), (_, last) = _points(p95)
    assert lost == latency.top
    assert latency.top < last < first < latency.top + latency.height


def test_time_runs_over_the_whole_width_and_is_linear() -> None:
    drawn = chart(OUTAGE, PLAIN, 1000.0)
    xs = [x for x, _ in _points(dict(drawn.panels[1].paths)["sent"])]
    width = (drawn.right - drawn.left) / 4
    assert xs == pytest.approx([drawn.left + width * (i + 0.5) for i in range(4)], abs=0.1)
    assert [tick.label for tick in drawn.times] == ["0 s", "1 s", "2 s", "3 s", "4 s", "5 s", "6 s", "7 s", "8 s"]
    assert (drawn.times[0].at, drawn.times[-1].at) == (drawn.left, drawn.right)


def test_bounds_fault_and_deadline_stand_where_their_numbers_say() -> None:
    marks = Marks(
        steps=(Span("preflight", -1.0, -0.5), Span("steady", -0.5, 4.0), Span("inject", 4.0, 4.1)),
        fault=Span("SIGKILL serving-2", 4.0, math.inf),
        deadline=Level("pod-recovery bound", 6.0),
        latency=(Level("latency-p95 500 ms", 0.5),),
        rate=(Level("1,000/s", 1000.0),),
    )
    drawn = chart(OUTAGE, marks, 1000.0)
    middle = (drawn.left + drawn.right) / 2
    assert drawn.fault is not None
    assert drawn.deadline is not None
    assert (drawn.fault.x, drawn.fault.x + drawn.fault.width) == (middle, drawn.right)
    assert drawn.deadline.at == (middle + drawn.right) / 2
    assert [(box.name, box.label) for box in drawn.steps] == [("steady", "steady"), ("inject", "")]
    latency, rate, _ = drawn.panels
    above, below = (next(tick.at for tick in latency.ticks if tick.label == label) for label in ("100 ms", "10 ms"))
    assert latency.bounds[0].at == pytest.approx(above - math.log10(5) * (below - above), abs=0.2)
    assert rate.title == "Requests per second, bound 1,000/s"
    assert rate.bounds[0].at == next(tick.at for tick in rate.ticks if tick.label == "1,000")


def test_marks_after_the_last_window_are_left_out() -> None:
    marks = Marks(
        steps=(Span("judge", 9.0, 10.0),), fault=Span("late", 8.5, 9.0), deadline=Level("far", 38.0), latency=(), rate=()
    )
    drawn = chart(OUTAGE, marks, 420.0)
    assert (drawn.steps, drawn.fault, drawn.deadline) == ((), None, None)


def test_an_axis_within_one_decade_still_has_ticks() -> None:
    labels = [tick.label for tick in chart(OUTAGE, PLAIN, 1000.0).panels[0].ticks]
    assert labels == ["10 ms", "20 ms", "50 ms"]


def test_failures_are_bars_as_high_as_their_number() -> None:
    failed = chart(OUTAGE, PLAIN, 1000.0).panels[2]
    bars = dict(failed.paths)["failed"]
    assert bars.count("M") == 2
    tops = [float(top) for top in re.findall(r"V([\d.]+)h", bars)]
    assert tops[0] == next(tick.at for tick in failed.ticks if tick.label == "500")
    assert failed.note == ""


def test_a_panel_without_a_value_says_so() -> None:
    latency, _, failed = chart(QUIET, PLAIN, 420.0).panels
    assert latency.note == "no request was answered"
    assert failed.note == ""
    calm = Series(width=1.0, start=(0.0,), sent=(5,), ok=(5,), failed=(0,), p50=(0.1,), p95=(0.1,), p99=(0.1,))
    assert chart(calm, PLAIN, 420.0).panels[2].note == "no request failed"


def test_the_numbers_as_text() -> None:
    assert rows(OUTAGE) == [
        ("0 s", "1,000/s", "0/s", "10.0 ms", "20.0 ms", "30.0 ms"),
        ("2 s", "1,000/s", "500/s", "20.0 ms", "never", "never"),
        ("4 s", "0/s", "0/s", "no data", "no data", "no data"),
        ("6 s", "1,000/s", "2/s", "10.0 ms", "25.0 ms", "40.0 ms"),
    ]
    assert sentences(OUTAGE)[1] == "2 s: 1,000/s sent, 500/s failed, p50 20.0 ms, p95 never, p99 never"
    assert summary(OUTAGE) == (
        "0/s to 1,000/s requests sent; p95 from 20.0 ms to 25.0 ms, highest at 6 s; in 1 of 4 windows too many failed for a p95, "
        "its line leaves at the top; 1,004 failed between 2 s and 8 s."
    )
    assert summary(QUIET) == (
        "0/s to 0/s requests sent; in 1 of 1 windows too many failed for a p95, its line leaves at the top; "
        "5 failed between 0 s and 1 s."
    )
