from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sre.clock import Clock
from sre.errors import ExitCode
from sre.evidence import attest, bundle, codec, sign
from sre.evidence.files import ATTESTATION, CHECKSUMS, checksums
from sre.evidence.schema import DrillRecord, RunRecord, StepRecord
from sre.verdict import Outcome, Verdict

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
MakeSigned = Callable[[str], Path]


@pytest.fixture
def make_signed(
    tmp_path: Path, clock: Clock, make_run: Callable[..., RunRecord], write_recording: Callable[..., None]
) -> MakeSigned:
    def make(name: str) -> Path:
        made = bundle.create(tmp_path / "evidence", name, clock)
        made.journal.write("started")
        write_recording(made.drill_folder("pod-recovery"), rate=20.0, seconds=30.0)
        made.seal(make_run(id=made.id), KEY)
        return made.folder

    return make


@pytest.fixture
def signed(make_signed: MakeSigned) -> Path:
    return make_signed("pod-recovery")


def problems(folder: Path, key: Ed25519PrivateKey = KEY) -> list[str]:
    return attest.problems(folder, bundle.load(folder), key.public_key())


def told(folder: Path) -> dict[str, Any]:
    statement: dict[str, Any] = json.loads(sign.unseal((folder / ATTESTATION).read_bytes(), KEY.public_key()))
    return statement


def test_a_signed_run_holds_and_its_statement_names_every_file(signed: Path) -> None:
    assert problems(signed) == []
    statement = told(signed)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert {item["name"]: item["digest"]["sha256"] for item in statement["subject"]} == checksums(signed)
    assert CHECKSUMS in checksums(signed)
    environment = {"name": "environment.json", "digest": {"sha256": checksums(signed)["environment.json"]}}
    assert statement["predicate"] == {
        "result": "FAILED",
        "configuration": [environment],
        "url": "sre.run:20260101T120000Z-pod-recovery",
        "passedTests": ["pod-recovery/pod-recovery"],
        "warnedTests": [],
        "failedTests": ["pod-recovery/availability"],
    }


def test_an_experiment_that_ran_belongs_to_the_configuration(make_run: Callable[..., RunRecord]) -> None:
    digests = dict.fromkeys(("environment.json", "drills/alerting/chaos-journal.json", "drills/alerting/samples.bin"), "0" * 64)
    configuration = attest.statement(make_run(), digests)["predicate"]["configuration"]
    assert [item["name"] for item in configuration] == ["drills/alerting/chaos-journal.json", "environment.json"]


@pytest.mark.parametrize(
    ("outcome", "exit_code", "result"),
    [
        (Outcome.KEPT, ExitCode.KEPT, "PASSED"),
        (Outcome.KEPT, ExitCode.UNDO_INCOMPLETE, "WARNED"),
        (Outcome.KEPT, ExitCode.INTERRUPTED, "WARNED"),
        (Outcome.BROKEN, ExitCode.BROKEN, "FAILED"),
        (Outcome.BROKEN, ExitCode.UNDO_INCOMPLETE, "FAILED"),
        (Outcome.INCONCLUSIVE, ExitCode.INCONCLUSIVE, "WARNED"),
        (Outcome.ERROR, ExitCode.CANNOT_RUN, "WARNED"),
    ],
)
def test_only_kept_passes(make_run: Callable[..., RunRecord], outcome: Outcome, exit_code: ExitCode, result: str) -> None:
    record = make_run(outcome=outcome, exit_code=exit_code)
    drill = record.drills[0]
    verdicts = tuple(replace(verdict, outcome=outcome) for verdict in drill.verdicts)
    record = replace(record, drills=(replace(drill, outcome=outcome, verdicts=verdicts),))
    predicate = attest.statement(record, {})["predicate"]
    assert predicate["result"] == result
    group = {Outcome.KEPT: "passedTests", Outcome.BROKEN: "failedTests"}.get(outcome, "warnedTests")
    assert {name for name in predicate if name.endswith("Tests") and predicate[name]} == {group}


def test_a_drill_that_failed_beside_its_verdicts_is_a_warning(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], make_verdict: Callable[..., Verdict]
) -> None:
    step = StepRecord(name="undo", seconds=1.0, result="failed", detail="still down")
    drills = (make_drill(outcome=Outcome.ERROR, verdicts=(make_verdict(),), steps=(step,)),)
    predicate = attest.statement(make_run(drills=drills, outcome=Outcome.ERROR, exit_code=4), {})["predicate"]
    assert (predicate["passedTests"], predicate["warnedTests"]) == (["pod-recovery/pod-recovery"], ["pod-recovery/steps"])


def test_a_run_of_nothing_is_a_warning(make_run: Callable[..., RunRecord]) -> None:
    empty = make_run(drills=(), outcome=Outcome.INCONCLUSIVE, exit_code=3)
    assert attest.statement(empty, {})["predicate"]["result"] == "WARNED"


def test_sabotage_altered_byte(signed: Path) -> None:
    samples = signed / "drills/pod-recovery/samples.bin"
    content = bytearray(samples.read_bytes())
    content[1000] ^= 1
    samples.write_bytes(content)
    assert problems(signed) == ["drills/pod-recovery/samples.bin was altered"]


def test_sabotage_same_meaning_in_other_bytes(signed: Path) -> None:
    path = signed / bundle.RUN
    record = bundle.load(signed)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert bundle.load(signed) == record
    assert problems(signed) == ["run.json was altered"]


@pytest.mark.parametrize("name", ["drills/pod-recovery/samples.bin", "report.html", "checksums.sha256", "journal.jsonl"])
def test_sabotage_truncated_file(signed: Path, name: str) -> None:
    content = (signed / name).read_bytes()
    (signed / name).write_bytes(content[:-27])
    assert problems(signed) == [f"{name} was altered"]


def test_sabotage_removed_and_added_file(signed: Path) -> None:
    (signed / "drills/pod-recovery/samples.json").rename(signed / "drills/pod-recovery/.samples.json")
    assert problems(signed) == [
        "drills/pod-recovery/samples.json is missing",
        "drills/pod-recovery/.samples.json was added after the run",
    ]


def test_sabotage_file_replaced_by_a_link_to_the_same_bytes(signed: Path, tmp_path: Path) -> None:
    samples = signed / "drills/pod-recovery/samples.bin"
    samples.rename(tmp_path / "elsewhere.bin")
    samples.symlink_to(tmp_path / "elsewhere.bin")
    assert problems(signed) == ["drills/pod-recovery/samples.bin is neither a file nor a folder of the run's own"]


def test_sabotage_folder_replaced_by_a_link(signed: Path, tmp_path: Path) -> None:
    (signed / "drills").rename(tmp_path / "drills")
    (signed / "drills").symlink_to(tmp_path / "drills")
    assert "drills is neither a file nor a folder of the run's own" in problems(signed)


def test_sabotage_attestation_is_a_link(signed: Path, tmp_path: Path) -> None:
    (signed / ATTESTATION).rename(tmp_path / ATTESTATION)
    (signed / ATTESTATION).symlink_to(tmp_path / ATTESTATION)
    assert problems(signed) == ["attestation.json is neither a file nor a folder of the run's own"]


def test_sabotage_swapped_envelopes(make_signed: MakeSigned, tmp_path: Path) -> None:
    one, other = make_signed("pod-recovery"), make_signed("gameday")
    envelopes = [(folder / ATTESTATION).read_bytes() for folder in (one, other)]
    (one / ATTESTATION).write_bytes(envelopes[1])
    (other / ATTESTATION).write_bytes(envelopes[0])
    for folder in (one, other):
        wrong = problems(folder)
        assert "run.json was altered" in wrong
        assert "attestation.json: what is signed is another result than that of the record" in wrong


def test_sabotage_an_older_run_under_a_new_name(signed: Path) -> None:
    replayed = signed.with_name("20260201T120000Z-pod-recovery")
    shutil.copytree(signed, replayed)
    assert problems(replayed) == [
        "it is run 20260101T120000Z-pod-recovery, though its folder is named 20260201T120000Z-pod-recovery"
    ]
    linked = signed.with_name("20260301T120000Z-pod-recovery")
    linked.symlink_to(signed)
    assert problems(linked) == [
        "it is run 20260101T120000Z-pod-recovery, though its folder is named 20260301T120000Z-pod-recovery"
    ]


def test_sabotage_an_older_run_whose_record_was_renamed_too(signed: Path) -> None:
    replayed = signed.with_name("20260201T120000Z-pod-recovery")
    shutil.copytree(signed, replayed)
    path = replayed / bundle.RUN
    path.write_text(path.read_text(encoding="utf-8").replace(signed.name, replayed.name), encoding="utf-8")
    assert problems(replayed) == [
        "run.json was altered",
        "attestation.json: what is signed is another result than that of the record",
    ]


def test_sabotage_signed_anew_with_another_key(signed: Path) -> None:
    forger = Ed25519PrivateKey.generate()
    attest.write(signed, bundle.load(signed), forger)
    assert problems(signed, forger) == []
    (wrong,) = problems(signed)
    assert "attestation.json: the signature is of key" in wrong


def test_sabotage_no_signature(signed: Path) -> None:
    (signed / ATTESTATION).unlink()
    (wrong,) = problems(signed)
    assert wrong.startswith("it is not signed: attestation.json is missing")


def test_sabotage_half_a_signature(signed: Path) -> None:
    content = (signed / ATTESTATION).read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        (signed / ATTESTATION).write_bytes(content[:length])
        assert len(problems(signed)) == 1


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"subject": [{"name": "run.json"}]}', b'{"subject": 3}', b"\xff"])
def test_sabotage_something_else_is_signed(signed: Path, payload: bytes) -> None:
    (signed / ATTESTATION).write_bytes(sign.seal(payload, KEY))
    (wrong,) = problems(signed)
    assert "what is signed is no statement" in wrong


@pytest.mark.parametrize(
    "edit",
    [
        lambda statement: statement["predicate"].update(result="PASSED"),
        lambda statement: statement["predicate"].update(failedTests=[]),
        lambda statement: statement.update(predicateType="https://in-toto.io/attestation/vsa/v1"),
        lambda statement: statement.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda statement: statement.update(note="more"),
        lambda statement: statement["subject"].append(statement["subject"][0]),
    ],
)
def test_sabotage_another_statement_is_signed(signed: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    statement = told(signed)
    edit(statement)
    (signed / ATTESTATION).write_bytes(sign.seal(json.dumps(statement).encode(), KEY))
    assert problems(signed) == ["attestation.json: what is signed is another result than that of the record"]


def test_the_attestation_is_written_last(signed: Path) -> None:
    names = {line.partition("  ")[2] for line in (signed / CHECKSUMS).read_text(encoding="utf-8").splitlines()}
    assert names == checksums(signed).keys() - {CHECKSUMS}
    assert (
        ATTESTATION not in (signed / bundle.REPORT_HTML).read_text(encoding="utf-8").partition("<tbody>")[2].partition("Raw")[0]
    )
    assert codec.parse((signed / bundle.RUN).read_text(encoding="utf-8")).id == signed.name
