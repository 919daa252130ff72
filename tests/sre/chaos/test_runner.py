from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from chaoslib.experiment import ensure_experiment_is_valid, load_experiment

from sre.chaos import attach, runner
from sre.drills.base import EXPERIMENTS
from sre.drills.catalog import DRILLS
from sre.errors import ExperimentFailed
from sre.faults.ledger import Ledger
from sre.targets.local.target import LocalTarget
from sre.targets.memory import Behaviour, MemoryTarget

REPLICA = {"replica": "serving-2"}
FILES = sorted(EXPERIMENTS.glob("*.json"))


class HandledTarget(MemoryTarget):
    """Pretends to be one that another process can attach to, so that the child is used."""

    handle: Any = "local:/nowhere"


@pytest.fixture
def journal(target: MemoryTarget, ledger: Ledger, tmp_path: Path) -> dict[str, Any]:
    """What Chaos Toolkit itself wrote about an experiment that went well."""
    runner.run(EXPERIMENTS / "pod-recovery.json", target, ledger, tmp_path, REPLICA)
    written: dict[str, Any] = json.loads((tmp_path / runner.JOURNAL_NAME).read_text(encoding="utf-8"))
    return written


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Path]:
    """An altered copy of an experiment, in a file."""

    def make(edit: Callable[[dict[str, Any]], Any]) -> Path:
        document = json.loads((EXPERIMENTS / "pod-recovery.json").read_text(encoding="utf-8"))
        edit(document)
        path = tmp_path / "altered.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return make


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_an_experiment_is_valid_and_names_functions_that_exist(file: Path) -> None:
    experiment = load_experiment(str(file))
    ensure_experiment_is_valid(experiment)
    activities = [*experiment["steady-state-hypothesis"]["probes"], *experiment["method"], *experiment["rollbacks"]]
    for activity in activities:
        provider = activity["provider"]
        module = import_module(provider["module"])
        assert provider["func"] in module.__all__
        signature(getattr(module, provider["func"])).bind(**provider.get("arguments", {}))


def test_every_experiment_belongs_to_a_drill_of_its_name() -> None:
    assert {file.name for file in FILES} == {kind.experiment for kind in DRILLS.values() if kind.experiment}
    assert {file.stem for file in FILES} == {name for name, kind in DRILLS.items() if kind.experiment}


def test_an_experiment_that_went_well_says_what_it_changed(target: MemoryTarget, ledger: Ledger, tmp_path: Path) -> None:
    at = target.clock.now()
    injection = runner.run(EXPERIMENTS / "pod-recovery.json", target, ledger, tmp_path, {"replica": "serving-3"})
    assert injection == runner.Injection("SIGKILL serving-3", at, "wait until serving-3 is ready again")
    assert target.replicas()[2].identity == ""
    # Its rollbacks are left to the ledger.
    assert [entry.undo.sentence for entry in ledger.pending()] == ["wait until serving-3 is ready again"]


def test_after_a_run_nothing_is_bound(target: MemoryTarget, ledger: Ledger, tmp_path: Path, monkeypatch: Any) -> None:
    runner.run(EXPERIMENTS / "alerting.json", target, ledger, tmp_path, REPLICA)
    monkeypatch.setenv(attach.TARGET_VARIABLE, "elsewhere:x")
    with pytest.raises(Exception, match="is not known"):
        attach.current()


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return edit


def _drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return edit


FALSE_SUCCESSES: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("not steady before", _set("steady_states", "before", "steady_state_met", to=False), "not steady beforehand"),
    ("no hypothesis", _set("steady_states", to=None), "no hypothesis was checked"),
    ("hypothesis not run", _set("steady_states", "before", to=None), "no hypothesis was checked"),
    ("hypothesis unknown", _set("steady_states", "before", "steady_state_met", to="yes"), "not steady beforehand"),
    ("deviated", _set("deviated", to=True), "status completed, deviated True"),
    ("interrupted", _set("status", to="interrupted"), "status interrupted"),
    ("aborted", _set("status", to="aborted"), "status aborted"),
    ("no status", _drop("status"), "status None"),
    ("an action failed", _set("run", 0, "status", to="failed"), "kill-replica failed"),
    ("an action without status", _drop("run", 0, "status"), "kill-replica None"),
    ("nothing ran", _set("run", to=[]), "0 of 1 activities ran"),
    ("no record of the method", _drop("run"), "0 of 1 activities ran"),
    ("a second action did not run", lambda journal: journal["experiment"]["method"].append({}), "1 of 2 activities ran"),
    ("only a probe ran", _set("run", 0, "activity", "type", to="probe"), "0 actions among them"),
    ("an empty selection", _set("run", 0, "output", to=[]), "the action returned '[]'"),
    ("no output", _drop("run", 0, "output"), "the action returned 'None'"),
    ("a process that exits", _set("run", 0, "output", to={"status": 1, "stdout": ""}), "instead of what it changed"),
    ("half an answer", _drop("run", 0, "output", "at"), "instead of what it changed"),
    ("an empty journal", lambda journal: journal.clear(), "no hypothesis was checked"),
]


@pytest.mark.parametrize(("edit", "words"), [row[1:] for row in FALSE_SUCCESSES], ids=[row[0] for row in FALSE_SUCCESSES])
def test_what_chaos_run_calls_completed_and_is_not(
    journal: dict[str, Any], edit: Callable[[dict[str, Any]], None], words: str
) -> None:
    assert runner.read_journal(journal, "x").fault == "SIGKILL serving-2"
    altered = copy.deepcopy(journal)
    edit(altered)
    with pytest.raises(ExperimentFailed, match="x: ") as failed:
        runner.read_journal(altered, "x")
    assert words in str(failed.value)


def test_a_system_that_is_not_steady_is_left_alone(target: MemoryTarget, ledger: Ledger, tmp_path: Path) -> None:
    target.pause("serving-1")
    with pytest.raises(ExperimentFailed, match=r"not steady beforehand \(replicas-not-ready\)"):
        runner.run(EXPERIMENTS / "pod-recovery.json", target, ledger, tmp_path, REPLICA)
    assert ledger.entries() == []
    assert target.replicas()[1].ready


def test_a_target_without_replicas_is_not_steady(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ExperimentFailed, match="not steady beforehand"):
        runner.run(EXPERIMENTS / "pod-recovery.json", MemoryTarget(Behaviour(replicas=0)), ledger, tmp_path, REPLICA)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_set("method", 0, "provider", "func", to="no_such_action"), "status aborted"),
        (_set("method", 0, "provider", "module", to="sre.no_such_module"), "status aborted"),
        (_set("method", 0, "provider", "arguments", to={"replica": "serving-9"}), "'serving-9' does not exist"),
        (_set("method", to=[]), "0 of 0 activities ran"),
        (_drop("steady-state-hypothesis"), "no hypothesis was checked"),
        (_drop("method"), "0 of 0 activities ran"),
    ],
    ids=["unknown action", "unknown module", "unknown replica", "empty method", "no hypothesis", "no method"],
)
def test_a_broken_experiment_fails_within_this_process(
    target: MemoryTarget, ledger: Ledger, experiment: Callable[..., Path], edit: Any, words: str
) -> None:
    with pytest.raises(ExperimentFailed, match=words):
        runner.run(experiment(edit), target, ledger, ledger.path.parent, REPLICA)
    assert ledger.entries() == [] or "no hypothesis" in words


def test_a_file_that_is_no_experiment_fails_within_this_process(target: MemoryTarget, ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ExperimentFailed, match=r"missing\.json cannot be run"):
        runner.run(tmp_path / "missing.json", target, ledger, tmp_path, REPLICA)


def test_a_child_with_a_broken_file_leaves_no_journal_and_an_older_one_does_not_speak_for_it(
    ledger: Ledger, tmp_path: Path, journal: dict[str, Any]
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    assert journal
    with pytest.raises(ExperimentFailed, match=r"broken.json left no readable journal .*; see .*chaos.log"):
        runner.run(broken, HandledTarget(), ledger, tmp_path, REPLICA)
    assert (tmp_path / runner.LOG_NAME).is_file()


def test_a_child_that_finds_no_system_is_not_steady(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ExperimentFailed, match=r"not steady beforehand \(replicas-not-ready\)"):
        runner.run(EXPERIMENTS / "pod-recovery.json", HandledTarget(), ledger, tmp_path / "drill", REPLICA)
    assert ledger.entries() == []


def test_a_child_that_does_not_end_is_ended(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "WITHIN_S", 0.01)
    with pytest.raises(ExperimentFailed, match=r"pod-recovery\.json did not end within 0 s"):
        runner.run(EXPERIMENTS / "pod-recovery.json", HandledTarget(), ledger, tmp_path, REPLICA)


@pytest.mark.local
def test_a_child_freezes_a_replica_of_the_running_system(
    system: LocalTarget, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRE_TOOLS", str(system.layout.tools))
    before = system.clock.now()
    injection = runner.run(EXPERIMENTS / "alerting.json", system, ledger, tmp_path, REPLICA)
    try:
        assert injection.fault == "SIGSTOP serving-2"
        assert before < injection.at < system.clock.now()
        assert [replica.ready for replica in system.replicas()] == [True, False, True]
    finally:
        assert ledger.replay(system) == ["resume serving-2"]
    assert all(replica.ready for replica in system.replicas())
