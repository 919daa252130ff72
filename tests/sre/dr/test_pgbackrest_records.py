from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sre.dr.pgbackrest_records import Archive, Backup, Damage, Report, number, read_info, segment
from sre.errors import StepFailed

FULL, DIFF = "20260101-020000F", "20260101-020000F_20260102-020000D"
VERIFY = f"""\
P00   INFO: verify command begin 2.45: --config=/c --stanza=ml
P00 DETAIL: archiveId: 15-1, wal start: 000000010000000000000002, wal stop: 000000010000000000000009
P00   INFO: stanza: ml
            status: ok
              archiveId: 15-1, total WAL checked: 8, total valid WAL: 8
stanza: ml
status: ok
  archiveId: 15-1, total WAL checked: 8, total valid WAL: 8
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: {FULL}, status: valid, total files checked: 964, total valid files: 964
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: {DIFF}, status: valid, total files checked: 967, total valid files: 967
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
P00   INFO: verify command end: completed successfully
"""


def backup(label: str, first: str, last: str, **fields: Any) -> Backup:
    kind: Any = {"F": "full", "D": "diff", "I": "incr"}[label[-1]]
    values: dict[str, Any] = {
        "prior": None, "needs": (), "started": 1, "stopped": 2, "start_lsn": "0/2000028", "stop_lsn": "0/20020E0", "size": 10,
        "stored": 5, "damaged_pages": False, "system": 7,
    }  # fmt: skip
    return Backup(label=label, kind=kind, first_wal=first, last_wal=last, **(values | fields))


def wal(running: int, timeline: int = 1) -> str:
    return segment(timeline, running)


BACKUPS = (backup(FULL, wal(2), wal(3)), backup(DIFF, wal(6), wal(6)))


def damages(text: str, backups: tuple[Backup, ...] = BACKUPS, *, busy: bool = False) -> list[tuple[str, str]]:
    return [(item.what, item.name) for item in Report.read(text).damages(backups, backups, busy=busy)]


def test_a_whole_repository_has_no_damage() -> None:
    assert damages(VERIFY) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (VERIFY, "", ("backup", FULL)),
        (VERIFY, "everything is fine\n", ("repository", "verify")),
        ("status: ok\n  archiveId", "status: error\n  archiveId", ("report", "verify")),
        ("stanza: ml\nstatus: ok\n", "stanza: ml\n", ("report", "verify")),
        ("end: completed successfully", "end: aborted with exception [025]", ("report", "verify")),
        ("P00   INFO: verify command end: completed successfully\n", "", ("report", "verify")),
        ("total valid WAL: 8\n    missing", "total valid WAL: 7\n    missing", ("repository", "archive 15-1")),
        ("checked: 8, total valid WAL: 8\n    m", "checked: 0, total valid WAL: 0\n    m", ("repository", "archive 15-1")),
        ("964, total valid files: 964", "964, total valid files: 963", ("backup", FULL)),
        ("964, total valid files: 964", "0, total valid files: 0", ("backup", FULL)),
        (f"{FULL}, status: valid", f"{FULL}, status: invalid", ("backup", FULL)),
        (f"{FULL}, status: valid", f"{FULL}, status: in-progress", ("backup", FULL)),
        (f"{FULL}, status: valid", f"{FULL}, status: of a kind we know not", ("backup", FULL)),
        (f"  backup: {DIFF}, ", f"  backup: {DIFF}, and more ", ("repository", "verify")),
        (f"  backup: {DIFF}", f"  backup: {DIFF[:-2]}1D", ("backup", DIFF)),
        ("P00   INFO: stanza", "P00   WARN: no backups exist in the repo\nP00   INFO: stanza", ("repository", "verify")),
        ("P00   INFO: stanza", f"P01  ERROR: [028]: invalid size '{FULL}/pg_data/a.lz4'\nP00   INFO: stanza",
         ("file", f"{FULL}/pg_data/a.lz4")),
        ("P00   INFO: stanza", f"P01   INFO: invalid result {FULL}/pg_data/a.lz4: [95] raised\nP00   INFO: stanza",
         ("file", f"{FULL}/pg_data/a.lz4")),
        ("P00   INFO: stanza", f"P01   WARN: file missing '15-1/0000000100000000/{wal(5)}-{'a' * 40}.lz4'\nP00   INFO: stanza",
         ("WAL segment", wal(5))),
        ("P00   INFO: stanza", f"P00 DETAIL: {DIFF}/backup.manifest is missing or unusable, using copy\nP00   INFO: stanza",
         ("manifest", DIFF)),
        ("P00   INFO: stanza", f"P00 DETAIL: backup '{FULL}' manifest.copy does not match manifest\nP00   INFO: stanza",
         ("manifest", FULL)),
        ("P00   INFO: stanza", f"P00 DETAIL: manifest missing for '{FULL}' - backup may have expired\nP00   INFO: stanza",
         ("manifest", FULL)),
    ],
)  # fmt: skip
def test_what_is_not_known_to_be_harmless_is_damage(old: str, new: str, found: tuple[str, str]) -> None:
    assert old in VERIFY
    assert found in damages(VERIFY.replace(old, new))


def test_a_repository_without_backups_never_passes() -> None:
    text = "".join(line for line in VERIFY.splitlines(keepends=True) if "  backup: " not in line)
    assert damages(text, ()) == [("repository", "backup")]


def test_words_of_several_lines_stay_together_and_can_be_printed() -> None:
    text = VERIFY.replace(
        "P00   INFO: stanza", "P00 DETAIL: unable to \x07flush\n            HINT: is it encrypted?\nP00   INFO: stanza"
    )
    assert Report.read(text).damages(BACKUPS, BACKUPS, busy=False) == [
        Damage("repository", "verify", "unable to ?flush HINT: is it encrypted?")
    ]


HALF = f"""\
P00 DETAIL: unable to open missing file '/r/backup/ml/20260103-020000F/backup.manifest' for read
P00   INFO: backup '20260103-020000F' appears to be in progress, skipping
{VERIFY}  backup: 20260103-020000F, status: in-progress, total files checked: 0, total valid files: 0
"""


def test_half_a_backup_is_told_unless_one_is_running() -> None:
    assert damages(HALF) == [("half-written backup", "20260103-020000F")]
    assert damages(HALF, busy=True) == []


def test_a_backup_that_ended_during_verify_is_no_damage() -> None:
    new = backup("20260103-020000F", wal(8), wal(8))
    whole = HALF.replace(
        "in-progress, total files checked: 0, total valid files: 0", "valid, total files checked: 1, total valid files: 1"
    )
    report = Report.read("\n".join(line for line in whole.splitlines() if "manifest" not in line and "skipping" not in line))
    assert report.damages(BACKUPS, (*BACKUPS, new), busy=True) == []
    assert [item.name for item in report.damages(BACKUPS, BACKUPS, busy=True)] == [new.label]


def test_a_timeline_that_ended_within_its_first_segment_is_no_damage_and_leaves_no_gap() -> None:
    line = "P00 DETAIL: path '15-1/0000000200000000' does not contain any valid WAL to be processed\n"
    text = VERIFY.replace("P00   INFO: stanza", f"{line}P00   INFO: stanza")
    assert text != VERIFY
    assert damages(text) == []
    histories = ["00000002.history", "00000003.history"]
    whole = archive(*names(range(1, 9)), f"{wal(9, 2)}.partial-{'0' * 40}", *names(range(9, 12), 3), *histories)
    assert gaps(whole) == []
    # What the short timeline should have followed is missed all the same.
    assert gaps(archive(*names(range(1, 8)), *names(range(9, 12), 3), *histories)) == [wal(8)]


def test_pages_that_were_damaged_when_the_backup_was_taken_are_told() -> None:
    assert damages(VERIFY, (replace(BACKUPS[0], damaged_pages=True), BACKUPS[1])) == [("pages", FULL)]


def archive(*names: str) -> Archive:
    return Archive.read(f"15-1/{name[:16]}/{name}-{'0' * 40}.lz4" if len(name) == 24 else f"15-1/{name}" for name in names)


def names(numbers: range, timeline: int = 1) -> list[str]:
    return [wal(running, timeline) for running in numbers]


def gaps(archive: Archive, backups: tuple[Backup, ...] = BACKUPS, replayable: int | None = None) -> list[str]:
    return [item.name for item in archive.gaps(backups, replayable)]


def test_segments_are_counted_over_file_numbers() -> None:
    assert number("0000000100000001000000FF") + 1 == number("000000010000000200000000")
    assert segment(1, number("0000000A000000020000000F")) == "00000001000000020000000F"
    (timeline,) = archive("0000000100000001000000FF", "000000010000000200000000").ranges()
    assert (timeline.segments, timeline.complete) == (2, True)


def test_other_files_of_the_archive_are_no_segments() -> None:
    partial = f"0000000100000000/{wal(3)}.partial-{'0' * 40}.lz4"
    assert archive("archive.info", f"0000000100000000/{wal(2)}.00000028.backup", partial) == archive()


def test_a_gap_is_named_by_its_ends() -> None:
    holey = archive(*names(range(2, 4)), *names(range(6, 8)), wal(9))
    assert gaps(holey) == [f"{wal(4)} to {wal(5)}", wal(8)]
    assert [item.complete for item in holey.ranges()] == [False]


def test_wal_before_the_oldest_backup_is_not_needed() -> None:
    assert gaps(archive(wal(0), *names(range(2, 9)))) == []


def test_an_empty_archive_lacks_what_every_backup_needs() -> None:
    assert gaps(archive()) == [f"{wal(2)} to {wal(3)}", wal(6)]


def test_older_backups_than_the_replayable_ones_need_their_own_wal_only() -> None:
    newest = backup("20260103-020000F", wal(8), wal(9))
    backups = (*BACKUPS, newest)
    kept = [*names(range(2, 4)), wal(6), *names(range(8, 12))]
    assert gaps(archive(*kept), backups, replayable=1) == []
    assert gaps(archive(*kept), backups, replayable=2) == [f"{wal(4)} to {wal(5)}", wal(7)]
    assert gaps(archive(*kept[1:]), backups, replayable=1) == [wal(2)]
    assert gaps(archive(*kept[:-2], kept[-1]), backups, replayable=1) == [wal(10)]


def test_a_timeline_goes_on_where_the_one_before_ends() -> None:
    first, second = names(range(2, 8)), names(range(8, 12), timeline=2)
    assert gaps(archive(*first, *second, "00000002.history")) == []
    # What the old primary wrote beyond the fork is nobody's need.
    assert gaps(archive(*first, wal(8), wal(10), *second, "00000002.history")) == []


def test_wal_lost_in_a_failover_is_a_gap() -> None:
    first, second = names(range(2, 7)), names(range(8, 12), timeline=2)
    assert gaps(archive(*first, *second, "00000002.history")) == [wal(7)]


def test_a_timeline_without_its_history_cannot_be_followed() -> None:
    assert gaps(archive(*names(range(2, 8)), *names(range(8, 12), timeline=2))) == ["00000002.history"]


INFO: dict[str, Any] = {
    "archive": [], "cipher": "none", "name": "ml", "db": [{"id": 1, "repo-key": 1, "system-id": 77, "version": "15"}],
    "repo": [{"cipher": "none", "key": key, "status": {"code": 0, "message": "ok"}} for key in (1, 2)],
    "status": {"code": 0, "lock": {"backup": {"held": False}}, "message": "ok"},
    "backup": [{
        "archive": {"start": wal(2), "stop": wal(3)}, "database": {"id": 1, "repo-key": 1}, "error": True,
        "info": {"delta": 10, "repository": {"delta": 5, "size": 5}, "size": 10}, "label": FULL,
        "lsn": {"start": "0/2000028", "stop": "0/20020E0"}, "prior": None, "reference": None,
        "timestamp": {"start": 1, "stop": 2}, "type": "full",
    }],
}  # fmt: skip


def test_info_is_read_for_the_repository_that_is_asked_for() -> None:
    info = read_info(json.dumps([INFO]), 1)
    assert info.repositories == (1, 2)
    assert info.backups == (backup(FULL, wal(2), wal(3), damaged_pages=True, system=77),)
    assert read_info(json.dumps([INFO]), 2).backups == ()
    assert info.backups[0].timeline == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[{}]", json.dumps([INFO, INFO])])
def test_an_answer_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(StepFailed, match="gave an answer that is not understood"):
        read_info(text, 1)


def test_a_repository_that_cannot_be_used_is_told_in_its_words() -> None:
    broken = {"key": 2, "status": {"code": 99, "message": "[FormatError] unable\nto load \x01"}}
    text = json.dumps([INFO | {"repo": [INFO["repo"][0], broken]}])
    assert read_info(text, 1).backups
    with pytest.raises(StepFailed, match=r"repository 2 of stanza ml: \[FormatError\] unable to load \?"):
        read_info(text, 2)
