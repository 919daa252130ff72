from __future__ import annotations

import json
import os
import pwd
import random
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sre.dr.pgbackrest import Stanza, choose
from sre.dr.pgbackrest_records import Damage, number, segment
from sre.dr.recovery import IMMEDIATE, LATEST, Target, wait_for_target
from sre.errors import StepFailed, UsageError
from system import render
from tests.sre.dr.conftest import ACCOUNT, Origin, Point, own
from tests.sre.dr.test_pgbackrest_records import INFO
from tests.studies.corruption.changes import cut, empty, flip
from tests.system.database.test_templates import VALUES

pytestmark = pytest.mark.local


def test_a_backup_of_each_kind_lies_in_every_repository(origin: Origin) -> None:
    for repo, made in origin.backups.items():
        listed = origin.stanza.backups(repo)
        assert listed == made
        _, full, diff, incr = listed
        assert [item.kind for item in listed] == ["full", "full", "diff", "incr"]
        assert (full.needs, diff.needs, incr.prior) == ((), (full.label,), diff.label)
        assert full.size > diff.stored > 0
        assert full.stopped <= diff.started <= diff.stopped
        assert not full.damaged_pages
    assert origin.stanza.repositories() == (1, 2)


def test_a_stanza_may_be_made_again(origin: Origin) -> None:
    origin.stanza.create()


def test_the_archive_has_all_wal_from_the_first_backup_on(origin: Origin) -> None:
    (timeline,) = origin.stanza.archive(2)
    assert (timeline.timeline, timeline.complete) == (1, True)
    assert timeline.oldest <= origin.backups[2][0].first_wal
    assert timeline.newest > origin.backups[2][-1].last_wal


@pytest.mark.parametrize("repo", [1, 2])
def test_what_is_whole_is_without_damage(origin: Origin, repo: int) -> None:
    assert origin.stanza.verify(repo) == ()


def exact(origin: Origin, points: Sequence[Point], folder: Path) -> None:
    """Restore to each point, by another kind of target each: what was committed until then must be there, and no more."""
    for index, point in enumerate(points):
        target = point.targets[("time", "xid", "name", "lsn")[index % 4]]
        numbers, reached = origin.numbers(target, folder / "data", repo=1 + index % 2)
        assert numbers == set(range(1, point.n + 1)), target
        assert reached.timeline == 2


def test_random_moments_are_exact_to_the_transaction(origin: Origin, folder: Path, request: pytest.FixtureRequest) -> None:
    # Before the end of the first backup, known to the second, there is nothing to begin from.
    first = max(made[0].stopped for made in origin.backups.values()) + 1
    points = [point for point in origin.points if (point.targets["time"].at or 0) >= first]
    exact(origin, random.Random(5).sample(points, request.config.getoption("--moments")), folder)


def test_the_latest_moment_holds_everything(origin: Origin, folder: Path) -> None:
    numbers, reached = origin.numbers(LATEST, folder / "data")
    assert numbers >= {point.n for point in origin.points}
    assert reached.words.startswith("redo done at")


def test_the_moment_of_the_backup_holds_what_was_there(origin: Origin, folder: Path) -> None:
    numbers, reached = origin.numbers(IMMEDIATE, folder / "data")
    assert numbers == set(range(1, 33))
    assert reached.words == "recovery stopping after reaching consistency"


def test_a_target_beyond_the_archive_is_told_with_its_remedy(origin: Origin, folder: Path) -> None:
    with pytest.raises(
        StepFailed, match=r"recovery to xid 999999 failed: recovery ended before .*archived WAL ends before xid 9"
    ):
        origin.numbers(Target.xid(999_999), folder / "data")


def test_a_target_before_the_backup_is_told_with_its_remedy(origin: Origin, folder: Path) -> None:
    server, last = origin.restored(folder / "data"), origin.backups[1][-1]
    target = origin.points[3].targets["lsn"]
    origin.stanza.restore(server.data, target, label=last.label)
    server.start()
    with pytest.raises(StepFailed, match=r"restore one that ended before it"):
        wait_for_target(server.dsn, server.passfile, server.log, target, within_s=180)
    server.stop()


def test_wal_that_is_missing_on_the_way_to_the_latest_moment_is_told(origin: Origin, folder: Path) -> None:
    stanza, repository = origin.copy(folder / "repo")
    server, newest = origin.restored(folder / "data"), stanza.archive()[-1].newest
    _, full, diff, _ = origin.backups[1]
    for path in repository.glob(f"archive/ml/15-1/*/{following(full.last_wal)}-*"):
        path.unlink()
    stanza.restore(server.data, LATEST, label=full.label)
    server.start()
    with pytest.raises(StepFailed, match=rf"recovery to latest: redo done at .*, yet the archive goes on until {newest}"):
        wait_for_target(server.dsn, server.passfile, server.log, LATEST, newest_wal=newest, within_s=180)
    server.stop()
    assert following(full.last_wal) < diff.first_wal


def test_the_restored_server_archives_nothing(origin: Origin, folder: Path) -> None:
    origin.stanza.restore(folder / "data", LATEST)
    settings = (folder / "data" / "postgresql.auto.conf").read_text()
    assert re.search(r"archive_mode = 'off'", settings)
    assert (folder / "data").stat().st_mode & 0o777 == 0o700


def test_only_an_empty_folder_is_restored_into(origin: Origin, folder: Path) -> None:
    with pytest.raises(UsageError, match="is not empty"):
        origin.stanza.restore(origin.server.data, LATEST)
    (folder / "data").mkdir()
    (folder / "data" / "letters").touch()
    with pytest.raises(UsageError, match="is not empty"):
        origin.stanza.restore(folder / "data", LATEST)


def test_the_newest_backup_before_the_target_is_chosen(origin: Origin) -> None:
    old, full, diff, incr = backups = origin.backups[1]
    assert choose(backups, LATEST, None) == incr
    assert choose(backups, LATEST, diff.label) == diff
    assert choose(backups, Target.time(incr.stopped + 0.5), None) == diff
    assert choose(backups, Target.xid(7, at=full.stopped + 1.0), None) == full
    assert choose(backups, Target.xid(7), None) == old
    assert choose(backups, Target.lsn(diff.stop_lsn), None) == diff
    with pytest.raises(UsageError, match=rf"no backup that ended before 2001.*there is {old.label}"):
        choose(backups, Target.time(1e9), None)
    with pytest.raises(UsageError, match="no backup nonsense"):
        choose(backups, LATEST, "nonsense")
    with pytest.raises(UsageError, match="there is none"):
        choose((), LATEST, None)


def following(wal: str) -> str:
    return segment(1, number(wal) + 1)


def clear(path: Path) -> None:
    subprocess.run(["find", path, "-mindepth", "1", "-delete"], check=True)


# What is done to which file of the repository, and what must be named: kind and part of its name.
Sabotage = tuple[Callable[[Path], None], str, str, str]
SABOTAGES: dict[str, Sabotage] = {
    "flipped byte in data": (flip, "backup/ml/{full}/pg_data/global/1262.lz4", "file", "{full}/pg_data/global/1262.lz4"),
    "cut data": (cut, "backup/ml/{full}/pg_data/global/1262.lz4", "file", "{full}/pg_data/global/1262.lz4"),
    "emptied data": (empty, "backup/ml/{full}/pg_data/global/1262.lz4", "file", "{full}/pg_data/global/1262.lz4"),
    "missing data": (Path.unlink, "backup/ml/{full}/pg_data/global/1262.lz4", "file", "{full}/pg_data/global/1262.lz4"),
    "flipped byte in WAL": (flip, "archive/ml/15-1/0000000100000000/{wal}-*", "WAL segment", "{wal}"),
    "cut WAL": (cut, "archive/ml/15-1/0000000100000000/{wal}-*", "WAL segment", "{wal}"),
    "emptied WAL": (empty, "archive/ml/15-1/0000000100000000/{wal}-*", "WAL segment", "{wal}"),
    "missing WAL": (Path.unlink, "archive/ml/15-1/0000000100000000/{wal}-*", "missing WAL", "{wal}"),
    "missing WAL of a backup": (Path.unlink, "archive/ml/15-1/0000000100000000/{own}-*", "missing WAL", "{own}"),
    "no WAL at all": (clear, "archive/ml/15-1", "missing WAL", "{own}"),
    "flipped byte in a manifest": (flip, "backup/ml/{diff}/backup.manifest", "manifest", "{diff}"),
    "flipped byte in a manifest's copy": (flip, "backup/ml/{diff}/backup.manifest.copy", "manifest", "{diff}"),
    "missing manifest": (Path.unlink, "backup/ml/{diff}/backup.manifest", "manifest", "{diff}"),
    "flipped byte in the list of backups": (flip, "backup/ml/backup.info", "file", "backup/ml/backup.info"),
    "missing list of backups": (Path.unlink, "backup/ml/backup.info", "file", "backup/ml/backup.info"),
    "flipped byte in the archive's key": (flip, "archive/ml/archive.info", "file", "archive/ml/archive.info"),
    "flipped byte in the key's copy": (flip, "archive/ml/archive.info.copy", "file", "archive/ml/archive.info"),
    "missing backup": (clear, "backup/ml/{incr}", "manifest", "{incr}"),
    "no backup at all": (clear, "backup/ml", "repository", "repository 1"),
    "empty repository": (clear, ".", "repository", "repository 1"),
}


@pytest.fixture
def copy(origin: Origin, folder: Path) -> tuple[Stanza, Path]:
    return origin.copy(folder / "repo")


@pytest.mark.parametrize("name", SABOTAGES)
def test_damage_is_found_and_named(origin: Origin, copy: tuple[Stanza, Path], name: str) -> None:
    stanza, repository = copy
    sabotage, where, what, wanted = SABOTAGES[name]
    _, full, diff, incr = origin.backups[1]
    between = following(full.last_wal)
    names = {"full": full.label, "diff": diff.label, "incr": incr.label, "own": diff.first_wal, "wal": between}
    for path in [repository] if where == "." else list(repository.glob(where.format(**names))):
        sabotage(path)
    found = stanza.verify()
    assert [item for item in found if item.what == what and wanted.format(**names) in item.name], found


def test_a_missing_file_shared_by_three_backups_is_told_once(origin: Origin, copy: tuple[Stanza, Path]) -> None:
    stanza, repository = copy
    full = origin.backups[1][1].label
    (repository / f"backup/ml/{full}/pg_data/global/1262.lz4").unlink()
    found = stanza.verify()
    assert [item for item in found if item.what == "file"] == [Damage("file", f"{full}/pg_data/global/1262.lz4", "file missing")]
    assert [item.name for item in found if item.what == "backup"] == [item.label for item in origin.backups[1][1:]]


def test_a_wrong_key_is_named(copy: tuple[Stanza, Path]) -> None:
    stanza, _ = copy
    stanza.config.write_text(stanza.config.read_text().replace("first pass", "another pass"))
    found = stanza.verify()
    assert found[0].what == "repository"
    assert "cipher pass" in found[0].words
    with pytest.raises(StepFailed, match=r"repository 1 of stanza ml: .*unable to load info file"):
        stanza.backups()


def test_no_command_line_holds_a_key(copy: tuple[Stanza, Path], folder: Path) -> None:
    commands: list[str] = []
    stanza = replace(copy[0], ran=lambda command: commands.append(" ".join(command)))
    stanza.verify()
    stanza.restore(folder / "data", LATEST)
    assert len(commands) >= 5
    assert not [command for command in commands if "pass" in command]


def test_only_wal_that_no_replayable_backup_needs_may_be_missing(origin: Origin, copy: tuple[Stanza, Path]) -> None:
    stanza, repository = copy
    incr = origin.backups[1][-1]
    before = segment(1, number(incr.first_wal) - 1)
    for path in repository.glob(f"archive/ml/15-1/*/{before}-*"):
        path.unlink()
    assert [(item.what, item.name) for item in stanza.verify()] == [("missing WAL", before)]


def test_a_backup_goes_with_all_that_build_on_it(origin: Origin, copy: tuple[Stanza, Path]) -> None:
    stanza, _ = copy
    old, full, diff, incr = (item.label for item in origin.backups[1])
    assert stanza.expire(diff) == (diff, incr)
    assert [item.label for item in stanza.backups()] == [old, full]
    assert stanza.archive()[0].oldest == origin.backups[1][0].first_wal
    assert stanza.verify() == ()


def test_wal_goes_with_the_last_backup_that_needs_it(origin: Origin, copy: tuple[Stanza, Path], folder: Path) -> None:
    stanza, _ = copy
    old, full, *_ = origin.backups[1]
    stanza.expire(old.label)
    assert stanza.archive()[0].oldest == full.first_wal
    assert stanza.verify() == ()
    assert stanza.restore(folder / "data", LATEST) == origin.backups[1][-1]


def test_a_backup_that_need_not_be_replayable_keeps_its_own_wal_alone(origin: Origin, copy: tuple[Stanza, Path]) -> None:
    all_replayable, _ = copy
    stanza = replace(all_replayable, replayable_fulls=1)
    old, full, _, incr = origin.backups[1]
    stanza.expire(incr.label)
    (timeline,) = stanza.archive()
    assert (timeline.oldest, timeline.complete) == (old.first_wal, False)
    assert stanza.verify() == ()
    (gap,) = all_replayable.verify()
    assert gap.what == "missing WAL"
    assert old.last_wal < gap.name.split(" to ")[0] < full.first_wal


def test_the_last_full_backup_stays(origin: Origin, copy: tuple[Stanza, Path]) -> None:
    stanza, _ = copy
    old, full = (item.label for item in origin.backups[1][:2])
    stanza.expire(old)
    with pytest.raises(UsageError, match=f"{full} is the last full backup of repository 1"):
        stanza.expire(full)
    with pytest.raises(UsageError, match="holds no backup 20010101-000000F"):
        stanza.expire("20010101-000000F")
    assert stanza.backups() == origin.backups[1][1:]


def test_a_backup_cut_off_by_sigkill_never_counts(origin: Origin, folder: Path, copy: tuple[Stanza, Path]) -> None:
    stanza, repository = copy
    group = pwd.getpwnam(ACCOUNT).pw_gid if ACCOUNT else None
    process = subprocess.Popen(
        [stanza.program, f"--config={stanza.config}", "--stanza=ml", "--repo=1", "--type=full", "--log-level-console=detail",
         "--process-max=1", "--no-archive-check", "backup"],
        env={**os.environ, **stanza.environment}, user=ACCOUNT, group=group, extra_groups=[] if ACCOUNT else None, cwd="/",
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    seen = next(line for line in process.stdout if "backup file" in line)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert seen
    assert stanza.backups() == origin.backups[1]
    (half,) = [item for item in stanza.verify() if item.what == "half-written backup"]
    assert (repository / "backup/ml" / half.name / "pg_data").is_dir()
    assert stanza.restore(folder / "data", LATEST) == origin.backups[1][-1]


def test_two_versions_of_a_segment_are_an_error_only_on_the_timeline_of_the_server(
    origin: Origin, copy: tuple[Stanza, Path], folder: Path
) -> None:
    stanza, _ = copy
    values = VALUES | {"pgbackrest": str(stanza.program), "programs": str(origin.server.postgres.path.parent)}
    told = yaml.safe_load(render.render("patroni.yml", values))["postgresql"]["parameters"]["archive_command"]
    told = told.replace(f"{VALUES['member']['folder']}/pgbackrest.conf", str(stanza.config))
    written = next((origin.server.data / "pg_wal").glob("0*[0-9A-F]")).read_bytes()

    def push(name: str, content: bytes) -> int:
        file = folder / name
        file.write_bytes(content)
        own(file)
        command = told.replace("%p", str(file)).replace("%f", name)
        return origin.server.shell(command, stanza.environment).returncode

    # The server is on timeline 1, so 0 stands for one that it has left; the segment is one that nobody has archived.
    for timeline, ends_with in (("00000000", 0), ("00000001", 1)):
        name = f"{timeline}000000FF000000FE"
        assert push(name, written) == push(name, written) == 0
        assert push(name, written[:-1] + bytes([written[-1] ^ 1])) == ends_with


def test_an_unreachable_server_is_told_for_each_repository(copy: tuple[Stanza, Path]) -> None:
    stanza, _ = copy
    stanza.config.write_text(re.sub(r"(?m)^pg1-port=.*$", "pg1-port=1", stanza.config.read_text()))
    with pytest.raises(StepFailed, match=r"repository 1: pgbackrest backup failed with 56: ERROR: \[056\].*repository 2: "):
        stanza.backup("incr")


def test_wal_that_does_not_arrive_is_told(origin: Origin, copy: tuple[Stanza, Path]) -> None:
    stanza, _ = copy  # the server archives into the original, not into this copy
    stanza.config.write_text(stanza.config.read_text().replace("archive-timeout=60", "archive-timeout=1"))
    with pytest.raises(StepFailed, match=r"pgbackrest check failed with 82: ERROR: \[082\]: WAL segment"):
        stanza.create()


def test_progress_is_told_by_tenths(origin: Origin, folder: Path) -> None:
    said: list[str] = []
    origin.stanza.restore(folder / "data", LATEST, say=said.append)
    tenths = [line for line in said if line.endswith("%")]
    assert tenths[-1] == f"restore of {origin.backups[1][-1].label}: 100 %"
    assert 2 <= len(tenths) <= 10


def test_a_command_that_is_too_slow_is_given_up(origin: Origin) -> None:
    with pytest.raises(StepFailed, match=r"pgbackrest did not end within 0.001 s"):
        origin.stanza.verify(within_s=0.001)


def test_a_configuration_that_is_not_there_is_told(origin: Origin) -> None:
    with pytest.raises(StepFailed, match=r"pgbackrest info failed with 55: ERROR: \[055\]: unable to open missing file"):
        replace(origin.stanza, config=Path("/nowhere")).backups()


@pytest.fixture
def idle(tmp_path: Path) -> Stanza:
    """A pgBackRest that says what it has, does nothing else, and always exits 0."""
    backups = [INFO["backup"][0] | {"label": label} for label in ("20260101-020000F", "20260102-020000F")]
    (tmp_path / "info").write_text(json.dumps([INFO | {"backup": backups}]))
    program = tmp_path / "pgbackrest"
    program.write_text(f'#!/bin/sh\ncase "$*" in *" info"*) cat {tmp_path}/info;; *repo-ls*) echo "{{}}";; esac\n')
    program.chmod(0o755)
    return Stanza(program, {}, tmp_path / "config")


def test_an_exit_code_of_0_is_no_backup(idle: Stanza) -> None:
    with pytest.raises(StepFailed, match=r"repository 1: pgbackrest backup ended without an error, yet no new backup is listed"):
        idle.backup("full")


def test_an_exit_code_of_0_is_no_restore(idle: Stanza, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"restore ended without an error, yet .* holds no database"):
        idle.restore(tmp_path / "data", LATEST)


def test_an_exit_code_of_0_is_no_expiry(idle: Stanza) -> None:
    with pytest.raises(StepFailed, match=r"expire of 20260101-020000F: \[\] are gone, \['20260101-020000F'\] should be"):
        idle.expire("20260101-020000F")


def test_an_exit_code_of_0_is_no_proof(idle: Stanza) -> None:
    found = {(item.what, item.name) for item in idle.verify()}
    assert found >= {("backup", "20260101-020000F"), ("backup", "20260102-020000F"), ("report", "verify")}
    assert "missing WAL" in {what for what, _ in found}
