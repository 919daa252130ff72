"""What a request costs, counted and not timed, so that a busy machine changes nothing: calls, memory, threads, modules.

The benchmark measures time, on a quiet machine. This is its part that holds everywhere: a layer that is put around every
request, or a library that is loaded at every start, is seen here first.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Awaitable
from types import FrameType
from typing import Any, NamedTuple

import pytest
from prometheus_client.metrics import MetricWrapperBase
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from system import telemetry
from system.model.artifact import verify
from system.serving import calibrate
from system.serving.app import create_app
from system.serving.fastpath import FastPath
from system.serving.observer import Observer
from system.serving.predictor import Predictor
from system.serving.service import Service

REQUESTS = 16  # one image in 16 is looked at closely (telemetry.py), so any 16 requests in a row cost the same

# Calls of Python and of C functions that 16 requests may make, a twentieth above what was counted on 2026-11-24 with Python
# 3.11, the same in every run: 1,091 and 1,130 for an image (68.2 and 70.6 a request), 1,363 and 1,498 for a tensor.
MOST_CALLS = {"image": (1_145, 1_186), "tensor": (1_431, 1_572)}
LEAST_SAVED = 2.3  # the ratio of Python's calls, the framework's way to the fast one; counted: 2.57 for an image, 2.75
LEAST_SAVED_AROUND = 5.0  # of all calls, without those inside of the service; counted: 6.2 and 8.6
MOST_BLOCKS = 500  # of memory that 2,000 requests may leave behind; counted: 26 to 137, and 2,000 if each left one
MOST_BODIES = 2.0  # memory that one request may take, in lengths of its body; counted: 0.2 for an image, 1.2 for a tensor
MOST_MODULES = 1_000  # counted: 933
HEAVY = ("torch", "mlflow", "pandas", "scipy", "sklearn", "onnx", "openvino", "opentelemetry.sdk", "opentelemetry.exporter")

HOPS = {"run_in_executor", "ThreadPoolExecutor.submit", "Thread.start", "start_new_thread", "start_joinable_thread"}
INSIDE = {Service.predict.__code__, Service.infer_v2.__code__}


class Sent(NamedTuple):
    """A request that can be sent again and again."""

    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self.body, "more_body": False}

    def to(self, app: ASGIApp, statuses: list[int] | None = None) -> Awaitable[None]:
        async def send(message: Message) -> None:
            if statuses is not None and message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {
            "type": "http",
            "method": "POST",
            "path": self.path,
            "root_path": "",
            "query_string": b"",
            "headers": self.headers,
        }
        return app(scope, self.receive, send)


class Costs(NamedTuple):
    """What 16 requests called; `around` counts what is outside of the service's own functions."""

    python: Counter[str]
    c: Counter[str]
    around: int

    @property
    def calls(self) -> tuple[int, int]:
        return self.python.total(), self.c.total()

    def count(self, names: set[str]) -> int:
        both = self.python + self.c
        return sum(times for name, times in both.items() if any(name == one or name.endswith(f".{one}") for one in names))


@pytest.fixture
def app(place: Any) -> Any:
    """The application with a model in it that is inferred inline, and nothing that runs beside it."""
    folder = place.publish("4")
    plan = calibrate.Plan(variant="fp32", image_us=100.0, batch_gain=1.0, measured={}, machine=calibrate._machine())
    calibrate._remember(folder, plan)  # measured here it would follow the machine's mood
    app = create_app(place.settings(trace_share=0))
    app.state.service.loader.production = Predictor(folder, verify(folder))
    assert app.state.service.loader.production._batcher is None
    return app


@pytest.fixture
def ways(app: Any) -> tuple[ASGIApp, ASGIApp]:
    """The whole application, and the same without its fast path."""
    short, long = app.build_middleware_stack(), app.build_middleware_stack()
    assert isinstance(long, Observer)
    assert isinstance(long._app, FastPath)
    long._app = long._app._app
    return short, long


def request(kind: str, image: bytes) -> Sent:
    key = [(b"host", b"test"), (b"x-api-key", b"the-test-key")]
    if kind == "image":
        return Sent("/predict", [*key, (b"content-type", b"image/jpeg"), (b"content-length", b"%d" % len(image))], image)
    element = len(image).to_bytes(4, "little") + image
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = head + element
    lengths = [(b"content-length", b"%d" % len(body)), (b"inference-header-content-length", b"%d" % len(head))]
    return Sent("/v2/models/digits-resnet8/infer", [*key, (b"content-type", b"application/octet-stream"), *lengths], body)


async def count(app: ASGIApp, sent: Sent) -> Costs:
    """The calls of this thread while 16 requests are answered, after 32 that fill every cache."""
    python: Counter[str] = Counter()
    c: Counter[str] = Counter()
    around = depth = 0

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal around, depth
        ours = frame.f_code in INSIDE
        if event == "call":
            python[frame.f_code.co_qualname] += 1
            depth += ours
            around += depth == 0
        elif event == "return":
            depth -= ours
        elif event == "c_call":
            c[getattr(argument, "__qualname__", repr(argument))] += 1
            around += depth == 0

    statuses: list[int] = []
    for _ in range(2 * REQUESTS):
        await sent.to(app, statuses)
    ready = [sent.to(app) for _ in range(REQUESTS)]
    gc.collect()
    gc.disable()  # else finalizers of what earlier tests left would be counted
    sys.setprofile(seen)
    try:
        for one in ready:
            await one
    finally:
        sys.setprofile(None)
        gc.enable()
    assert set(statuses) == {200}
    return Costs(python, c, around)


def exceeds(costs: Costs, kind: str) -> list[str]:
    """The ceilings that are broken."""
    names = ("Python", "C")
    return [name for name, calls, most in zip(names, costs.calls, MOST_CALLS[kind], strict=True) if calls > most]


def layered(app: ASGIApp, sent: Sent) -> ASGIApp:
    """Sabotage: the usual way to add a layer, which does nothing. The body goes past it, which makes it cheaper still."""

    async def inner(scope: Scope, _: Receive, send: Send) -> None:
        await app(scope, sent.receive, send)

    async def dispatch(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    return BaseHTTPMiddleware(inner, dispatch)


@pytest.mark.parametrize("kind", MOST_CALLS)
async def test_a_request_makes_few_calls_and_always_as_many(ways: Any, make_picture: Any, kind: str) -> None:
    sent = request(kind, make_picture())
    runs = [await count(ways[0], sent) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert not exceeds(runs[0], kind), (runs[0].calls, runs[0].python.most_common(20), runs[0].c.most_common(20))


@pytest.mark.parametrize("kind", MOST_CALLS)
async def test_sabotage_one_middleware_is_too_many_calls(ways: Any, make_picture: Any, kind: str) -> None:
    sent = request(kind, make_picture())
    assert exceeds(await count(layered(ways[0], sent), sent), kind) == ["Python", "C"]


@pytest.mark.parametrize("kind", MOST_CALLS)
async def test_the_short_way_is_worth_having(ways: Any, make_picture: Any, kind: str) -> None:
    sent = request(kind, make_picture())
    short, long, slowed = [await count(way, sent) for way in (*ways, layered(ways[0], sent))]
    assert long.python.total() >= LEAST_SAVED * short.python.total()
    assert long.around >= LEAST_SAVED_AROUND * short.around
    assert long.around < LEAST_SAVED_AROUND * slowed.around  # sabotage


@pytest.mark.parametrize("kind", MOST_CALLS)
def test_a_request_whose_body_is_here_runs_to_completion(ways: Any, make_picture: Any, kind: str) -> None:
    """There is no event loop: whatever had to wait for one would raise, or be left waiting."""
    statuses: list[int] = []
    waiting = request(kind, make_picture()).to(ways[0], statuses).__await__()
    with pytest.raises(StopIteration):
        next(waiting)
    assert statuses == [200]


@pytest.mark.parametrize("kind", MOST_CALLS)
async def test_no_request_looks_a_metric_up_or_leaves_its_thread(ways: Any, make_picture: Any, kind: str) -> None:
    threads = threading.active_count()
    costs = await count(ways[0], request(kind, make_picture()))
    assert costs.python["Spread.observe"] >= 6 * REQUESTS  # the metrics are counted, and seen
    assert costs.python["Histogram.observe"] == costs.python["MutexValue.inc"] == 0
    assert costs.python[MetricWrapperBase.labels.__qualname__] == 0
    assert costs.count(HOPS) == 0
    assert threading.active_count() == threads


async def test_sabotage_a_looked_up_metric_and_a_hop_are_seen(ways: Any, make_picture: Any) -> None:
    async def looking_up(scope: Scope, receive: Receive, send: Send) -> None:
        telemetry.REQUESTS.labels("POST", "/predict", "200")
        await ways[0](scope, receive, send)

    async def hopping(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(int)
        await ways[0](scope, receive, send)

    sent = request("image", make_picture())
    assert (await count(looking_up, sent)).python[MetricWrapperBase.labels.__qualname__] == REQUESTS
    assert (await count(hopping, sent)).count(HOPS) >= REQUESTS


async def left_behind(app: ASGIApp, service: Service, sent: Sent) -> int:
    """Blocks of memory that 2,000 requests leave, besides the rows of the prediction log, which a thread takes away."""
    blocks = []
    for requests in (200, 2_000):
        for _ in range(requests):
            await sent.to(app)
        service.recorder._queue.clear()
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    return blocks[1] - blocks[0]


@pytest.mark.parametrize("kind", MOST_CALLS)
async def test_requests_leave_nothing_behind(app: Any, ways: Any, make_picture: Any, kind: str) -> None:
    assert await left_behind(ways[0], app.state.service, request(kind, make_picture())) < MOST_BLOCKS


async def test_sabotage_one_object_kept_a_request_is_a_leak(app: Any, ways: Any, make_picture: Any) -> None:
    kept = []

    async def keeping(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(object())
        await ways[0](scope, receive, send)

    assert await left_behind(keeping, app.state.service, request("image", make_picture())) > MOST_BLOCKS


async def most_memory(app: ASGIApp, sent: Sent) -> float:
    """The most memory that one request holds at once, in lengths of its body; the body that arrived is not counted."""
    tracemalloc.start()
    try:
        await sent.to(app)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await sent.to(app)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (peak - before) / len(sent.body)


@pytest.mark.parametrize("kind", MOST_CALLS)
async def test_a_request_takes_little_memory(ways: Any, make_picture: Any, kind: str) -> None:
    async def copying(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        copies = [bytes(bytearray(body)) for _ in range(3)]
        await ways[0](scope, receive, send)
        del copies

    sent = request(kind, make_picture(size=(480, 360)))
    assert len(sent.body) > 100_000  # else what every request needs would hide the copies of a body
    assert await most_memory(ways[0], sent) <= MOST_BODIES
    assert await most_memory(copying, sent) > MOST_BODIES  # sabotage


STARTED = """
import sys
from pathlib import Path
import system.__main__
from system.config import ServeSettings
from system.model.artifact import verify
from system.serving import launcher
from system.serving.predictor import Predictor

settings = ServeSettings()
service = launcher.create_app(settings).state.service
folder = Path(settings.objects_url.removeprefix("file://")) / "ml-models-production" / settings.model_name / "4"
service.loader.production = Predictor(folder, verify(folder))
"""


def modules(place: Any, script: str) -> set[str]:
    """What is loaded in a process that is ready to serve."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # its modules are not ours
    environment = {**kept, **place.environment()}
    command = [sys.executable, "-c", f"{script}\nprint(*sys.modules)"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def heavy(loaded: set[str]) -> list[str]:
    return [name for name in HEAVY if name in loaded]


def test_a_server_loads_nothing_that_it_does_not_need(place: Any) -> None:
    place.publish("4")
    loaded = modules(place, STARTED)
    assert {"onnxruntime", "system.serving.launcher"} <= loaded
    assert not heavy(loaded)
    assert len(loaded) <= MOST_MODULES, len(loaded)


def test_sabotage_a_heavy_library_is_seen(place: Any) -> None:
    place.publish("4")
    loaded = modules(place, STARTED + "import onnx, scipy.stats")
    assert {"scipy", "onnx"} <= set(heavy(loaded))
    assert len(loaded) > MOST_MODULES
