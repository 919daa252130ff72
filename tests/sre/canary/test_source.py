from __future__ import annotations

import contextlib
import gzip
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from sre.canary import reading
from sre.canary.counting import Counting
from sre.canary.plan import REQUESTS
from sre.canary.source import Source
from sre.judges.canary.observation import Events, Interval, Trouble
from tests.sre.canary.histories import START, Fleet, make_plan
from tests.sre.canary.liar import Liar, Lie, Still, altered, answer, raw, success

PLAN = make_plan()
AT = START + 1.0
ABOUT = 'requests_total{job="s",track="canary",status=~"5.."}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
def liar() -> Iterator[Liar]:
    fleet = Fleet(PLAN)
    fleet.canary.answer(3, status="500")
    fleet.control.answer(4)
    fleet.scrape(AT - 0.3)
    one = Liar(fleet, AT)
    yield one
    one.close()


def look(liar: Liar, *, within_s: float = 20.0, url: str | None = None) -> Interval:
    source = Source(PLAN, url or liar.url, within_s=within_s, clock=Still(AT))
    counting = Counting(PLAN, START)
    found = source.look(counting.since, 0)
    assert reading.load(reading.dump(found)) == found
    return counting.look(found)


def troubles(interval: Interval) -> dict[str, Trouble]:
    return {one.metric: one.trouble for one in interval.missing}


def result(change: Callable[[list[Any]], Any]) -> Lie:
    """The true series after a change."""

    def alter(document: dict[str, Any]) -> None:
        change(document["data"]["result"])

    return altered(alter)


def value(text: Any) -> Lie:
    """The newest sample replaced."""
    return result(lambda series: series[0]["values"][-1].__setitem__(1, text))


def field(**fields: Any) -> Lie:
    """Fields beside the true ones."""
    return altered(lambda document: document.update(fields))


ANSWERS: list[tuple[str, Lie, Trouble]] = [
    ("warnings", field(warnings=["a store is away"]), Trouble.WARNINGS),
    ("infos", field(infos=["the metric might not be a counter"]), Trouble.WARNINGS),
    ("a vector", altered(lambda _: success("vector", [])), Trouble.WRONG_TYPE),
    ("a page", answer(b"<html>log in</html>", kind="text/html; charset=utf-8"), Trouble.WRONG_TYPE),
    ("no content type", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Trouble.WRONG_TYPE),
    ("a cut body", raw(HEAD, b'Content-Length: 900\r\n\r\n{"status":"success","data":{'), Trouble.PARTIAL),
    ("a cut chunk", raw(HEAD, b'Transfer-Encoding: chunked\r\n\r\n40\r\n{"status":"succ'), Trouble.PARTIAL),
    ("no last chunk", raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), Trouble.PARTIAL),
    ("206", answer({}, status=206), Trouble.PARTIAL),
    ("no JSON", answer(b"ok"), Trouble.MALFORMED),
    ("a cut document", answer(b'{"status":"success","data":{'), Trouble.MALFORMED),
    ("bad UTF-8", answer(b'{"status":"success\xff"}'), Trouble.MALFORMED),
    ("deep nesting", answer(b"[" * 200_000), Trouble.MALFORMED),
    ("an empty body", answer(b""), Trouble.MALFORMED),
    ("null", answer(None), Trouble.MALFORMED),
    ("no data", answer({"status": "success"}), Trouble.MALFORMED),
    ("status error", field(status="error", error="too many samples"), Trouble.MALFORMED),
    ("a result that is no list", altered(lambda true: success(true["data"]["resultType"], {})), Trouble.MALFORMED),
    ("broken gzip", answer(b"no gzip", headers={"Content-Encoding": "gzip"}), Trouble.MALFORMED),
    ("far too long", answer(gzip.compress(b" " * (65 * 2**20)), headers={"Content-Encoding": "gzip"}), Trouble.MALFORMED),
    ("204", raw(b"HTTP/1.1 204 No Content\r\n\r\n"), Trouble.CLIENT_ERROR),
    ("302", answer({}, status=302, headers={"Location": "/login"}), Trouble.CLIENT_ERROR),
    ("400", answer({"status": "error"}, status=400), Trouble.CLIENT_ERROR),
    ("401", answer({}, status=401), Trouble.CLIENT_ERROR),
    ("404", answer({}, status=404), Trouble.CLIENT_ERROR),
    ("422", answer({"status": "error"}, status=422), Trouble.CLIENT_ERROR),
    ("429", answer({}, status=429), Trouble.CLIENT_ERROR),
    ("500", answer({}, status=500), Trouble.SERVER_ERROR),
    ("503 in good form", answer(success("matrix", []), status=503), Trouble.SERVER_ERROR),
    ("a connection that closes", raw(), Trouble.UNREACHABLE),
    ("no HTTP", raw(b"SSH-2.0-OpenSSH_9.2\r\n"), Trouble.UNREACHABLE),
]  # fmt: skip
SERIES: list[tuple[str, Lie, Trouble]] = [
    ("no series", result(list.clear), Trouble.EMPTY),
    ("NaN", value("NaN"), Trouble.NOT_A_NUMBER),
    ("infinite", value("+Inf"), Trouble.INFINITE),
    ("a fraction", value("3.5"), Trouble.MALFORMED),
    ("stale", result(lambda series: [one["values"].__delitem__(slice(1, None)) for one in series]
                     + [one["values"][0].__setitem__(0, START - 1.9) for one in series]), Trouble.STALE),
    ("native histograms", result(lambda series: series.append({"metric": {}, "histograms": [[AT, {}]]})), Trouble.WRONG_TYPE),
    ("a number where text belongs", value(3), Trouble.MALFORMED),
    ("a moment that is text", result(lambda series: series[0]["values"][-1].__setitem__(0, "1")), Trouble.MALFORMED),
    ("a moment that is NaN", result(lambda series: series[0]["values"][-1].__setitem__(0, float("nan"))), Trouble.MALFORMED),
    ("a sample of three", result(lambda series: series[0]["values"][-1].append(1)), Trouble.MALFORMED),
    ("no samples", result(lambda series: series[0]["values"].clear()), Trouble.MALFORMED),
    ("samples in disorder", result(lambda series: series[0]["values"].reverse()), Trouble.MALFORMED),
    ("a series twice", result(lambda series: series.append(series[0])), Trouble.MALFORMED),
    ("no labels", result(lambda series: series[0].pop("metric")), Trouble.MALFORMED),
    ("the other arm's series", result(lambda series: series[0]["metric"].update(track="control")), Trouble.MALFORMED),
    ("another metric", result(lambda series: series[0]["metric"].update(__name__="up")), Trouble.MALFORMED),
    ("a sample of tomorrow", result(lambda series: series[0]["values"].append([AT + 86400, "9"])), Trouble.CLOCK_SKEW),
]  # fmt: skip


def table(lies: list[tuple[str, Lie, Trouble]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("lie", "trouble"), [case[1:] for case in lies], ids=[case[0] for case in lies])


@table(ANSWERS + SERIES)
def test_a_lie_about_one_query_is_no_data_of_that_metric_and_of_no_other(liar: Liar, lie: Lie, trouble: Trouble) -> None:
    liar.about, liar.lie = ABOUT, lie
    interval = look(liar)
    assert troubles(interval) == {"errors": trouble}
    assert (interval.canary_requests, interval.control_requests) == (3, 4)
    assert set(interval.observations) == {"latency", "crashes", "classes", "load"}


@table(ANSWERS)
@pytest.mark.parametrize("about", ["up{", "time()"])
def test_a_lie_about_the_targets_or_the_time_is_no_data_at_all(liar: Liar, lie: Lie, trouble: Trouble, about: str) -> None:
    liar.about, liar.lie = about, lie
    interval = look(liar)
    assert troubles(interval) == dict.fromkeys({REQUESTS, *PLAN.metrics}, trouble)
    assert not interval.observations


@pytest.mark.parametrize("part", [b"", HEAD, HEAD + b"Content-Length: 100000\r\n\r\n"], ids=["nothing", "head", "body"])
def test_a_server_that_drips_or_hangs_is_timed_out(liar: Liar, part: bytes) -> None:
    def hang(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(part)
            while not liar.released.wait(0.05):
                # A byte now and then keeps every deadline of a single read from coming.
                handler.wfile.write(b"x" if part else b"")

    liar.about, liar.lie = ABOUT, hang
    assert troubles(look(liar, within_s=1.0))["errors"] is Trouble.TIMED_OUT


def test_prometheus_that_is_away_or_frozen_is_told_for_every_metric(liar: Liar) -> None:
    names = {REQUESTS, *PLAN.metrics}
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        assert troubles(look(liar, url=address)) == dict.fromkeys(names, Trouble.UNREACHABLE)
        frozen.listen()
        assert troubles(look(liar, url=address, within_s=0.2)) == dict.fromkeys(names, Trouble.TIMED_OUT)


@pytest.mark.parametrize("ahead", [-30.0, -1.5, 1.5, 30.0])
def test_a_clock_that_differs_by_more_than_a_scrape_is_no_data(liar: Liar, ahead: float) -> None:
    liar.at = AT + ahead
    assert troubles(look(liar)) == dict.fromkeys({REQUESTS, *PLAN.metrics}, Trouble.CLOCK_SKEW)
    liar.at = AT + ahead / abs(ahead)
    assert troubles(look(liar)) == {}


@pytest.mark.parametrize("said", ["soon", "NaN", ""])
def test_a_clock_that_says_nothing_is_no_data(liar: Liar, said: str) -> None:
    liar.about, liar.lie = "time()", answer(success("scalar", [AT, said]))
    assert set(troubles(look(liar))) == {REQUESTS, *PLAN.metrics}


def test_a_target_that_is_down_and_one_with_an_unknown_past(liar: Liar) -> None:
    liar.fleet.canary.alive = False
    liar.fleet.scrape(AT - 0.1)
    assert set(troubles(look(liar)).values()) == {Trouble.TARGET_DOWN}
    fresh = Fleet(PLAN)
    for process in fresh.processes:
        process.labels["instance"] += "0"
    fresh.scrape(AT - 0.2)
    liar.fleet = fresh
    assert Trouble.UNINITIALISED in troubles(look(liar)).values()


def test_a_value_of_several_series(liar: Liar) -> None:
    liar.about, liar.lie = (
        'avg(load{job="s",track="canary"})',
        result(lambda series: series.append({"metric": {"instance": "other"}, "values": series[0]["values"]})),
    )
    assert troubles(look(liar)) == {"load": Trouble.SEVERAL_SERIES}


def test_the_tables_hold_every_trouble() -> None:
    elsewhere = {Trouble.TIMED_OUT, Trouble.UNINITIALISED, Trouble.TARGET_DOWN, Trouble.SEVERAL_SERIES}
    assert {trouble for *_, trouble in ANSWERS + SERIES} | elsewhere == set(Trouble)


def test_the_truth_is_read_and_the_instant_is_the_same_for_all(liar: Liar) -> None:
    interval = look(liar)
    assert not interval.missing
    assert interval.observations["errors"] == Events(3, 3, 0, 4)
    assert {query["time"] for query in liar.asked if "time" in query} == {f"{AT:.3f}"}
    ups = [number for number, query in enumerate(liar.asked) if query["query"].startswith("up{")]
    others = [number for number, query in enumerate(liar.asked) if "_total" in query["query"]]
    assert max(ups) < min(others)


def test_a_proxy_of_the_caller_is_not_asked(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert not look(liar).missing
