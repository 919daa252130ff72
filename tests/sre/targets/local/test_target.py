from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sre.errors import CannotRun, StepFailed, TargetUnavailable, UndoIncomplete, UsageError
from sre.targets.base import Capability
from sre.targets.local import processes, state, target
from sre.targets.local.database import all_roles
from sre.targets.local.layout import ARMS, Layout
from sre.targets.local.target import LocalTarget
from sre.targets.registry import MODEL, PRODUCTION, Registry

TOOLS = Path("/nonexistent/tools")
UP = """
import sys
from pathlib import Path
from sre.targets.local import target
target.SUPERVISOR = sys.argv[2:]
target.up(Path(sys.argv[1]), Path("/none"), say=lambda line: print(line, flush=True))
"""


def names(home: Path) -> list[str]:
    return sorted(process.name() for process in processes.of_system(home))


def supervisor_of(home: Path) -> str:
    current = state.read(home)
    assert current is not None
    return current.supervisor


def services(home: Path) -> dict[str, state.ServiceState]:
    current = state.read(home)
    assert current is not None
    return current.services


def test_up_begins_and_down_leaves_nothing_but_data(small_home: Path) -> None:
    said: list[str] = []
    system, begun = target.up(small_home, TOOLS, replicas=2, say=said.append)
    assert begun
    assert said == ["first: done", "one: ready", "two: ready"]
    assert system.layout.replicas == ("serving-1", "serving-2")
    assert system.handle == f"local:{small_home}"
    assert names(small_home)
    assert target.down(small_home) == []
    assert not names(small_home)
    assert sorted(path.name for path in small_home.iterdir()) == ["config", "data", "lock", "logs", "offsite", "secrets"]


def test_a_second_up_joins_and_keeps_what_the_first_chose(small_home: Path) -> None:
    first, _ = target.up(small_home, TOOLS, replicas=2, variant="int8", synchronous="strict")
    assert (first.layout.variant, first.layout.synchronous) == ("int8", "strict")
    before, said = supervisor_of(small_home), []  # type: ignore[var-annotated]
    joined, begun = target.up(small_home, TOOLS, replicas=7, synchronous="off", say=said.append)
    assert not begun
    assert joined.layout == first.layout
    assert supervisor_of(small_home) == before
    assert said[0] == f"a system already holds {small_home}; joining it"


def test_of_several_that_begin_at_once_one_begins_and_the_others_join(small_home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        begun = [future.result()[1] for future in [pool.submit(target.up, small_home, TOOLS) for _ in range(4)]]
    assert sorted(begun) == [False, False, False, True]
    assert len([name for name in names(small_home) if name.startswith("python")]) == 1


def test_after_a_killed_supervisor_up_ends_what_was_left_and_begins(small_home: Path) -> None:
    target.up(small_home, TOOLS)
    old, orphans = supervisor_of(small_home), [item.process for item in services(small_home).values() if item.process]
    assert processes.signal_process(old, signal.SIGKILL)
    wait_gone(old)
    assert all(processes.alive(orphan) for orphan in orphans)
    said: list[str] = []
    _, begun = target.up(small_home, TOOLS, say=said.append)
    assert begun
    assert [line for line in said if line.startswith("ended ") and "that an earlier system left: sleep" in line]
    assert supervisor_of(small_home) != old
    assert not any(processes.alive(orphan) for orphan in orphans)


def test_after_a_killed_supervisor_nothing_is_held_or_cut_any_more(small_home: Path) -> None:
    system, _ = target.up(small_home, TOOLS)
    state.hold(small_home, "one")
    (system.layout.run / "cables").mkdir()
    (system.layout.run / "cables" / "wish.json").touch()
    assert processes.signal_process(supervisor_of(small_home), signal.SIGKILL)
    wait_gone(supervisor_of(small_home))
    target.up(small_home, TOOLS)
    assert not state.held(small_home, "one")
    assert not (system.layout.run / "cables" / "wish.json").exists()


def test_after_a_killed_supervisor_down_ends_everything(small_home: Path) -> None:
    target.up(small_home, TOOLS)
    frozen = next(item.process for item in services(small_home).values() if item.process)
    assert processes.signal_process(frozen, signal.SIGSTOP)
    assert processes.signal_process(supervisor_of(small_home), signal.SIGKILL)
    wait_gone(supervisor_of(small_home))
    left = target.down(small_home)
    assert "sleep" in left
    assert not names(small_home)
    assert target.down(small_home) == []


def wait_gone(process: str) -> None:
    deadline = time.monotonic() + 10
    while processes.alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_dead_system_last_wrote_is_never_joined(small_home: Path) -> None:
    small_home.mkdir()
    dead = state.SystemState("1@2", "ready", "", "all", {}, [], None, {"one": state.ServiceState("ready")})
    state.write(small_home, dead)
    with pytest.raises(TargetUnavailable, match="no system runs"):
        target.attach(small_home, TOOLS)
    _, begun = target.up(small_home, TOOLS)
    assert begun


def test_a_start_that_fails_says_why_and_leaves_nothing(never_ready: Path) -> None:
    with pytest.raises(CannotRun, match="did not start: two: two was not ready within 1 s; last seen: not yet"):
        target.up(never_ready, TOOLS)
    assert not names(never_ready)
    assert state.read(never_ready) is None


def test_one_that_joins_a_start_that_fails_is_told(never_ready: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        outcomes = [pool.submit(target.up, never_ready, TOOLS) for _ in range(2)]
        errors = [str(outcome.exception()) for outcome in outcomes]
    assert all("did not start: two: two was not ready" in error for error in errors), errors


def test_a_supervisor_that_dies_is_reported_with_its_last_words(small_home: Path, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text("raise SystemExit('no memory')")
    with pytest.raises(CannotRun, match="the supervisor ended with 1; its last words: no memory"):
        target.up(small_home, TOOLS)


def test_one_that_joins_a_system_that_ends_begins_its_own(small_home: Path) -> None:
    small_home.mkdir()
    with (small_home / "lock").open("a") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said: list[str] = []
        waiting = pool.submit(target.up, small_home, TOOLS, say=said.append)
        while not said:
            time.sleep(0.01)
        lock.close()
        assert waiting.result()[1] is True


def test_waiting_ends_at_its_deadline_and_names_what_is_missing(never_ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "UP_WITHIN_S", 0.8)
    with pytest.raises(CannotRun, match="was not ready within 1 s; still waiting for"):
        target.up(never_ready, TOOLS)
    assert not names(never_ready)


def test_attach_refuses_a_system_that_is_not_ready(small_home: Path) -> None:
    with pytest.raises(TargetUnavailable, match=r"no system runs in .*; run `sre up`"):
        target.attach(small_home, TOOLS)
    target.up(small_home, TOOLS)
    assert target.attach(small_home, TOOLS).layout.home == small_home
    current = state.read(small_home)
    assert current is not None
    current.state, current.why = "failed", "mlflow: keeps ending"
    state.write(small_home, current)
    with pytest.raises(TargetUnavailable, match="is failed: mlflow: keeps ending"):
        target.attach(small_home, TOOLS)


def test_purge_deletes_the_system_and_nothing_else(small_home: Path) -> None:
    target.up(small_home, TOOLS)
    (small_home / "letters").mkdir()
    target.down(small_home, purge=True)
    assert [path.name for path in small_home.iterdir()] == ["letters"]
    (small_home / "letters").rmdir()
    target.up(small_home, TOOLS)
    target.down(small_home, purge=True)
    assert not small_home.exists()


def test_a_process_that_cannot_be_ended_is_named(small_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_home.mkdir()
    stubborn = subprocess.Popen(["sleep", "1000"], env={**os.environ, "SRE_SYSTEM": str(small_home)})
    monkeypatch.setattr(processes, "sweep", lambda _: [])
    try:
        with pytest.raises(UndoIncomplete, match=f"cannot be ended: {stubborn.pid}"):
            target.down(small_home)
    finally:
        stubborn.kill()
        stubborn.wait()


def test_a_killed_command_leaves_a_system_that_can_be_joined(small_home: Path) -> None:
    script = small_home.parent / "up.py"
    script.write_text(UP, encoding="utf-8")
    command = [sys.executable, str(script), str(small_home), *target.SUPERVISOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        one.stdout.readline()
        one.kill()
    _, begun = target.up(small_home, TOOLS)
    assert not begun


def test_a_dataset_is_missing_until_something_was_trained(make_layout: Callable[..., Layout]) -> None:
    layout = make_layout()
    with pytest.raises(TargetUnavailable, match="holds no dataset"):
        target.newest_dataset(layout)
    for version in ("2026-01-01-000000", "2026-02-01-000000", "2026-03-01-000000"):
        (layout.objects / "ml-datasets" / version).mkdir(parents=True)
    for version in ("2026-01-01-000000", "2026-02-01-000000"):
        (layout.objects / "ml-datasets" / version / "manifest.json").touch()
    assert target.newest_dataset(layout).name == "2026-02-01-000000"


def test_a_system_that_is_gone_has_no_replicas(make_layout: Callable[..., Layout]) -> None:
    layout = make_layout()
    with pytest.raises(TargetUnavailable, match="is gone; run `sre up`"):
        LocalTarget(layout).replicas()
    dead = {name: state.ServiceState("restarting", "1@2", 3) for name in layout.replicas}
    state.write(layout.home, state.SystemState("1@2", "ready", "", "all", {}, list(layout.replicas), None, dead))
    assert [(item.ready, item.restarts) for item in LocalTarget(layout).replicas()] == [(False, 3)] * 3
    with pytest.raises(StepFailed, match=r"serving-1 has no process to send SIGKILL to \(last known: 1@2\)"):
        LocalTarget(layout).kill("serving-1")


def test_a_restored_place_has_no_cluster(make_layout: Callable[..., Layout]) -> None:
    with pytest.raises(CannotRun, match="is a restored place: its database is a single server"):
        _ = LocalTarget(make_layout(parts="serving")).database


def test_a_restored_place_splits_no_traffic(make_layout: Callable[..., Layout]) -> None:
    with pytest.raises(CannotRun, match="is a restored place: it has no ingress that could split traffic"):
        _ = LocalTarget(make_layout(parts="serving")).router


def test_a_replica_that_does_not_answer_says_no_version(make_layout: Callable[..., Layout]) -> None:
    found = LocalTarget(make_layout(replicas=2)).versions()
    assert list(found) == ["serving-1", "serving-2"]
    assert all("refused" in why for why in found.values())


def test_a_service_is_stopped_and_runs_again(small_home: Path, eventually: Callable[..., None]) -> None:
    system, _ = target.up(small_home, TOOLS)
    process = psutil.Process(int(services(small_home)["one"].process.partition("@")[0]))
    system.signal_service("one", signal.SIGSTOP)
    eventually(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
    system.signal_service("one", signal.SIGCONT)
    eventually(lambda: process.status() != psutil.STATUS_STOPPED, "it runs again")


def test_a_service_without_a_process_gets_no_signal(make_layout: Callable[..., Layout]) -> None:
    layout = make_layout()
    waiting = {name: state.ServiceState("waiting") for name in ("prometheus", "canary-1", *layout.replicas)}
    state.write(layout.home, state.SystemState("1@2", "ready", "", "all", {}, list(layout.replicas), None, waiting))
    with pytest.raises(StepFailed, match=r"prometheus has no process to send SIGSTOP to \(last known: none\)"):
        LocalTarget(layout).signal_service("prometheus", signal.SIGSTOP)
    with pytest.raises(StepFailed, match="canary-1 has no process to send SIGKILL to"):
        LocalTarget(layout).kill("canary-1")
    for arm in ARMS:
        state.hold(layout.home, arm)
    with pytest.raises(UsageError, match="replica 'canary-1' does not exist; there are serving-1, serving-2, serving-3"):
        LocalTarget(layout).kill("canary-1")


@pytest.mark.local
def test_every_replica_says_which_version_it_serves(system: LocalTarget) -> None:
    production = Registry(system.endpoints.mlflow).aliases()[MODEL][PRODUCTION]
    assert system.versions() == dict.fromkeys(system.layout.replicas, production)


@pytest.mark.local
def test_the_real_system_is_whole(system: LocalTarget) -> None:
    of_clusters = {
        Capability.NODES, Capability.PODS, Capability.ROLLOUTS, Capability.SCALING, Capability.VOLUME_BACKUPS, Capability.NETWORK,
        Capability.REBUILD,
    }  # fmt: skip
    assert system.capabilities == frozenset(Capability) - of_clusters
    assert [(item.name, item.ready) for item in system.replicas()] == [(f"serving-{number}", True) for number in (1, 2, 3)]
    with pytest.raises(UsageError, match="replica 'serving-9' does not exist; there are serving-1, serving-2, serving-3"):
        system.pause("serving-9")
    described = system.describe()
    assert set(described["programs"]) >= {"nginx", "postgres", "etcd", "pgbackrest", "prometheus", "alertmanager"}
    assert all(item["version"][0].isdigit() for item in described["programs"].values())
    assert target.up(system.layout.home, system.layout.tools)[1] is False


@pytest.mark.local
def test_no_secret_is_readable_by_others_or_shown_anywhere(system: LocalTarget) -> None:
    layout = system.layout
    assert layout.secrets.stat().st_mode & 0o077 == 0
    files = list(layout.secrets.iterdir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    values = {path.read_text().strip() for path in files if path.suffix != ".key" and path.name != "passfile"}
    assert len(values) == len(all_roles()) + 3, "every role's password, the key of the service, and the keys of both repositories"
    values |= {path.read_text().splitlines()[1] for path in files if path.suffix == ".key"}
    # Without an attribute that can be missing: a zombie has no command line.
    shown = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    texts = dict(open_texts(layout.home))
    assert {layout.config / "prometheus.yml", layout.logs / "postgres-1.log", layout.home / state.STATE_NAME} <= set(texts)
    shown += texts.values()
    shown.append(json.dumps({**system.describe(), "endpoints": repr(system.endpoints)}))
    assert not [value for value in values for text in shown if value in text]


def open_texts(home: Path) -> Iterator[tuple[Path, str]]:
    """Every file below the home that an account without rights of its own can read; servers make and delete some meanwhile."""
    for folder, folders, files in os.walk(home):
        folders[:] = [name for name in folders if (Path(folder) / name).stat().st_mode & 0o011]
        for path in (Path(folder) / name for name in files):
            with suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_mode & 0o044 and path.stat().st_size < 20_000_000:
                    yield path, path.read_text(encoding="utf-8", errors="replace")


def test_a_restored_place_has_no_router(make_layout: Callable[..., Layout]) -> None:
    with pytest.raises(CannotRun, match="is a restored place: it has no ingress that could split traffic"):
        _ = LocalTarget(make_layout(parts="serving")).router
