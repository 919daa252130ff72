from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sre.dr.rebuild import REBUILD
from sre.drills import run
from sre.drills.alerting import Alerting
from sre.drills.base import Options
from sre.drills.peak_load import PeakLoad
from sre.drills.pod_recovery import PodRecovery
from sre.errors import CannotRun, EvidenceDamaged, ExitCode, TargetUnavailable, UndoIncomplete
from sre.evidence import attest, bundle, sign
from sre.evidence.journal import FIRST
from sre.faults.base import Undo
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.measure.samples import SAMPLE
from sre.targets.kubernetes.place import Place
from sre.targets.local.processes import identity
from sre.targets.memory import Behaviour
from sre.verdict import Outcome

if TYPE_CHECKING:
    from .conftest import Ran, RunDrills


@pytest.fixture
def kept(run_drills: RunDrills) -> Ran:
    ran = run_drills(PodRecovery())
    assert run.verify(ran.folder, ran.key) == []
    return ran


@pytest.fixture
def broken(run_drills: RunDrills) -> Ran:
    ran = run_drills(PodRecovery(), behaviour=Behaviour(startup_s=40.0))
    assert ran.record.outcome is Outcome.BROKEN
    return ran


def test_a_run_of_several_drills_is_one_folder_with_one_outcome(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), PeakLoad(), Alerting(), options=Options(seconds=60.0))
    assert [drill.name for drill in ran.record.drills] == ["pod-recovery", "peak-load", "alerting"]
    assert ran.record.exit_code == ExitCode.KEPT
    assert ran.record.id == "20260101T120000Z-test" == ran.folder.name
    assert ran.record.title == "pod-recovery, peak-load, alerting"
    assert ran.watcher.drills[0] == "pod-recovery on memory: a killed replica serves again in under 30 s"
    assert {path.name for path in (ran.folder / "drills").iterdir()} == {"pod-recovery", "peak-load", "alerting"}
    assert run.verify(ran.folder, ran.key) == []


def test_the_worst_drill_decides(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), PeakLoad(), behaviour=Behaviour(startup_s=40.0), options=Options(rate=1050.0))
    assert [drill.outcome for drill in ran.record.drills] == [Outcome.BROKEN, Outcome.KEPT]
    assert ran.record.exit_code == ExitCode.BROKEN


def test_the_environment_says_on_what_it_ran(kept: Ran) -> None:
    environment = kept.record.environment
    assert environment["target"] == "memory"
    assert environment["behaviour"]["replicas"] == 3
    assert environment["cores"] > 0
    assert environment["memory_gb"] > 0
    assert environment["python"].startswith("3.")
    assert environment["commit"]


def test_a_run_of_nothing_is_inconclusive(run_drills: RunDrills) -> None:
    assert run_drills().record.exit_code == ExitCode.INCONCLUSIVE


def test_a_signing_key_that_cannot_be_used_is_told_before_anything_is_done(run_drills: RunDrills, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"")
    with pytest.raises(CannotRun, match=r"the signing key .*key\.pem"):
        run_drills(PodRecovery())
    assert not (tmp_path / "evidence").exists()


def test_a_flipped_byte_in_the_samples_is_found(kept: Ran) -> None:
    _flip(kept.folder / "drills/pod-recovery/samples.bin")
    assert run.verify(kept.folder, kept.key) == ["drills/pod-recovery/samples.bin was altered"]


def test_each_of_1000_single_byte_changes_is_found(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), options=Options(seconds=20.0, rate=50.0))
    assert run.verify(ran.folder, ran.key) == []
    files = sorted(path for path in ran.folder.rglob("*") if path.is_file() and path.stat().st_size)
    assert {"attestation.json", "run.json", "samples.bin", "report.html"} <= {path.name for path in files}
    changes = random.Random(20_261_124)
    missed = []
    for number in range(1000):
        # One file after the other, so that the signature is hit as often as the samples.
        path = files[number % len(files)]
        content = path.read_bytes()
        place, altered = changes.randrange(len(content)), bytearray(content)
        altered[place] ^= changes.randrange(1, 256)
        path.write_bytes(altered)
        try:
            if not run.verify(ran.folder, ran.key):
                missed.append(f"{path.name} at {place}")
        except EvidenceDamaged:
            pass
        path.write_bytes(content)
    assert missed == []
    assert run.verify(ran.folder, ran.key) == []


def test_altered_samples_are_found_although_the_forger_holds_the_key(kept: Ran) -> None:
    _edit_samples(kept.folder, lambda samples: samples["failure"].__setitem__(slice(2400, 2600), 1))
    _seal_again(kept)
    assert run.verify(kept.folder, kept.key) == [
        "pod-recovery: the verdicts computed from the raw files are not those that were recorded",
        "pod-recovery: the findings computed from the raw files are not those that were recorded",
    ]


def test_samples_that_were_removed_are_found(kept: Ran) -> None:
    for name in ("samples.bin", "samples.json"):
        (kept.folder / "drills/pod-recovery" / name).unlink()
    _seal_again(kept)
    (wrong,) = run.verify(kept.folder, kept.key)
    assert wrong.startswith("pod-recovery: its verdicts cannot be computed from what is there (StepFailed(")


def test_an_edited_verdict_is_found_although_the_forger_holds_the_key(kept: Ran) -> None:
    _edit_record(kept.folder, lambda record: record["drills"][0]["verdicts"][0].update(measured=0.4))
    _seal_again(kept)
    assert run.verify(kept.folder, kept.key) == [
        "pod-recovery: the verdicts computed from the raw files are not those that were recorded"
    ]


def _all_kept(record: dict[str, Any]) -> None:
    record.update(outcome="kept", exit_code=0)
    record["drills"][0]["outcome"] = "kept"
    for verdict in record["drills"][0]["verdicts"]:
        verdict["outcome"] = "kept"


def _without_verdicts(record: dict[str, Any]) -> None:
    record.update(outcome="inconclusive", exit_code=3)
    record["drills"][0].update(outcome="inconclusive", verdicts=[])


FORGERIES: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("broken made kept", _all_kept, "the verdicts computed from the raw files"),
    ("verdicts removed", _without_verdicts, "the verdicts computed from the raw files"),
    ("outcome of the run", lambda record: record.update(outcome="kept"), "the run's outcome is recorded as kept"),
    ("outcome of the drill", lambda record: record["drills"][0].update(outcome="kept"), "its outcome is recorded as kept"),
    ("exit code", lambda record: record.update(exit_code=0), "the journal does not end with"),
    ("a fact", lambda record: record["drills"][0]["facts"].update(watched=9.0), "the facts of the record are not those"),
    ("a step", lambda record: record["drills"][0]["steps"][4].update(detail="fine"), "the steps of the record are not those"),
    ("a drill removed", lambda record: record.update(drills=[]), "the journal tells of other drills than the record"),
    ("a finding", lambda record: record["drills"][0].update(findings=["fine"]), "the findings computed from the raw files"),
    ("another drill", lambda record: record["drills"][0].update(name="no-such"), "drill no-such does not exist here"),
]


@pytest.mark.parametrize(("forge", "words"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_a_forged_record_is_found_although_it_is_signed_anew(
    broken: Ran, forge: Callable[[dict[str, Any]], None], words: str
) -> None:
    _edit_record(broken.folder, forge)
    _seal_again(broken)
    assert any(words in wrong for wrong in run.verify(broken.folder, broken.key))


def test_a_failed_step_that_was_made_a_success_is_found(run_drills: RunDrills) -> None:
    ran = run_drills(PodRecovery(), options=Options(seconds=25.0), behaviour=Behaviour(startup_s=15.0))
    assert ran.step("recover").result == "failed"

    def forge(record: dict[str, Any]) -> None:
        _all_kept(record)
        record["drills"][0]["steps"][4].update(result="ok", detail="3 of 3 ready")

    _edit_record(ran.folder, forge)
    _seal_again(ran)
    assert "pod-recovery: the steps of the record are not those of the journal" in run.verify(ran.folder, ran.key)


def test_an_edited_fact_in_the_journal_breaks_its_chain(kept: Ran) -> None:
    journal = kept.folder / "journal.jsonl"
    text = journal.read_text(encoding="utf-8")
    journal.write_text(text.replace('"name": "fault_at", "value": 10', '"name": "fault_at", "value": 20'), encoding="utf-8")
    assert journal.read_text(encoding="utf-8") != text
    wrong = run.verify(kept.folder, kept.key)
    assert wrong[0] == "journal.jsonl was altered"
    assert "does not follow from the line before it" in wrong[1]


def test_an_edited_fact_is_found_although_chain_and_signature_are_new(broken: Ran) -> None:
    _edit_fact(broken.folder, "fault_at", lambda value: value + 15.0)
    _seal_again(broken)
    assert run.verify(broken.folder, broken.key) == ["pod-recovery: the facts of the record are not those of the journal"]


def test_a_fact_edited_in_journal_and_record_no_longer_gives_the_verdict(broken: Ran) -> None:
    _edit_fact(broken.folder, "fault_at", lambda value: value + 15.0)
    _edit_record(
        broken.folder,
        lambda record: record["drills"][0]["facts"].update(fault_at=record["drills"][0]["facts"]["fault_at"] + 15.0),
    )
    _seal_again(broken)
    assert "pod-recovery: the verdicts computed from the raw files are not those that were recorded" in run.verify(
        broken.folder, broken.key
    )


def test_facts_that_a_judge_cannot_use_are_told(kept: Ran) -> None:
    _edit_fact(kept.folder, "looks", lambda _: [["soon", 3]])
    _edit_record(kept.folder, lambda record: record["drills"][0]["facts"].update(looks=[["soon", 3]]))
    _seal_again(kept)
    assert any("cannot be computed from what is there" in wrong for wrong in run.verify(kept.folder, kept.key))


def test_a_run_that_never_ended_cannot_be_verified(kept: Ran) -> None:
    (kept.folder / "run.json").unlink()
    with pytest.raises(EvidenceDamaged, match="the run did not finish"):
        run.verify(kept.folder, kept.key)


def _killed(kept: Ran, process: str, handle: str | None) -> None:
    """Make a finished run look like one that was killed before its end."""
    (kept.folder / "run.json").unlink()
    begun = {"process": process, "handle": handle}
    _rewrite(kept.folder / "journal.jsonl", lambda event: {**event, **begun} if event["event"] == "run" else event)
    Ledger(kept.folder / LEDGER_NAME).plan(Undo("resume", {"replica": "serving-2"}, "resume serving-2"))


def test_a_finished_run_leaves_nothing_to_undo(kept: Ran, tmp_path: Path) -> None:
    assert run.undo(kept.folder, tmp_path) == []


@pytest.mark.parametrize("first_line", [None, "", '{"seq": 0, "ev'])
def test_a_run_that_was_killed_before_its_first_line_has_changed_nothing(tmp_path: Path, first_line: str | None) -> None:
    if first_line is not None:
        (tmp_path / "journal.jsonl").write_text(first_line)
    assert run.undo(tmp_path, tmp_path) == []


def test_a_change_without_a_journal_is_not_passed_over(tmp_path: Path) -> None:
    Ledger(tmp_path / LEDGER_NAME).plan(Undo("resume", {"replica": "serving-2"}, "resume serving-2"))
    with pytest.raises(EvidenceDamaged, match=r"journal\.jsonl is missing"):
        run.undo(tmp_path, tmp_path)


def test_a_run_that_is_under_way_is_not_undone(kept: Ran, tmp_path: Path) -> None:
    _killed(kept, identity(os.getpid()), None)
    with pytest.raises(CannotRun, match=f"is still under way in process {os.getpid()}; interrupt that"):
        run.undo(kept.folder, tmp_path)


def test_a_target_that_ended_with_its_process_cannot_be_undone(kept: Ran, tmp_path: Path) -> None:
    _killed(kept, "1@0.00", None)
    with pytest.raises(UndoIncomplete, match="ran on a target that ended with its process"):
        run.undo(kept.folder, tmp_path)


def test_a_target_that_is_gone_is_named(kept: Ran, tmp_path: Path) -> None:
    _killed(kept, "1@0.00", f"local:{tmp_path / 'gone'}")
    with pytest.raises(TargetUnavailable, match=r"no system runs in .*gone"):
        run.undo(kept.folder, tmp_path)


def test_a_cluster_that_is_gone_is_attached_to_only_when_it_is_to_be_made_again(kept: Ran, tmp_path: Path) -> None:
    place = Place(tmp_path, str(tmp_path / "gone"), "testbed", "dev")
    place.write()
    _killed(kept, "1@0.00", f"kubernetes:{tmp_path}")
    with pytest.raises(TargetUnavailable, match="names no cluster"):
        run.undo(kept.folder, tmp_path)
    Ledger(kept.folder / LEDGER_NAME).plan(Undo(REBUILD, {"identity": "1", "backup": "b"}, "make the cluster again"))
    # Attached it is, and then no command is known.
    with pytest.raises(UndoIncomplete, match="make the cluster again: no command is known for it; set SRE_CLUSTER_CREATE"):
        run.undo(kept.folder, tmp_path)


def test_a_journal_that_does_not_begin_with_its_run_is_not_believed(kept: Ran, tmp_path: Path) -> None:
    _killed(kept, "1@0.00", None)
    journal = kept.folder / "journal.jsonl"
    _rewrite(journal, lambda event: {**event, "event": "other"} if event["event"] == "run" else event)
    with pytest.raises(EvidenceDamaged, match="does not begin with the run"):
        run.undo(kept.folder, tmp_path)


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def _edit_samples(folder: Path, edit: Callable[[Any], None]) -> None:
    path = folder / "drills/pod-recovery/samples.bin"
    samples = np.frombuffer(path.read_bytes(), dtype=SAMPLE).copy()
    edit(samples)
    path.write_bytes(samples.tobytes())


def _edit_record(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    edit(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def _edit_fact(folder: Path, name: str, edit: Callable[[Any], Any]) -> None:
    def change(event: dict[str, Any]) -> dict[str, Any]:
        return {**event, "value": edit(event["value"])} if event.get("name") == name and event["event"] == "fact" else event

    _rewrite(folder / "journal.jsonl", change)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """A whole new chain, as a forger would make it."""
    prev, lines = FIRST, []
    for line in path.read_text(encoding="utf-8").splitlines():
        lines.append(json.dumps({**change(json.loads(line)), "prev": prev}))
        prev = hashlib.sha256(lines[-1].encode()).hexdigest()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _seal_again(ran: Ran) -> None:
    """Sign what is there now, as a forger who holds the key would."""
    attest.write(ran.folder, bundle.load(ran.folder), sign.private_key(ran.signing_key))
