from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sre.probes import prometheus
from sre.probes.prometheus import Prometheus, alerts, server_counts
from sre.targets.local.programs import find

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
    """A Prometheus, and a wait until it has scraped everything anew, which gives the time."""

    url: str
    settled: Callable[[], float]


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
    """A Prometheus that scrapes both pages every 0.1 s."""
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms"},
        "scrape_configs": [{"job_name": "serving", "static_configs": [{"targets": [page.address, second.address]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    found = find("prometheus", programs)
    command = [str(found.path), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]  # fmt: skip
    server = subprocess.Popen(command, env={**os.environ, **found.environment}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def settled() -> float:
        begin, deadline = time.time(), time.monotonic() + 20
        reader = Prometheus(url)
        while reader.value("count(up)") != 2 or (reader.value("min(timestamp(up))") or 0) < begin + 0.1:
            assert time.monotonic() < deadline, "Prometheus does not scrape"
            time.sleep(0.05)
        return time.time()

    yield Scraping(url, settled)
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
    scraping.settled()
    page.count(s200=2)
    counts = server_counts(scraping.url, start, scraping.settled())
    assert counts is not None
    assert (counts.requests, counts.resets) == (4 + 2, 1)


def test_one_track_is_counted_by_itself_from_when_it_was_seen_at_zero(scraping: Scraping, page: Page, second: Page) -> None:
    def count(stable: int, canary: int, failed: int) -> None:
        page.text = f'http_requests_total{{path="/predict",status="200",track="stable"}} {stable}\n'
        second.text = "".join(
            f'http_requests_total{{path="/predict",status="{status}",track="canary"}} {value}\n'
            for status, value in ((200, canary), (500, failed))
        )

    page.text = second.text = ""
    unseen = scraping.settled()
    count(900, 0, 0)
    start = scraping.settled()
    count(1000, 20, 3)
    end = scraping.settled()
    canary, both = server_counts(scraping.url, start, end, track="canary"), server_counts(scraping.url, start, end)
    assert canary is not None
    assert both is not None
    assert (canary.requests, canary.errors) == (23, 3)
    assert both.requests == 123
    assert server_counts(scraping.url, start, end, track="control") is None
    # A canary that nobody had seen yet has no sample before the span.
    assert server_counts(scraping.url, unseen, end, track="canary") is None


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


@pytest.mark.parametrize(
    ("values", "known_before", "expected"),
    [
        ([], True, (0, 0)),
        ([5, 5, 9], True, (4, 0)),
        ([5], False, (5, 0)),
        ([3, 5], False, (5, 0)),
        ([5, 9, 2, 4], True, (8, 1)),
        ([5, 0, 5, 0], True, (5, 2)),
    ],
)
def test_increase_of_a_counter(values: list[float], known_before: bool, expected: tuple[float, int]) -> None:  # noqa: FBT001
    points = [(float(number), float(value)) for number, value in enumerate(values)]
    assert prometheus._increase(points, known_before=known_before) == expected
