from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psutil
import pytest

from sre.targets.local import state, supervisor
from sre.targets.local.layout import Layout
from sre.targets.local.service import Service, Task
from sre.targets.local.state import SystemState
from sre.targets.local.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("quick")

MakeLayout = Callable[..., Layout]
MakeService = Callable[..., Service]
MakeTask = Callable[..., Task]
SLEEP = "exec sleep 1000"


def seen(layout: Layout) -> SystemState:
    current = state.read(layout.home)
    assert current is not None
    return current


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def run(
    layout: Layout, nodes: Sequence[Service | Task], meanwhile: Callable[[Supervisor], Awaitable[None]] | None = None
) -> int:
    """Runs until every node is ready and `meanwhile` has ended; without it, until the supervisor gives up."""
    one = Supervisor(layout, nodes)
    whole = asyncio.create_task(one.run())
    if meanwhile is not None:
        try:
            await until(lambda: (layout.home / state.STATE_NAME).exists() and seen(layout).state == "ready", "never ready")
            await meanwhile(one)
        finally:
            one.stopping.set()
    return await asyncio.wait_for(whole, 30)


def pid(layout: Layout, name: str) -> int:
    return int(seen(layout).services[name].process.partition("@")[0] or 0)


async def test_everything_is_started_in_order_and_told(make_layout: MakeLayout, service: MakeService, command: MakeTask) -> None:
    layout = make_layout()
    order: list[str] = []

    def check() -> str:
        order.append("server")
        return ""

    nodes: list[Service | Task] = [
        Task(name="first", function=lambda _: order.append("first")),
        command("second", "echo made > made", after=("first",)),
        service("server", SLEEP, check=check, after=("second",)),
        Task(name="needless", skip=lambda: True, function=lambda _: order.append("needless")),
    ]

    async def look(_: Supervisor) -> None:
        services = seen(layout).services
        assert {name: item.state for name, item in services.items()} == {
            "first": "done", "second": "done", "server": "ready", "needless": "done",
        }  # fmt: skip
        assert psutil.Process(pid(layout, "server")).nice() == psutil.Process().nice() + 5

    assert await run(layout, nodes, look) == 0
    assert order[:2] == ["first", "server"]
    assert (layout.run / "made").exists()
    assert seen(layout).state == "stopping"
    assert seen(layout).services["server"].state == "stopped"


async def test_what_ends_by_itself_is_started_again_and_counted(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()

    async def kill_twice(_: Supervisor) -> None:
        for restarts in (1, 2):
            before = pid(layout, "server")
            os.kill(before, signal.SIGKILL)
            await until(
                lambda before=before, restarts=restarts: (  # type: ignore[misc]
                    seen(layout).services["server"].restarts == restarts
                    and seen(layout).services["server"].state == "ready"
                    and pid(layout, "server") not in {0, before}
                ),
                "not started again",
            )

    assert await run(layout, [service("server", SLEEP)], kill_twice) == 0


async def test_the_delay_grows_while_it_keeps_ending(
    make_layout: MakeLayout, service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, delays = make_layout(), []
    real = asyncio.wait_for

    async def record(what: Awaitable[object], timeout: float) -> object:  # noqa: ASYNC109 - the signature that is replaced
        delays.append(timeout)
        return await real(what, timeout)

    monkeypatch.setattr(supervisor, "_LONGEST_DELAY_S", 0.2)

    async def wait_for_six(_: Supervisor) -> None:
        monkeypatch.setattr(asyncio, "wait_for", record)
        (layout.run / "broken").touch()
        os.kill(pid(layout, "server"), signal.SIGKILL)
        await until(lambda: seen(layout).services["server"].restarts >= 6, "it did not keep restarting")
        monkeypatch.setattr(asyncio, "wait_for", real)

    ready = service("server", f"test -e broken && exit 3; {SLEEP}")
    assert await run(layout, [ready], wait_for_six) == 0
    assert delays[:5] == [0.0, 0.05, 0.1, 0.2, 0.2]


async def test_after_a_calm_while_the_delay_begins_again(
    make_layout: MakeLayout, service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_layout()
    monkeypatch.setattr(supervisor, "_CALM_S", 0.0)
    # A second delay that were kept would outlast the test.
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_S", 1000.0)

    async def kill(_: Supervisor) -> None:
        for restarts in (1, 2, 3):
            await until(lambda: seen(layout).services["server"].state == "ready", "not ready")
            os.kill(pid(layout, "server"), signal.SIGKILL)
            await until(lambda restarts=restarts: seen(layout).services["server"].restarts == restarts, "waits")  # type: ignore[misc]

    assert await run(layout, [service("server", SLEEP)], kill) == 0


async def test_what_is_held_is_not_ended_and_not_started_again_until_it_is_released(
    make_layout: MakeLayout, service: MakeService
) -> None:
    layout = make_layout()

    async def comes_back(restarts: int) -> None:
        os.kill(pid(layout, "other"), signal.SIGKILL)
        await until(lambda: seen(layout).services["other"].restarts == restarts, "its end was not noticed")
        await until(lambda: seen(layout).services["other"].state == "ready", "what is not held was not started again")

    async def hold_and_release(_: Supervisor) -> None:
        lost = pid(layout, "lost")
        state.hold(layout.home, "lost")
        await comes_back(1)
        assert pid(layout, "lost") == lost
        os.kill(lost, signal.SIGKILL)
        await until(lambda: seen(layout).services["lost"].restarts == 1, "its end was not noticed")
        # The other one comes back twice, the second time after a pause; the held one had no pause and has not come back.
        for restarts in (2, 3):
            await comes_back(restarts)
        assert (seen(layout).services["lost"].state, pid(layout, "lost")) == ("restarting", 0)
        state.release(layout.home, "lost")
        await until(lambda: seen(layout).services["lost"].state == "ready", "it was released and not started again")
        assert pid(layout, "lost") != lost

    assert await run(layout, [service("lost", SLEEP), service("other", SLEEP)], hold_and_release) == 0


async def test_a_system_ends_while_a_service_is_held(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()

    async def hold(_: Supervisor) -> None:
        state.hold(layout.home, "lost")
        os.kill(pid(layout, "lost"), signal.SIGKILL)
        await until(lambda: seen(layout).services["lost"].restarts == 1, "its end was not noticed")

    assert await run(layout, [service("lost", SLEEP)], hold) == 0
    assert seen(layout).services["lost"].state == "stopped"


async def test_what_a_killed_service_leaves_is_ended_before_it_starts_again(
    make_layout: MakeLayout, service: MakeService
) -> None:
    layout = make_layout()

    async def kill(_: Supervisor) -> None:
        await until(lambda: (layout.run / "child").exists() and bool((layout.run / "child").read_text()), "no child")
        child = psutil.Process(int((layout.run / "child").read_text()))
        os.kill(pid(layout, "server"), signal.SIGKILL)
        await until(lambda: seen(layout).services["server"].restarts == 1, "not started again")
        await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child holds its port still")

    assert await run(layout, [service("server", f"sleep 1000 & echo $! > child; {SLEEP}")], kill) == 0


async def test_a_service_that_is_never_ready_fails_the_start(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()
    assert await run(layout, [service("server", f"echo cannot bind; {SLEEP}", check=lambda: "port 7: refused")]) == 1
    current = seen(layout)
    assert current.state == "failed"
    assert current.why.startswith("server: server was not ready within 0 s; last seen: port 7: refused")
    assert "its last words: cannot bind" in current.why


async def test_a_service_that_keeps_ending_fails_the_start(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()
    assert await run(layout, [service("server", "echo no such file; exit 7", check=lambda: "nothing yet")]) == 1
    current = seen(layout)
    assert current.why == "server: server keeps ending; its last words: " + "\n".join(["no such file"] * 4)
    assert current.services["server"].restarts == supervisor.START_ATTEMPTS


async def test_a_service_that_was_ready_may_take_its_time_later(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()

    async def restart_slowly(one: Supervisor) -> None:
        (layout.run / "slow").touch()
        os.kill(pid(layout, "server"), signal.SIGKILL)
        await until(lambda: seen(layout).services["server"].state == "starting", "not started again")
        await asyncio.sleep(3 * supervisor.READY_WITHIN_S)
        assert not one.stopping.is_set()
        (layout.run / "slow").unlink()
        await until(lambda: seen(layout).services["server"].state == "ready", "not ready again")

    check = lambda: "slow" if (layout.run / "slow").exists() else ""  # noqa: E731 - one line says it
    assert await run(layout, [service("server", SLEEP, check=check)], restart_slowly) == 0


async def test_a_task_that_fails_ends_the_system_with_its_last_words(
    make_layout: MakeLayout, service: MakeService, command: MakeTask
) -> None:
    layout = make_layout()
    nodes = (
        service("before", SLEEP),
        command("work", "echo disk full >&2; exit 3", after=("before",)),
        service("after", SLEEP, after=("work",)),
    )
    assert await run(layout, nodes) == 1
    current = seen(layout)
    assert current.why == "work: work ended with 3; its last words: disk full"
    assert current.services["before"].state == "stopped"
    assert current.services["after"].state == "waiting"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("function", "work: the values are wrong"),
        ("slow command", "work: work did not end within 0 s"),
        ("skip", "work: registry away"),
        ("no program", "work: [Errno 2]"),
    ],
)
async def test_every_way_in_which_a_task_can_fail_is_told(
    make_layout: MakeLayout, command: MakeTask, kind: str, said: str
) -> None:
    def raise_(words: str) -> bool:
        raise OSError(words)

    tasks = {
        "function": Task(name="work", function=lambda _: raise_("the values are wrong")),  # type: ignore[arg-type]
        "slow command": command("work", SLEEP),
        "skip": Task(name="work", skip=lambda: raise_("registry away")),
        "no program": Task(name="work", command=("/nonexistent/program",)),
    }
    layout, before = make_layout(), psutil.Process().children()
    assert await run(layout, [tasks[kind]]) == 1
    assert seen(layout).why.startswith(said)
    assert psutil.Process().children() == before


async def test_sigterm_ends_everything_in_reverse_order(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()
    script = "trap 'echo {0} >> ended; exit 0' {1}; echo up > {0}; while :; do sleep 0.01; done"
    nodes = [
        service("database", script.format("database", "INT"), stop_signal=signal.SIGINT, check=lambda: missing("database")),
        service("server", script.format("server", "TERM"), after=("database",), check=lambda: missing("server")),
        service("ingress", script.format("ingress", "QUIT"), stop_signal=signal.SIGQUIT, after=("server",),
                check=lambda: missing("ingress")),
    ]  # fmt: skip

    def missing(name: str) -> str:
        return "" if (layout.run / name).exists() else "not yet"

    async def terminate(_: Supervisor) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: seen(layout).state == "stopping", "SIGTERM was not heard")

    assert await run(layout, nodes, terminate) == 0
    assert (layout.run / "ended").read_text().split() == ["ingress", "server", "database"]


async def test_what_ignores_its_signal_or_is_frozen_is_ended_all_the_same(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()
    nodes = [service("deaf", "trap '' TERM; touch deaf; while :; do sleep 0.01; done"), service("frozen", SLEEP)]
    pids = []

    async def freeze(_: Supervisor) -> None:
        await until((layout.run / "deaf").exists, "the trap is not set")
        pids.extend([pid(layout, "deaf"), pid(layout, "frozen")])
        os.kill(pids[1], signal.SIGSTOP)

    assert await run(layout, nodes, freeze) == 0
    assert not [number for number in pids if psutil.pid_exists(number)]


async def test_a_task_that_is_interrupted_is_not_done(make_layout: MakeLayout, service: MakeService, command: MakeTask) -> None:
    layout = make_layout()
    one = Supervisor(layout, [command("train", SLEEP), command("after", "touch after", after=("train",))])
    whole = asyncio.create_task(one.run())
    await until(lambda: (layout.home / state.STATE_NAME).exists() and pid(layout, "train") > 0, "the task did not begin")
    one.stopping.set()
    assert await asyncio.wait_for(whole, 30) == 0
    assert {name: item.state for name, item in seen(layout).services.items()} == {"train": "stopped", "after": "waiting"}
    assert not (layout.run / "after").exists()


async def test_a_process_made_while_everything_stops_is_ended(make_layout: MakeLayout, service: MakeService) -> None:
    node = service("late", SLEEP)
    one = Supervisor(make_layout(), [node])
    one.stopping.set()
    process = await one._spawn(node.name, node.command, dict(node.environment), None)
    assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGKILL


async def test_a_long_log_is_put_aside_once(
    make_layout: MakeLayout, service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_layout()
    monkeypatch.setattr(supervisor, "_LOG_LIMIT_BYTES", 3)
    (layout.logs / "server.log").write_text("older words")

    async def nothing(_: Supervisor) -> None:
        await until(lambda: "newer" in (layout.logs / "server.log").read_text(), "no log")

    assert await run(layout, [service("server", f"echo newer; {SLEEP}")], nothing) == 0
    assert (layout.logs / "server.log.1").read_text() == "older words"


def test_the_state_file_is_whole_at_every_moment(make_layout: MakeLayout) -> None:
    one = Supervisor(make_layout(), [Task(name=f"t{number}") for number in range(50)])
    for number in range(50):
        one._note(f"t{number}", state="done", last="x" * 1000)
        assert seen(one.layout).services[f"t{number}"].state == "done"
    assert not list(Path(one.layout.home).glob("*.new"))


async def test_what_is_on_demand_runs_only_while_it_is_released_and_nobody_waits_for_it(
    make_layout: MakeLayout, service: MakeService
) -> None:
    layout = make_layout()
    nodes = [service("server", SLEEP), service("extra", SLEEP, on_demand=True)]

    async def release_kill_and_hold(_: Supervisor) -> None:
        assert (seen(layout).services["extra"].state, pid(layout, "extra")) == ("waiting", 0)
        state.release(layout.home, "extra")
        await until(lambda: seen(layout).services["extra"].state == "ready", "not begun")
        os.kill(pid(layout, "extra"), signal.SIGKILL)
        await until(lambda: seen(layout).services["extra"].restarts == 1 and pid(layout, "extra") > 0, "not started again")
        state.hold(layout.home, "extra")
        os.kill(pid(layout, "extra"), signal.SIGTERM)
        await until(lambda: seen(layout).services["extra"].state == "waiting", "not held")
        assert (seen(layout).services["extra"].restarts, pid(layout, "extra")) == (0, 0)
        state.release(layout.home, "extra")
        await until(lambda: pid(layout, "extra") > 0, "not begun again")

    assert await run(layout, nodes, release_kill_and_hold) == 0
    assert seen(layout).services["extra"].state == "stopped"


async def test_what_is_on_demand_and_keeps_ending_fails_nothing(make_layout: MakeLayout, service: MakeService) -> None:
    layout = make_layout()

    async def release(_: Supervisor) -> None:
        state.release(layout.home, "extra")
        restarts = supervisor.START_ATTEMPTS + 1
        await until(lambda: seen(layout).services["extra"].restarts > restarts, "not tried again")
        assert seen(layout).state == "ready"

    nodes = [service("server", SLEEP), service("extra", "exit 3", on_demand=True, check=lambda: "never")]
    assert await run(layout, nodes, release) == 0


async def test_what_is_held_while_its_process_is_being_made_is_ended(
    make_layout: MakeLayout, service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_layout()
    real = asyncio.create_subprocess_exec

    async def hold_meanwhile(*arguments: object, **options: object) -> asyncio.subprocess.Process:
        state.hold(layout.home, "extra")
        return await real(*arguments, **options)  # type: ignore[arg-type]

    async def release(_: Supervisor) -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", hold_meanwhile)
        state.release(layout.home, "extra")
        await until(lambda: state.held(layout.home, "extra"), "no process was made")
        await until(lambda: seen(layout).services["extra"].state == "waiting" and not pid(layout, "extra"), "still there")

    assert await run(layout, [service("server", SLEEP), service("extra", SLEEP, on_demand=True)], release) == 0
