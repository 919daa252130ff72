from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from system import telemetry
from system.serving import tracing
from system.serving.tracing import Finished, Trace, Tracer, draw

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def _drawn(traceparent: str | bytes | None, share: float = 0) -> Trace:
    return draw(traceparent.encode() if isinstance(traceparent, str) else traceparent, share)[1]


@pytest.mark.parametrize(
    ("traceparent", "flags"),
    [
        (PARENT, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),  # level 2: random
        (f"00-{TRACE}-{SPAN}-ff", 3),  # flags that are not defined are not sent on
        (f"01-{TRACE}-{SPAN}-01", 1),  # a later version
        (f"cc-{TRACE}-{SPAN}-01-what the future will be like", 1),
        (f"cc-{TRACE}-{SPAN}-01-", 1),
    ],
)
def test_a_well_formed_parent_is_taken(traceparent: str, flags: int) -> None:
    trace = _drawn(traceparent)
    assert (trace.trace_id, trace.parent_id, trace.flags) == (TRACE, SPAN, flags)
    assert trace.sampled == bool(flags & 1)
    assert trace.span_id not in {SPAN, ""}
    assert trace.header() == f"00-{TRACE}-{trace.span_id}-{flags:02x}".encode()


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        PARENT.upper(),
        PARENT[:-1],
        PARENT[:-3],
        PARENT + "-more",
        PARENT + "\n",
        PARENT + ".",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-.0",
        f"00_{TRACE}_{SPAN}_01",
        f" {PARENT}",
        b"\xff" * 55,
    ],
)
def test_a_malformed_parent_begins_a_trace_of_its_own(traceparent: str | bytes | None) -> None:
    trace = _drawn(traceparent)
    assert trace.trace_id != TRACE
    assert (trace.parent_id, trace.flags) == ("", 2)


@given(st.binary(max_size=80), st.floats(0, 1))
def test_whatever_is_sent_the_answer_is_well_formed(traceparent: bytes, share: float) -> None:
    again = _drawn(_drawn(traceparent, share).header())
    assert (len(again.trace_id), len(again.span_id), len(again.parent_id)) == (32, 16, 16)


def test_the_senders_decision_counts_and_else_the_share() -> None:
    assert _drawn(PARENT, 0).sampled
    assert not _drawn(f"00-{TRACE}-{SPAN}-00", 1).sampled
    assert not any(_drawn(None, 0).sampled for _ in range(1000))
    assert all(_drawn(None, 1).sampled for _ in range(1000))
    # 10,000 draws at one half: five standard deviations are 250
    assert 4750 < sum(_drawn(None, 0.5).sampled for _ in range(10_000)) < 5250


def test_ids_do_not_repeat() -> None:
    drawn = [draw(None, 0) for _ in range(20_000)]
    assert len({request_id for request_id, _ in drawn} | {trace.trace_id for _, trace in drawn}) == 40_000
    assert len({trace.span_id for _, trace in drawn}) == 20_000


def test_a_fork_draws_others() -> None:
    program = (
        "import os; from system.serving.tracing import draw\n"
        "child = os.fork()\n"
        "os.write(1, draw(None, 0)[0].encode() + b'\\n')\n"
        "child and os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    first, second = done.stdout.split()
    assert first != second


def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import sys; from system.serving.tracing import Tracer\n"
        "tracer = Tracer('', share=1, replica='r'); tracer.start(); tracer.offer(None); tracer.stop(within_s=1)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


@dataclass
class Collector:
    """Takes OTLP over HTTP as a collector does."""

    url: str = ""
    status: int = 200
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    def spans(self) -> list[Span]:
        groups = [scope for request in self.requests for resource in request.resource_spans for scope in resource.scope_spans]
        return [span for scope in groups for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.status == 200 and self.path == "/v1/traces":
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_INTERVAL_S", 0.01)
    monkeypatch.setattr(tracing, "_TIMEOUT_S", 0.5)


@pytest.fixture
def make_tracer(_impatient: None) -> Iterator[Callable[..., Tracer]]:
    made: list[Tracer] = []

    def make(url: str, capacity: int = 100) -> Tracer:
        made.append(Tracer(url, share=0.1, replica="serving-2", capacity=capacity))
        return made[-1]

    yield make
    for tracer in made:
        if tracer._thread is not None and tracer._thread.is_alive():
            tracer.stop(within_s=5)


def _finished(status: int = 200, trace: Trace | None = None) -> Finished:
    now = time.perf_counter()
    stages = [("decode", now - 0.003, now - 0.002), ("infer", now - 0.002, now - 0.001)]
    attributes: dict[str, str | int] = {"http.response.status_code": status, "model.version": "3"}
    return Finished(trace or _drawn(PARENT), "POST /predict", now - 0.004, now, status, attributes, stages)


def _total(name: str) -> float:
    return telemetry.REGISTRY.get_sample_value(f"trace_spans_{name}_total") or 0.0


def _until(what: Callable[[], object], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.01)


def test_a_collector_gets_the_request_and_its_stages(collector: Collector, make_tracer: Callable[..., Tracer]) -> None:
    exported, tracer, finished = _total("exported"), make_tracer(collector.url), _finished()
    tracer.start()
    before_ns = time.time_ns()
    tracer.offer(finished)
    _until(lambda: _total("exported") == exported + 1)
    whole, decode, infer = collector.spans()
    assert (whole.trace_id.hex(), whole.span_id.hex(), whole.parent_span_id.hex()) == (TRACE, finished.trace.span_id, SPAN)
    assert (whole.name, whole.kind, whole.status.code) == ("POST /predict", Span.SPAN_KIND_SERVER, 0)
    assert {item.key for item in whole.attributes} == {"http.response.status_code", "model.version"}
    assert [decode.name, infer.name] == ["decode", "infer"]
    for stage in (decode, infer):
        assert (stage.trace_id.hex(), stage.parent_span_id) == (TRACE, whole.span_id)
    assert len({whole.span_id, decode.span_id, infer.span_id}) == 3
    instants = [whole.start_time_unix_nano, decode.start_time_unix_nano, decode.end_time_unix_nano, infer.end_time_unix_nano]
    assert instants == sorted(instants)
    assert whole.end_time_unix_nano - whole.start_time_unix_nano == pytest.approx(4e6, abs=2000)
    assert abs(whole.end_time_unix_nano - before_ns) < 60e9  # epoch time, not the process's own clock
    (resource,) = [group.resource for group in collector.requests[0].resource_spans]
    named = {item.key: item.value.string_value for item in resource.attributes}
    assert (named["service.name"], named["service.instance.id"]) == ("ml-api", "serving-2")


def test_a_failure_is_marked_and_a_trace_of_our_own_has_no_parent(
    collector: Collector, make_tracer: Callable[..., Tracer]
) -> None:
    tracer = make_tracer(collector.url)
    tracer.start()
    tracer.offer(_finished(503, _drawn(None, 1)))
    tracer.stop(within_s=5)  # what waits is exported before the end
    whole = collector.spans()[0]
    assert (whole.status.code, whole.parent_span_id) == (2, b"")


def test_a_full_queue_drops_and_counts(make_tracer: Callable[..., Tracer]) -> None:
    tracer, dropped = make_tracer("http://127.0.0.1:9/v1/traces", capacity=3), _total("dropped")
    for _ in range(5):
        tracer.offer(_finished())
    assert _total("dropped") == dropped + 2


def test_a_collector_that_is_away_costs_the_spans_and_is_reported_once(
    collector: Collector, make_tracer: Callable[..., Tracer], caplog: pytest.LogCaptureFixture
) -> None:
    tracer, dropped, exported = make_tracer(collector.url), _total("dropped"), _total("exported")
    collector.status = 400
    tracer.start()
    for number in (1, 2):
        tracer.offer(_finished())
        _until(lambda number=number: _total("dropped") == dropped + number)  # type: ignore[misc]
    assert [record.getMessage() for record in caplog.records] == [
        "the trace collector at ML_OTLP_URL takes no spans; they are dropped and counted until it does"
    ]
    collector.status = 200
    tracer.offer(_finished())
    _until(lambda: _total("exported") == exported + 1)


def test_stopping_does_not_wait_for_a_collector_that_is_away(collector: Collector, make_tracer: Callable[..., Tracer]) -> None:
    tracer, dropped = make_tracer(collector.url), _total("dropped")
    collector.status = 503  # a status after which the exporter tries again for a while
    tracer.start()
    for _ in range(3):
        tracer.offer(_finished())
    tracer.stop(within_s=0.05)
    _until(lambda: _total("dropped") == dropped + 3)
    _until(lambda: not any(thread.name == "tracer" for thread in threading.enumerate()))


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("status", [200, 503])
async def test_a_sampled_prediction_is_traced_and_a_collector_that_is_away_changes_nothing(
    collector: Collector, place: Any, running: Any, make_picture: Any, status: int
) -> None:
    collector.status = status
    place.publish()
    async with running(place.settings(otlp_url=collector.url, trace_share=0)) as (service, client):
        service.recorder._capacity = 0
        await _ready(client)
        for number in range(3):
            headers = {"Content-Type": "image/jpeg", "X-Request-ID": f"r{number}", "traceparent": PARENT}
            answer = await client.post("/predict", content=make_picture(), headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    spans = [span for span in collector.spans() if span.name == "POST /predict"]
    assert [span.parent_span_id.hex() for span in spans] == ([SPAN] * 3 if status == 200 else [])
    if spans:
        values = {item.key: item.value for item in spans[-1].attributes}
        assert (values["request.id"].string_value, values["model.version"].string_value) == ("r2", "1")
        below = [span.name for span in collector.spans() if span.parent_span_id == spans[-1].span_id]
        assert {"decode", "infer"} <= set(below)


async def _ready(client: httpx.AsyncClient, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while (last := await client.get("/health/ready")).status_code != 200:
        if time.monotonic() > deadline:
            pytest.fail(f"not ready after {within_s} s (last: {last.text})")
        await asyncio.sleep(0.02)
