from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sre.clock import Clock
from sre.errors import EvidenceDamaged, NothingSelected, UsageError
from sre.evidence import bundle, codec, journal
from sre.evidence.schema import DrillRecord, RunRecord


@pytest.fixture
def sealed(tmp_path: Path, clock: Clock, make_run: Callable[..., RunRecord], write_recording: Callable[..., None]) -> Path:
    made = bundle.create(tmp_path / "evidence", "pod-recovery", clock)
    made.journal.write("started")
    write_recording(made.drill_folder("pod-recovery"), rate=20.0, seconds=30.0)
    made.seal(make_run(id=made.id), Ed25519PrivateKey.generate())
    return made.folder


def test_a_sealed_run_holds_every_file_and_loads_back(sealed: Path, make_run: Callable[..., RunRecord]) -> None:
    assert sealed.name == "20260101T120000Z-pod-recovery"
    assert sorted(path.relative_to(sealed).as_posix() for path in sealed.rglob("*") if path.is_file()) == [
        "attestation.json",
        "checksums.sha256",
        "drills/pod-recovery/samples.bin",
        "drills/pod-recovery/samples.json",
        "environment.json",
        "journal.jsonl",
        "junit.xml",
        "report.html",
        "report.txt",
        "run.json",
    ]
    assert bundle.load(sealed) == make_run()
    assert [entry["event"] for entry in journal.read(sealed / bundle.JOURNAL)] == ["started", "sealed"]
    assert json.loads((sealed / bundle.ENVIRONMENT).read_text(encoding="utf-8"))["commit"] == "3f1c2ab"


def test_the_checksums_are_what_sha256sum_reads(sealed: Path) -> None:
    program = shutil.which("sha256sum")
    assert program is not None
    done = subprocess.run(
        [program, "--strict", "-c", "checksums.sha256"], cwd=sealed, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_two_runs_in_one_second_have_two_folders(tmp_path: Path, clock: Clock) -> None:
    ids = [bundle.create(tmp_path, "gameday", clock).id for _ in range(3)]
    assert ids == ["20260101T120000Z-gameday", "20260101T120000Z-gameday-2", "20260101T120000Z-gameday-3"]


@pytest.mark.parametrize("name", ["", "Pod", "a b", "../up", "a/b", "-a", "a-"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, clock: Clock, name: str) -> None:
    with pytest.raises(UsageError, match="not usable"):
        bundle.create(tmp_path, name, clock)


def test_sabotage_wrong_schema_number(sealed: Path) -> None:
    path = sealed / bundle.RUN
    path.write_text(path.read_text(encoding="utf-8").replace("sre.run/1", "sre.run/2"), encoding="utf-8")
    with pytest.raises(EvidenceDamaged, match=r"'sre\.run/2'"):
        bundle.load(sealed)


def test_sabotage_binary_record(sealed: Path) -> None:
    (sealed / bundle.RUN).write_bytes(b"\xff\xfe")
    with pytest.raises(EvidenceDamaged, match="not text"):
        bundle.load(sealed)


@pytest.mark.parametrize("folder", ["../other", "/etc"])
def test_sabotage_raw_files_outside_the_run(sealed: Path, make_drill: Callable[..., DrillRecord], folder: str) -> None:
    forged = replace(bundle.load(sealed), drills=(make_drill(folder=folder),))
    (sealed / bundle.RUN).write_text(codec.dump(forged), encoding="utf-8")
    with pytest.raises(EvidenceDamaged, match="outside the run"):
        bundle.load(sealed)


def test_a_run_that_was_cut_short_is_found_and_is_not_loaded(tmp_path: Path, clock: Clock) -> None:
    made = bundle.create(tmp_path, "gameday", clock)
    made.journal.write("started")
    assert bundle.find(tmp_path, made.id) == made.folder
    with pytest.raises(EvidenceDamaged, match="did not finish"):
        bundle.load(made.folder)


def test_a_run_is_found_by_id_and_by_path(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle.find(sealed.parent, sealed.name) == sealed
    assert bundle.find(sealed.parent / "elsewhere", str(sealed)) == sealed
    monkeypatch.chdir(sealed)
    assert bundle.find(sealed.parent / "elsewhere", ".").name == sealed.name


@pytest.mark.parametrize("run", ["", "20250101T000000Z-gameday"])
def test_an_unknown_run_lists_the_newest(sealed: Path, run: str) -> None:
    with pytest.raises(UsageError, match="the newest are 20260101T120000Z-pod-recovery"):
        bundle.find(sealed.parent, run)
    with pytest.raises(UsageError, match="there is no run yet"):
        bundle.find(sealed.parent / "elsewhere", run)


def test_the_newest_run_comes_first(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(NothingSelected, match="there is no run"):
        bundle.latest(tmp_path / "evidence")
    older = bundle.create(tmp_path / "evidence", "peak-load", clock)
    clock.sleep(1.0)
    newer = bundle.create(tmp_path / "evidence", "alerting", clock)
    (tmp_path / "evidence" / "notes").mkdir()
    assert bundle.runs(tmp_path / "evidence") == [newer.folder, older.folder]
    assert bundle.latest(tmp_path / "evidence") == newer.folder
