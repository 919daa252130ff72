from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGSTOP

import pytest

from sre.drills.world import World
from sre.errors import StepFailed, TargetUnavailable
from sre.measure.quantiles import answered
from sre.measure.samples import read
from sre.probes.prometheus import Prometheus
from sre.readings import LoadPlan
from sre.targets.local import processes, state
from sre.targets.local.layout import ARMS, Layout
from sre.targets.local.router import LocalRouter
from sre.targets.local.state import ServiceState, SystemState
from sre.targets.local.target import LocalTarget
from tests.contract.versions import register_copy

MakeLayout = Callable[..., Layout]
Eventually = Callable[..., None]


@pytest.fixture
def layout(make_layout: MakeLayout) -> Layout:
    """A system's folders; neither its services nor its registry are there."""
    layout = make_layout()
    layout.arms.mkdir()
    (layout.run / "canary").write_text("2", encoding="utf-8")
    return layout


def slots(layout: Layout) -> tuple[set[int], set[int]]:
    found = [{int(path.name) for path in (layout.split / track).iterdir()} for track in ("canary", "control")]
    return found[0], found[1]


@pytest.mark.parametrize(
    ("canary", "control", "first", "last"),
    [(0.0, 0.0, 0, 0), (0.1, 0.1, 100, 100), (0.001, 0.0, 1, 0), (1.0, 0.0, 1000, 0), (0.5, 0.5, 500, 500), (0.9, 0.1, 900, 100),
     (0.0005, 0.9995, 0, 1000)],
)  # fmt: skip
def test_the_canary_gets_the_first_slots_and_its_control_the_last(
    layout: Layout, canary: float, control: float, first: int, last: int
) -> None:
    LocalRouter(layout).shift(canary, control)
    assert slots(layout) == (set(range(first)), set(range(1000 - last, 1000)))


def test_a_shift_leaves_nothing_of_the_one_before(layout: Layout) -> None:
    for share in (0.5, 0.1, 0.0):
        LocalRouter(layout).shift(share, share)
    assert slots(layout) == (set(), set())
    assert [path.name for path in layout.run.glob("split-*")] == [layout.split.readlink().name]


def test_another_account_can_look_at_the_slots(layout: Layout) -> None:
    LocalRouter(layout).shift(0.001, 0.0)
    folders = (layout.split.resolve(), layout.split / "canary", layout.split / "control")
    assert [oct(folder.stat().st_mode & 0o777) for folder in folders] == ["0o755"] * 3


def running(layout: Layout, *arms: subprocess.Popen[bytes]) -> None:
    services = {name: ServiceState("ready", processes.identity(process.pid)) for name, process in zip(ARMS, arms, strict=True)}
    state.write(
        layout.home,
        SystemState("", "ready", "", layout.parts, dict(layout.ports), list(layout.replicas), layout.account, services),
    )


@pytest.fixture
def arms(layout: Layout) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two processes in place of canary and control."""
    begun = [subprocess.Popen(["sleep", "1000"]) for _ in ARMS]
    running(layout, *begun)
    yield begun
    for process in begun:
        process.kill()
        process.wait(10)


def test_a_canary_ends_without_registry_and_prometheus_also_when_it_is_frozen(
    layout: Layout, arms: list[subprocess.Popen[bytes]]
) -> None:
    router = LocalRouter(layout)
    (layout.arms / "arms.json").write_text("[]", encoding="utf-8")
    router.shift(0.5, 0.5)
    arms[0].send_signal(SIGSTOP)
    router.end()
    assert slots(layout) == (set(), set())
    assert [process.wait(10) for process in arms] == [-15, -15]
    assert all(state.held(layout.home, arm) for arm in ARMS)
    assert not (layout.arms / "arms.json").exists()
    assert router.split() is None


def test_a_canary_that_does_not_drain_is_killed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sre.targets.local.router.DRAINED_WITHIN_S", 0.2)
    stubborn = [subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 1000"], stdout=subprocess.PIPE) for _ in ARMS]
    for process in stubborn:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
    running(layout, *stubborn)
    LocalRouter(layout).end()
    assert [process.wait(10) for process in stubborn] == [-9, -9]


def test_what_a_crash_left_half_ended_is_ended(layout: Layout, arms: list[subprocess.Popen[bytes]]) -> None:
    LocalRouter(layout).shift(0.5, 0.5)
    for arm in ARMS:
        state.hold(layout.home, arm)
    arms[0].terminate()
    LocalRouter(layout).end()
    assert [process.wait(10) for process in arms] == [-15, -15]
    assert not (layout.run / "canary").exists()


def test_a_registry_that_is_away_is_told(layout: Layout) -> None:
    (layout.run / "canary").unlink()
    for change in (LocalRouter(layout).begin, LocalRouter(layout).demote):
        with pytest.raises(StepFailed, match=r"the registry at .* does not answer GET .*look at MLflow's log"):
            change("2")
    assert LocalRouter(layout).split() is None


def test_a_system_that_is_gone_is_told(layout: Layout) -> None:
    with pytest.raises(TargetUnavailable, match="is gone; run `sre up`"):
        LocalRouter(layout).end()


@pytest.fixture
def canary(system: LocalTarget) -> Iterator[LocalRouter]:
    """A canary in a real system."""
    router = system.router
    try:
        router.begin(register_copy(system.layout))
        yield router
    finally:
        router.end()


@pytest.mark.local
def test_prometheus_sees_every_counter_at_zero_first_and_counts_what_each_arm_answers(
    system: LocalTarget, canary: LocalRouter, tmp_path: Path
) -> None:
    prometheus = Prometheus(system.endpoints.prometheus)
    requests = 'http_requests_total{job="serving",path="/predict",track="%s"}'
    for track in ("canary", "control"):
        series = prometheus.query(requests % track)
        assert series
        assert {one["value"][1] for one in series} == {"0"}
        assert prometheus.value(f'process_start_time_seconds{{job="serving",track="{track}"}}')
    canary.shift(0.3, 0.2)
    world = World(system.endpoints, 2.0, 5.0)
    load = world.start_load(LoadPlan(rate=60.0, seconds=20.0, seed=6), tmp_path / "load")
    load.wait()
    _, samples = read(tmp_path / "load")
    assert answered(samples).all()
    time.sleep(world.settle_s)
    count = len(samples)
    # Five standard deviations of a share that chance draws for each request.
    assert prometheus.value(f"sum({requests % 'canary'})") == pytest.approx(0.3 * count, abs=5 * (0.21 * count) ** 0.5)
    assert prometheus.value(f"sum({requests % 'control'})") == pytest.approx(0.2 * count, abs=5 * (0.16 * count) ** 0.5)


@pytest.mark.local
def test_a_canary_that_died_shows_it_and_when_it_has_ended_prometheus_knows_none(
    system: LocalTarget, canary: LocalRouter, eventually: Eventually
) -> None:
    prometheus = Prometheus(system.endpoints.prometheus)
    began = 'process_start_time_seconds{job="serving",track="canary"}'
    before = prometheus.value(began)
    system.kill("canary-1")
    eventually(lambda: prometheus.value(began) not in {None, before}, "another start of the canary is scraped")
    canary.end()
    eventually(lambda: prometheus.query('up{job="serving",track!="stable"}') == [], "no arm is scraped")
