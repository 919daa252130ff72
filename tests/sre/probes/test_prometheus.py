from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sre.probes import prometheus
from sre.probes.prometheus import Prometheus, alerts, server_counts
from sre.targets.local.programs import find
from tests.sre.slo.history import backfill, served

GONE = "http://127.0.0.1:1"


class Page:
    """A server whose every answer is `text`; while `text` is None it hangs up."""

    def __init__(self) -> None:
        self.text: str | None = ""
        self.status = 200
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if page.text is None:
                    return
                self.send_response(page.status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(page.text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.address}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def count(self, **by_status: int) -> None:
        """Set the counters of the prediction path."""
        lines = [f'http_requests_total{{path="/predict",status="{status[1:]}"}} {value}' for status, value in by_status.items()]
        buckets = sum(by_status.values())
        lines += [
            f'http_request_duration_seconds_bucket{{path="/predict",le="{edge}"}} {buckets}' for edge in ("0.1", "0.2", "+Inf")
        ]
        self.text = "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Scraping:
    """A Prometheus that scrapes two pages, at `addresses`."""

    url: str
    addresses: tuple[str, ...]

    def settled(self, *down: Page) -> float:
        """Wait for a scrape of each page that began after now: one that succeeded, or failed of a page that is `down`.

        Returns:
            The instant of the last of them. All scrapes up to then are over, so that what is set from now on shows after it. A
            scrape bears the time at which it began, and one that is under way when a page changes may show the change.
        """
        begin, deadline = time.time(), time.monotonic() + 60
        reader, hidden = Prometheus(self.url), {page.address for page in down}
        while True:
            lines = {one["metric"]["instance"]: one["values"] for one in reader.query("up[2m]") or []}
            seen = [
                # Prometheus moves a scrape's time by 2 ms at most, to keep its distance from the one before.
                [at for at, state in lines.get(address, []) if at > begin + 0.002 and state == str(int(address not in hidden))]
                for address in self.addresses
            ]
            if all(seen) and (instant := max(one[0] for one in seen)) <= min(line[-1][0] for line in lines.values()):
                return float(instant)
            assert time.monotonic() < deadline, {address: line[-3:] for address, line in lines.items()}
            time.sleep(0.05)


def _page() -> Iterator[Page]:
    one = Page()
    yield one
    one.server.shutdown()
    one.server.server_close()
    one.thread.join()


# What Prometheus scrapes; each test sets what it counts before its span begins.
page = pytest.fixture(_page, scope="module", name="page")
second = pytest.fixture(_page, scope="module", name="second")
# What stands in for a whole Prometheus or Alertmanager.
fake = pytest.fixture(_page, name="fake")


@pytest.fixture(scope="module")
def scraping(programs: Path, tmp_path_factory: pytest.TempPathFactory, page: Page, second: Page) -> Iterator[Scraping]:
    """A Prometheus that scrapes both pages every 0.2 s, the first as stable and the second as canary."""
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "scrape_configs": [{"job_name": "serving", "static_configs": [
            {"targets": [one.address], "labels": {"track": track}} for one, track in ((page, "stable"), (second, "canary"))
        ]}],
    }  # fmt: skip
    (folder / "prometheus.yml").write_text(json.dumps(config))
    found = find("prometheus", programs)
    command = [str(found.path), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    server = subprocess.Popen(command, env={**os.environ, **found.environment}, stderr=subprocess.DEVNULL)
    yield Scraping(f"http://127.0.0.1:{port}", (page.address, second.address))
    server.terminate()
    server.wait(10)


def test_counters_are_read_exactly(scraping: Scraping, page: Page, second: Page) -> None:
    page.count(s200=5)
    second.count(s200=0)
    start = scraping.settled()
    page.count(s200=12, s503=3)
    second.count(s200=4, s404=1)
    end = scraping.settled()
    counts = server_counts(scraping.url, start, end)
    assert counts is not None
    assert (counts.requests, counts.errors, counts.resets) == (7 + 3 + 4 + 1, 3, 0)
    assert counts.start <= start < counts.end <= end
    assert counts.p95 is not None
    assert 0 < counts.p95 <= 0.1
    # The span is the caller's: what happened before or after is not in it.
    page.count(s200=1000, s503=3)
    later = scraping.settled()
    again = server_counts(scraping.url, start, end)
    assert again is not None
    assert again.requests == counts.requests
    quiet = server_counts(scraping.url, later, scraping.settled())
    assert quiet is not None
    assert (quiet.requests, quiet.errors) == (0, 0)


def test_a_restarted_counter_counts_from_zero_and_is_told(scraping: Scraping, page: Page, second: Page) -> None:
    page.count(s200=5)
    second.count(s200=0)
    start = scraping.settled()
    page.count(s200=9)
    scraping.settled()
    page.text = None
    scraping.settled(page)
    page.count(s200=2)
    counts = server_counts(scraping.url, start, scraping.settled())
    assert counts is not None
    assert (counts.requests, counts.resets) == (4 + 2, 1)


def test_counts_end_where_a_target_that_is_down_was_last_scraped(scraping: Scraping, page: Page, second: Page) -> None:
    page.count(s200=5)
    second.count(s200=0)
    start = scraping.settled()
    page.count(s200=9)
    second.count(s200=1)
    scraping.settled()
    second.text = None
    down = scraping.settled(second)
    # What the second has answered since nobody knows, so this is not counted either.
    page.count(s200=20)
    end = scraping.settled(second)
    counts = server_counts(scraping.url, start, end)
    assert counts is not None
    assert (counts.requests, counts.resets) == (4 + 1, 0)
    assert start < counts.end < down
    assert server_counts(scraping.url, down, end) is None
    second.count(s200=3)
    whole = server_counts(scraping.url, start, scraping.settled())
    assert whole is not None
    assert whole.requests == 15 + 3


def test_one_track_is_counted_by_itself(scraping: Scraping, page: Page, second: Page) -> None:
    page.count(s200=900)
    second.count(s200=0, s500=0)
    start = scraping.settled()
    page.count(s200=1000)
    second.count(s200=20, s500=3)
    end = scraping.settled()
    canary, both = server_counts(scraping.url, start, end, track="canary"), server_counts(scraping.url, start, end)
    assert canary is not None
    assert both is not None
    assert (canary.requests, canary.errors) == (23, 3)
    assert both.requests == 123
    assert server_counts(scraping.url, start, end, track="control") is None


def test_no_sample_before_the_span_is_no_count(scraping: Scraping) -> None:
    end = scraping.settled()
    assert server_counts(scraping.url, end - 3600, end) is None
    assert server_counts(scraping.url, end + 1000, end + 1010) is None


def test_a_metric_that_is_not_there_is_no_count(scraping: Scraping, page: Page, second: Page) -> None:
    page.text = second.text = ""
    start = scraping.settled()
    # What was scraped before lies outside the window that is asked for.
    assert server_counts(scraping.url, start + 60, start + 90) is None
    assert Prometheus(scraping.url).query('http_requests_total{path="/nothing"}') == []


def test_one_value_or_none(scraping: Scraping) -> None:
    at = scraping.settled()
    reader = Prometheus(scraping.url)
    assert reader.value("count(up)", at) == 2
    assert reader.value("up", at) is None
    assert reader.value("nothing", at) is None
    assert reader.value("vector(0) / vector(0)", at) is None
    assert reader.value("vector(1) / vector(0)", at) is None
    assert reader.query("not promql (", at) is None
    assert reader.value("count(up)", at - 3600) is None


def test_a_proxy_of_the_caller_is_not_asked(scraping: Scraping, monkeypatch: pytest.MonkeyPatch) -> None:
    scraping.settled()
    monkeypatch.setenv("http_proxy", GONE)
    monkeypatch.setenv("HTTP_PROXY", GONE)
    assert Prometheus(scraping.url).value("vector(7)") == 7


def test_a_server_that_is_down_or_frozen_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Prometheus(GONE).query("up") is None
    assert Prometheus(GONE).value("up") is None
    assert server_counts(GONE, 0.0, 1.0) is None
    assert alerts(GONE) is None
    monkeypatch.setattr(prometheus, "WITHIN_S", 0.2)
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        assert Prometheus(f"http://127.0.0.1:{frozen.getsockname()[1]}").query("up") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"data": null}', '{"data": {}}', "<html>"])
def test_garbage_is_no_answer(fake: Page, text: str) -> None:
    fake.text = text
    assert Prometheus(fake.url).query("up") is None
    assert server_counts(fake.url, 0.0, 1.0) is None


def test_alerts_are_what_alertmanager_holds(fake: Page) -> None:
    firing = {
        "labels": {"alertname": "HighLatency"}, "status": {"state": "active"}, "startsAt": "2026-01-01T12:00:00.500Z",
        "annotations": {"runbook_url": "file:///runbooks/high-latency.md"},
    }  # fmt: skip
    silenced = {**firing, "status": {"state": "suppressed"}, "annotations": {}}
    fake.text = json.dumps([firing, silenced])
    found = alerts(fake.url)
    assert found is not None
    assert [(one.name, one.active, one.runbook_url) for one in found] == [
        ("HighLatency", True, "file:///runbooks/high-latency.md"), ("HighLatency", False, ""),
    ]  # fmt: skip
    assert found[0].starts_at == 1_767_268_800.5
    fake.text = "[]"
    assert alerts(fake.url) == ()


@pytest.mark.parametrize("text", ["", "<html>", "7", "{}", '[{"labels": {}}]', "[7]", '[{"labels": {"alertname": "x"}}]', "null"])
def test_alerts_that_are_not_alerts_are_no_answer(fake: Page, text: str) -> None:
    fake.text = text
    assert alerts(fake.url) is None


def test_an_error_of_alertmanager_is_no_answer(fake: Page) -> None:
    fake.text, fake.status = "[]", 500
    assert alerts(fake.url) is None


T0 = 1_780_000_000.0
START, END = T0 + 21.0, T0 + 41.0


def line(
    track: str, instance: str, name: str, *samples: tuple[float, float], **labels: str
) -> tuple[str, list[tuple[float, float]]]:
    """A series of the prediction path's processes, by seconds after T0."""
    told = {"job": "serving", "track": track, "instance": instance, **labels}
    matchers = ",".join(f'{key}="{value}"' for key, value in told.items())
    return f"{name}{{{matchers}}}", [(T0 + at, value) for at, value in samples]


def requests(track: str, instance: str, status: str, *samples: tuple[float, float]) -> tuple[str, list[tuple[float, float]]]:
    return line(track, instance, "http_requests_total", *samples, path="/predict", status=status)


def up(track: str, instance: str, states: str, first: int = 10) -> tuple[str, list[tuple[float, float]]]:
    """Scrapes ten seconds apart."""
    return line(track, instance, "up", *((first + 10 * number, float(state)) for number, state in enumerate(states)))


def began(track: str, instance: str, *starts: tuple[float, float]) -> tuple[str, list[tuple[float, float]]]:
    return line(track, instance, "process_start_time_seconds", *((at, T0 + start) for at, start in starts))


@pytest.fixture(scope="module")
def past(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that remembers scrapes at 10, 20, 30 and 40 s; each story has a track of its own."""
    folder = tmp_path_factory.mktemp("past")
    backfill(programs, folder, dict([
        up("late", "a", "1111"), requests("late", "a", "200", (10, 5), (20, 7), (30, 9), (40, 9)),
        requests("late", "a", "503", (40, 3)),
        up("restarted", "a", "1111"), requests("restarted", "a", "200", (10, 5), (20, 7), (30, 9), (40, 2)),
        requests("restarted", "a", "503", (10, 1), (20, 1), (30, 1), (40, 4)),
        up("replaced", "a", "11"), requests("replaced", "a", "200", (10, 5), (20, 7)),
        up("replaced", "b", "11", 30), requests("replaced", "b", "200", (30, 50), (40, 60)),
        began("replaced", "b", (30, 25), (40, 25)),
        up("older", "a", "1111"), requests("older", "a", "200", (10, 5), (20, 7), (30, 9), (40, 9)),
        up("older", "b", "11", 30), requests("older", "b", "200", (30, 50), (40, 60)),
        began("older", "b", (30, 5), (40, 5)),
        up("fresh", "a", "11", 30), requests("fresh", "a", "200", (30, 0), (40, 23)), began("fresh", "a", (30, 25), (40, 25)),
        up("unasked", "a", "1111"), requests("unasked", "a", "200", (30, 4), (40, 9)),
        up("missed", "a", "1101"), requests("missed", "a", "200", (10, 5), (20, 7), (40, 11)),
        up("ends", "a", "1110"), requests("ends", "a", "200", (10, 5), (20, 7), (30, 9)),
        up("ends", "b", "1111"), requests("ends", "b", "200", (10, 0), (20, 0), (30, 1), (40, 90)),
        up("gone", "a", "1000"), requests("gone", "a", "200", (10, 5)),
        up("gone", "b", "1111"), requests("gone", "b", "200", (10, 0), (20, 0), (30, 1), (40, 2)),
        up("fraction", "a", "1111"), requests("fraction", "a", "200", (10, 5), (20, 7), (30, 9.5), (40, 10)),
    ]))  # fmt: skip
    with served(programs, folder) as url:
        yield url


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        # A status that a scraped process first shows stood at zero.
        ("late", (5, 3, 0, 40)),
        # A process that began anew began all its counters anew, those too that have overtaken themselves.
        ("restarted", (2 + 2 + 4, 4, 1, 40)),
        # A process that began within the span did so at zero; of an older one nobody knows what it had counted.
        ("replaced", (60, 0, 0, 40)),
        ("older", None),
        # The span has to begin after the first scrape, also of processes that began within it.
        ("fresh", None),
        # A process that was scraped before anybody asked it counts from zero.
        ("unasked", (9, 0, 0, 40)),
        # A failed scrape in between costs nothing. At the end it ends the counts of all, and without one before there are none.
        ("missed", (4, 0, 0, 40)),
        ("ends", (2 + 1, 0, 0, 30)),
        ("gone", None),
        ("fraction", None),
    ],
)
def test_what_scrapes_tell_is_counted_and_the_rest_is_no_count(past: str, track: str, expected: tuple[int, ...] | None) -> None:
    counts = server_counts(past, START, END, track)
    found = None if counts is None else (counts.requests, counts.errors, counts.resets, counts.end - T0)
    assert found == expected
