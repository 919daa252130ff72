from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from sre.canary.ab_data import Counters, from_file, from_prometheus
from sre.errors import CannotRun, UsageError

UNIT = (0.0, 1.0)
RATIO = "time,arm,successes,trials\n0,a,1,10\n0,b,2,11\n60,a,3,10\n60,b,4,9\n"


def write(folder: Path, text: str, name: str = "ab.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_rows_of_a_ratio_are_summed_by_arm(tmp_path: Path) -> None:
    data = from_file(write(tmp_path, RATIO), None, UNIT)
    assert (data.first.name, data.first.successes, data.first.trials) == ("a", 4, 20)
    assert (data.second.name, data.second.successes, data.second.trials) == ("b", 6, 20)
    assert data.elapsed_s == 60.0
    assert from_file(write(tmp_path, RATIO), ("b", "a"), UNIT).first.name == "b"


def test_json_and_dates_are_read_too(tmp_path: Path) -> None:
    rows = [
        {"time": "2026-01-01T00:00:00Z", "arm": "a", "successes": 1, "trials": 2},
        {"time": "2026-01-01T01:00:00+00:00", "arm": "b", "successes": 1, "trials": 2},
    ]
    assert from_file(write(tmp_path, json.dumps(rows), "ab.json"), None, UNIT).elapsed_s == 3600.0


def test_values_are_scaled_and_ordered_by_time(tmp_path: Path) -> None:
    text = "time,arm,value,trials\n60,a,5,100\n60,b,10,110\n0,b,0,90\n0,a,2.5,100\n"
    data = from_file(write(tmp_path, text), ("a", "b"), (0.0, 10.0))
    assert data.first.values == (0.25, 0.5)
    assert data.second.values == (0.0, 1.0)
    assert (data.first.trials, data.second.trials, data.first.successes) == (200, 200, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no row"),
        ("time,arm,successes,trials\n", "holds no row"),
        ("time,arm,successes,trials\n0,a,1,2\n", "holds arms a; two are compared"),
        (RATIO + "61,c,1,2\n", "holds arms a, b, c"),
        (RATIO.replace("3,10", "30,10"), "30 of 10 at 60 cannot be"),
        (RATIO.replace("3,10", "-3,10"), "line 4: successes is '-3'"),
        (RATIO.replace("3,10", "x,10"), "line 4: successes is 'x'"),
        (RATIO.replace("60,a", "soon,a"), "line 4: time is 'soon'"),
        (RATIO.replace("60,a", "2026-01-01T00:00:00,a"), "write the time zone too"),
        (RATIO.replace("60,a", "nan,a"), "line 4: time"),
        (RATIO.replace("60,a", "60,"), "line 4: arm"),
        (RATIO.replace("trials", "tries"), "line 2: tries is '10'"),
        (RATIO.replace("3,10", "3,"), "mixes kinds of rows"),
        ("time,arm,value\n0,a,2\n0,b,0\n", "the value 2 at 0 is not within 0 to 1"),
        ("time,arm,value\n0,a,1\n0,a,0\n", "arm 'a' has two values at 0|holds arms a"),
        ("time,arm,value\n0,a,1\n0,b,0\n0,a,0\n", "arm 'a' has two values at 0"),
        ("time,arm,value\n0,a,1\n0,b,0\n1,a,0\n", "only arm 'a' has a value at 1"),
        ('time,arm,value\n0,"a,1\n', "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        from_file(write(tmp_path, text), None, UNIT)


@pytest.mark.parametrize("text", ["{", "3", '{"time": 0}', "[3]"])
def test_what_is_no_list_of_rows_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        from_file(write(tmp_path, text, "ab.json"), None, UNIT)
    with pytest.raises(UsageError, match="cannot be read"):
        from_file(tmp_path / "absent.csv", None, UNIT)


Serve = Callable[[dict[str, Any]], Counters]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers queries of a metric with what is given for it."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlparse(self.path).query)["query"][0]
            body = json.dumps(answers[query.partition("{")[0].partition("[")[0]]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()

        def begin(given: dict[str, Any]) -> Counters:
            answers.update(given)
            return Counters(f"http://127.0.0.1:{server.server_address[1]}", 'good{app="x"}', "every", "version", ("a", "b"))

        yield begin
        server.shutdown()
        thread.join()


def matrix(name: str, *series: tuple[str, list[tuple[float, str]]], **more: Any) -> dict[str, Any]:
    result = [{"metric": {"__name__": name, "version": arm}, "values": values} for arm, values in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}


def test_counters_are_summed_over_restarts(serve: Serve) -> None:
    good = matrix("good", ("a", [(0, "5"), (10, "9"), (20, "2")]), ("b", [(0, "0"), (20, "7")]), ("other", [(0, "0"), (9, "9")]))
    counters = serve({"good": good, "every": matrix("every", ("a", [(0, "0"), (20, "50")]), ("b", [(5, "1"), (20, "61")]))})
    data = from_prometheus(counters, at=20.0, span_s=60.0)
    assert (data.first.successes, data.first.trials) == (6, 50)
    assert (data.second.successes, data.second.trials) == (7, 60)
    assert data.elapsed_s == 20.0


@pytest.mark.parametrize(
    ("good", "error", "said"),
    [
        (matrix("good", ("a", [(0, "0.5"), (1, "1")])), CannotRun, "stands at 0.5"),
        (matrix("good", ("a", [(0, "NaN"), (1, "1")])), CannotRun, "stands at NaN"),
        (matrix("good", warnings=["slow"]), CannotRun, "Prometheus warns: slow"),
        ({"status": "error", "error": "bad"}, CannotRun, "status is 'error'"),
        (matrix("other", ("a", [(0, "1")])), CannotRun, "was not asked for"),
        (matrix("good", ("a", [(0, "0"), (1, "99")])), UsageError, "99 successes of 50 trials"),
    ],
)
def test_what_is_no_counter_is_refused(serve: Serve, good: dict[str, Any], error: type[Exception], said: str) -> None:
    counters = serve({"good": good, "every": matrix("every", ("a", [(0, "0"), (20, "50")]))})
    with pytest.raises(error, match=said):
        from_prometheus(counters, at=20.0, span_s=60.0)


@pytest.mark.parametrize("selector", ["rate(x[5m])", "x[5m]", "{", '{a="b"}', "1"])
def test_only_plain_selectors_are_asked(selector: str) -> None:
    with pytest.raises(UsageError, match=r"(write a|no) plain selector"):
        from_prometheus(Counters("http://127.0.0.1:1", selector, "every", "version", ("a", "b")), at=0.0, span_s=60.0)


@pytest.mark.parametrize(
    ("url", "error", "said"), [("http://127.0.0.1:1", CannotRun, "no answer came"), ("no url", UsageError, "'no url' is no URL")]
)
def test_without_prometheus_nothing_is_compared(url: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        from_prometheus(Counters(url, "good", "every", "version", ("a", "b")), at=0.0, span_s=60.0)
