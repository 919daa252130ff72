from __future__ import annotations

import json
import math
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from sre.errors import EvidenceDamaged, StepFailed, UndoIncomplete
from sre.faults.base import Undo
from sre.faults.ledger import LEDGER_NAME, Entry, Ledger
from sre.faults.process import KillReplicas, PauseReplicas
from sre.targets.local import processes, state
from sre.targets.local.layout import Layout
from sre.targets.local.target import LocalTarget
from sre.targets.memory import Behaviour, MemoryTarget
from sre.targets.volumes import MemoryVolumes


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / LEDGER_NAME)


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget()


def resume(replica: str) -> Undo:
    return Undo("resume", {"replica": replica}, f"resume {replica}")


def whole(target: MemoryTarget) -> bool:
    return all(replica.ready for replica in target.replicas())


def test_an_undo_is_on_disk_once_it_is_planned(ledger: Ledger) -> None:
    ledger.plan(resume("serving-2"))
    (line,) = ledger.path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "entry": 1,
        "event": "planned",
        "action": "resume",
        "arguments": {"replica": "serving-2"},
        "sentence": "resume serving-2",
    }


def test_a_ledger_without_a_file_holds_nothing(ledger: Ledger, target: MemoryTarget) -> None:
    assert ledger.entries() == []
    assert ledger.pending() == []
    assert ledger.replay(target) == []
    assert not ledger.path.exists()


def test_another_process_reads_the_same_entries(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-1"))
    ledger.replay(target)
    Ledger(ledger.path).plan(resume("serving-2"))
    assert ledger.entries() == [Entry(1, resume("serving-1"), undone=True), Entry(2, resume("serving-2"), undone=False)]


def test_what_is_pending_comes_newest_first_and_is_undone_in_that_order(ledger: Ledger, target: MemoryTarget) -> None:
    for replica in ("serving-1", "serving-2", "serving-3"):
        fault = PauseReplicas(target, (replica,))
        ledger.plan(fault.undo)
        fault.inject()
    assert [entry.number for entry in ledger.pending()] == [3, 2, 1]
    assert ledger.replay(target) == ["resume serving-3", "resume serving-2", "resume serving-1"]
    assert whole(target)
    assert [json.loads(line)["entry"] for line in ledger.path.read_text(encoding="utf-8").splitlines()[3:]] == [3, 2, 1]


def test_a_second_replay_does_nothing(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-2"))
    target.pause("serving-2")
    assert ledger.replay(target) == ["resume serving-2"]
    assert ledger.replay(target) == []


def test_an_undo_that_was_done_but_not_written_down_is_done_again_without_harm(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-2"))
    target.pause("serving-2")
    planned = ledger.path.read_bytes()
    ledger.replay(target)
    ledger.path.write_bytes(planned)
    assert ledger.replay(target) == ["resume serving-2"]
    assert whole(target)


def test_a_crash_between_plan_and_fault_leaves_nothing_to_repair(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-2"))
    ledger.plan(KillReplicas(target, ("serving-1",)).undo)
    before = target.replicas()
    assert ledger.replay(target) == ["wait until serving-1 is ready again", "resume serving-2"]
    assert target.replicas() == before


def test_a_frozen_replica_that_was_replaced_meanwhile_is_only_waited_for(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-2"))
    target.pause("serving-2")
    target.kill("serving-2")
    assert target.replicas()[1].identity == ""
    assert ledger.replay(target) == ["resume serving-2"]
    assert whole(target)


def test_a_kill_is_undone_when_the_platform_has_replaced_the_replica(ledger: Ledger, target: MemoryTarget) -> None:
    fault = KillReplicas(target, ("serving-2",))
    ledger.plan(fault.undo)
    fault.inject()
    began = target.clock.now()
    assert ledger.replay(target) == ["wait until serving-2 is ready again"]
    assert 5.0 <= target.clock.now() - began <= 5.3


def test_a_last_line_cut_short_was_never_acted_upon(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-2"))
    whole_line = ledger.path.read_bytes()
    ledger.plan(resume("serving-3"))
    torn = ledger.path.read_bytes()[:-5]
    ledger.path.write_bytes(torn)
    assert [entry.undo for entry in ledger.entries()] == [resume("serving-2")]
    assert torn.startswith(whole_line)
    target.pause("serving-2")
    assert ledger.replay(target) == ["resume serving-2"]
    assert whole(target)


def test_after_a_torn_line_the_ledger_can_still_be_written_and_read(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-2"))
    with ledger.path.open("ab") as file:
        file.write(b'{"entry": 2, "ev')
    target.pause("serving-2")
    ledger.replay(target)
    ledger.plan(resume("serving-3"))
    assert [entry.undone for entry in ledger.entries()] == [True, False]
    assert ledger.replay(target) == ["resume serving-3"]


@pytest.mark.parametrize("line", ["not json", "[]", '{"event": "planned", "entry": 2}', '"resume"'])
def test_a_damaged_ledger_is_not_guessed_at(ledger: Ledger, target: MemoryTarget, line: str) -> None:
    ledger.plan(resume("serving-2"))
    ledger.path.write_text(f"{line}\n{ledger.path.read_text(encoding='utf-8')}", encoding="utf-8")
    target.pause("serving-2")
    with pytest.raises(EvidenceDamaged, match="undo by hand what it names"):
        ledger.replay(target)


def test_an_undo_that_fails_does_not_stop_the_others(ledger: Ledger) -> None:
    target = MemoryTarget(Behaviour(startup_s=math.inf))
    for fault in (
        PauseReplicas(target, ("serving-1",)),
        KillReplicas(target, ("serving-2",)),
        PauseReplicas(target, ("serving-3",)),
    ):
        ledger.plan(fault.undo)
        fault.inject()
    with pytest.raises(UndoIncomplete, match=r"^still changed: wait until serving-2 is ready again: serving-2 was not ready"):
        ledger.replay(target)
    assert [replica.ready for replica in target.replicas()] == [True, False, True]
    assert [entry.undo.arguments["replica"] for entry in ledger.pending()] == ["serving-2"]


def test_an_undo_that_meets_what_nobody_foresaw_does_not_stop_the_others_either(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-2"))
    target.pause("serving-2")
    ledger.plan(Undo("resume", {}, "resume without a name"))
    with pytest.raises(UndoIncomplete, match=r"still changed: resume without a name: KeyError\('replica'\)"):
        ledger.replay(target)
    assert whole(target)


def test_an_undo_of_another_version_is_named_and_stays_pending(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(Undo("unheard-of", {}, "undo something"))
    with pytest.raises(UndoIncomplete, match="still changed: undo something: KeyError"):
        ledger.replay(target)
    assert len(ledger.pending()) == 1


def test_a_replica_that_vanished_is_not_ready(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(resume("serving-9"))
    with pytest.raises(UndoIncomplete, match=r"serving-9 was not ready within 90 s \(last seen: None\)"):
        ledger.replay(target)


def test_a_restored_place_is_removed(ledger: Ledger, target: MemoryTarget, open_folder: Path) -> None:
    place = open_folder / "restored"
    (place / "data").mkdir(parents=True)
    (place / "data" / "file").write_text("x", encoding="utf-8")
    ledger.plan(Undo("remove-restored", {"place": str(place)}, "remove the restored place"))
    assert ledger.replay(target) == ["remove the restored place"]
    assert not place.exists()


def test_a_restored_place_that_cannot_be_removed_whole_stays_pending(
    ledger: Ledger, target: MemoryTarget, open_folder: Path
) -> None:
    place = open_folder / "restored"
    place.mkdir()
    (place / "someone-elses").write_text("x", encoding="utf-8")
    ledger.plan(Undo("remove-restored", {"place": str(place)}, "remove the restored place"))
    with pytest.raises(UndoIncomplete, match="restored cannot be deleted whole"):
        ledger.replay(target)
    assert len(ledger.pending()) == 1


def test_a_restored_place_that_was_never_made_needs_no_removal(ledger: Ledger, target: MemoryTarget, tmp_path: Path) -> None:
    ledger.plan(Undo("remove-restored", {"place": str(tmp_path / "restored")}, "remove the restored place"))
    assert ledger.replay(target) == ["remove the restored place"]


def test_a_canary_that_a_crash_left_is_ended_and_production_put_back(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(Undo("demote", {"version": "1"}, "put version 1 back into production"))
    ledger.plan(Undo("end-canary", {}, "take the traffic of the canary back and end it"))
    target.router.begin("2")
    target.router.shift(0.5, 0.5)
    target.router.promote()
    assert ledger.replay(target) == ["take the traffic of the canary back and end it", "put version 1 back into production"]
    assert target.router.split() is None
    target.router.begin("2")
    split = target.router.split()
    assert split is not None
    assert split.production == "1"


def test_a_router_that_refuses_leaves_the_canary_pending(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(Undo("end-canary", {}, "end the canary"))
    target.router.begin("2")
    target.behaviour.router_works = False
    with pytest.raises(UndoIncomplete, match="still changed: end the canary: the router changes nothing just now"):
        ledger.replay(target)
    target.behaviour.router_works = True
    assert ledger.replay(target) == ["end the canary"]


FORGET = Undo("forget-volumes", {"name": "b", "namespaces": "a,c"}, "delete backup b and its namespaces")


def test_a_backup_and_its_namespaces_are_deleted(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(FORGET)
    assert Ledger(ledger.path).replay(target) == ["delete backup b and its namespaces"]
    ledger.plan(FORGET)
    target.volumes.begin("a")
    target.volumes.back_up("b", ["a"])
    assert ledger.replay(target) == ["delete backup b and its namespaces"]
    assert target.volumes.left("b", ["a", "c"]) == ""


class _Sticky(MemoryVolumes):
    """Deletes nothing before it was asked a few times: Velero refuses while a backup is being made, or does not answer."""

    refuses = 0.0

    def forget(self, name: str, namespaces: Sequence[str]) -> None:
        self.refuses -= 1
        if self.refuses == 1:
            raise StepFailed("velero backup delete failed")
        if self.refuses < 0:
            super().forget(name, namespaces)


@pytest.mark.parametrize("refuses", [2.0, math.inf])
def test_what_is_not_gone_is_asked_for_again_until_the_deadline(ledger: Ledger, target: MemoryTarget, refuses: float) -> None:
    sticky = _Sticky(target.clock, target.behaviour)
    sticky.refuses = refuses
    target.volumes = sticky
    sticky.begin("a")
    ledger.plan(FORGET)
    if refuses < math.inf:
        assert ledger.replay(target) == ["delete backup b and its namespaces"]
        return
    with pytest.raises(UndoIncomplete, match="delete backup b and its namespaces: not gone within 300 s: namespace a"):
        ledger.replay(target)
    assert len(ledger.pending()) == 1


@pytest.fixture
def stopped() -> Iterator[subprocess.Popen[bytes]]:
    """A process under SIGSTOP."""
    process = subprocess.Popen(["sleep", "1000"])
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait(10)


def running(home: Path, prometheus: str) -> LocalTarget:
    """A local system of which Prometheus alone has a process."""
    layout = Layout(home, home, {}, (), None, "all")
    services = {"prometheus": state.ServiceState("ready", prometheus)}
    state.write(home, state.SystemState("", "ready", "", "all", {}, [], None, services))
    return LocalTarget(layout)


RESUME_SERVICE = Undo("resume-service", {"service": "prometheus"}, "resume prometheus")


def test_a_service_that_was_stopped_runs_again(ledger: Ledger, tmp_path: Path, stopped: subprocess.Popen[bytes]) -> None:
    ledger.plan(RESUME_SERVICE)
    assert ledger.replay(running(tmp_path, processes.identity(stopped.pid))) == ["resume prometheus"]
    assert psutil.Process(stopped.pid).status() != psutil.STATUS_STOPPED
    assert ledger.pending() == []


def test_a_service_without_a_process_stays_pending(ledger: Ledger, tmp_path: Path) -> None:
    ledger.plan(RESUME_SERVICE)
    with pytest.raises(UndoIncomplete, match="still changed: resume prometheus: prometheus has no process to send SIGCONT to"):
        ledger.replay(running(tmp_path, ""))
    assert len(ledger.pending()) == 1


def test_a_simulated_system_has_no_services_to_resume(ledger: Ledger, target: MemoryTarget) -> None:
    ledger.plan(RESUME_SERVICE)
    assert ledger.replay(target) == ["resume prometheus"]
