from __future__ import annotations

from pathlib import Path

import pytest

from sre.canary import record as records
from sre.canary.reading import Look
from sre.canary.record import LOOKS, Record
from sre.clock import SystemClock
from sre.errors import EvidenceDamaged, UsageError
from sre.evidence import bundle, journal


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(bundle.create(tmp_path, "canary", SystemClock()))


def test_samples_come_back_as_they_were(record: Record) -> None:
    looks = [Look(float(at), 0, ()) for at in range(3)]
    places = [record.raw(look) for look in looks]
    assert [records.open_raw(record.folder, place) for place in places] == looks


def test_sabotage_altered_samples(record: Record) -> None:
    place = record.raw(Look(1.0, 0, ()))
    path = record.folder / LOOKS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(EvidenceDamaged, match="is not what the journal says"):
        records.open_raw(record.folder, place)
    path.unlink()
    with pytest.raises(EvidenceDamaged, match="cannot be read"):
        records.open_raw(record.folder, place)


def test_what_a_crash_left_of_samples_is_taken_away(record: Record) -> None:
    record.write("run")
    record.trim()
    place = record.raw(Look(1.0, 0, ()))
    record.write("look", raw=place)
    record.raw(Look(2.0, 0, ()))
    record.trim()
    assert (record.folder / LOOKS).stat().st_size == place["length"]
    assert records.open_raw(record.folder, place) == Look(1.0, 0, ())


def test_a_finding_is_written_once(record: Record) -> None:
    for _ in range(2):
        record.finding("Slack cannot be reached")
    assert [event["sentence"] for event in journal.read(record.evidence.journal.path)] == ["Slack cannot be reached"]


def test_steps_are_told_with_their_length(record: Record) -> None:
    record.step("start", "began")
    record.step("start", "began")  # as after a crash within it
    record.step("start", "ok", "begun")
    record.step("stage", "began")
    (step,) = records.steps(journal.read(record.evidence.journal.path))
    assert (step.name, step.result, step.detail) == ("start", "ok", "begun")
    assert step.seconds > 0


def test_a_run_that_is_no_rollout_is_refused(record: Record) -> None:
    record.write("run", name="x", handle=None, process="")
    with pytest.raises(UsageError, match="is no rollout"):
        records.read(record.evidence.folder)


def test_a_rollout_without_its_plan_is_damaged(record: Record) -> None:
    record.write("run", name="canary", handle=None, process="")
    record.write("canary", model="digits", version="2", began=1.0, plan_sha256="0" * 64, beside="/")
    with pytest.raises(EvidenceDamaged, match=r"plan\.yaml of the run cannot be read"):
        records.read(record.evidence.folder)
