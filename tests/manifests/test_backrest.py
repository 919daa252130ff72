"""The program that backs a cluster's database up, with stand-ins for `psql` and `pgbackrest` that keep what they are told."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.dr import backup_plan, commands
from tests.manifests.generated import K8S
from tests.sre.dr.conftest import served

DATABASE = K8S / "base" / "database"
SCHEDULE = json.loads((DATABASE / "schedule.json").read_text(encoding="utf-8"))
DAY_S = 86_400
# Keeps backups in a file, as `pgbackrest info` tells of them.
STAND_IN = """#!/usr/bin/env python3
import json, pathlib, sys
state = pathlib.Path({state!r})
known = json.loads(state.read_text())
words = sys.argv[1:]
known["asked"].append(words)
code = 0
if "info" in words:
    print(known["stanza"] if isinstance(known["stanza"], str) else json.dumps([known["stanza"]] if known["stanza"] else []))
elif known["fails"]:
    print("ERROR: [042]: no such host", file=sys.stderr)
    code = 42
elif "stanza-create" in words:
    for repo in known["stanza"]["repo"]:
        repo["status"]["code"] = 2
else:
    repo, kind = (next(w.split("=")[1] for w in words if w.startswith(f"--{{name}}=")) for name in ("repo", "type"))
    made = {{"type": kind, "error": False, "timestamp": {{"start": known["now"], "stop": known["now"] + 9}}}}
    known["stanza"]["backup"].append(made | {{"database": {{"repo-key": int(repo)}}}})
    known["stanza"]["repo"][int(repo) - 1]["status"]["code"] = 0
state.write_text(json.dumps(known))
sys.exit(code)
"""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


SUNDAY = at("2026-11-29 01:00")


@pytest.fixture(scope="module")
def backrest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("backrest", DATABASE / "backrest.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def backup(kind: str, start: float, *, error: bool = False, repo: int = 1) -> dict[str, Any]:
    return {
        "type": kind, "error": error, "timestamp": {"start": int(start), "stop": int(start) + 60}, "database": {"repo-key": repo},
    }  # fmt: skip


def stanza(*backups: dict[str, Any], codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
    return {
        "name": "ml", "backup": list(backups),
        "repo": [{"key": key, "status": {"code": code}} for key, code in enumerate(codes, 1)],
    }  # fmt: skip


def test_the_schedule_is_the_plans() -> None:
    backups = backup_plan.load().backups
    assert {slot["kind"] for slot in SCHEDULE.values()} == {backups.daily.kind, backups.weekly.kind}


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-11-29 01:00", "2026-11-29 01:00"),
        ("2026-11-29 00:59", "2026-11-22 01:00"),
        ("2026-12-05 23:59", "2026-11-29 01:00"),
    ],
)
def test_a_weekly_slot_is_due_on_its_day(backrest: ModuleType, when: str, expected: str) -> None:
    assert backrest.planned(SCHEDULE["weekly"], at(when)) == at(expected)


@pytest.mark.parametrize(
    ("backups", "when", "expected"),
    [
        ([], "2026-11-24 12:00", "full"),
        ([("diff", "2026-11-24 02:00")], "2026-11-24 12:00", "full"),
        ([("full", "2026-11-24 11:00")], "2026-11-24 12:00", None),
        ([("full", "2026-11-24 11:00")], "2026-11-25 01:59", None),
        ([("full", "2026-11-24 11:00")], "2026-11-25 02:00", "diff"),
        ([("full", "2026-11-24 11:00"), ("incr", "2026-11-25 02:00")], "2026-11-25 02:01", "diff"),
        ([("full", "2026-11-24 11:00"), ("diff", "2026-11-25 02:00")], "2026-11-25 02:01", None),
        ([("full", "2026-11-24 11:00"), ("diff", "2026-11-28 02:00")], "2026-11-29 01:00", "full"),
        # Nobody was there on Sunday: made up for at any time.
        ([("full", "2026-11-22 01:00"), ("diff", "2026-11-28 02:00")], "2026-12-01 14:00", "full"),
    ],
)
def test_what_is_due(backrest: ModuleType, backups: list[tuple[str, str]], when: str, expected: str | None) -> None:
    assert backrest.due(SCHEDULE, [backup(kind, at(start)) for kind, start in backups], at(when)) == expected


@given(now=st.integers(int(SUNDAY), int(SUNDAY) + 60 * DAY_S), pause=st.integers(60, 3 * DAY_S))
def test_whoever_does_what_is_due_is_done_and_has_a_backup_of_the_day(backrest: ModuleType, now: int, pause: int) -> None:
    backups = [backup("full", SUNDAY)]
    for when in (now, now + pause):
        if kind := backrest.due(SCHEDULE, backups, when):
            backups.append(backup(kind, when))
        assert backrest.due(SCHEDULE, backups, when) is None
        assert when - max(one["timestamp"]["start"] for one in backups) < DAY_S
        assert when - max(one["timestamp"]["start"] for one in backups if one["type"] == "full") < 7 * DAY_S


def test_numbers_for_prometheus(backrest: ModuleType) -> None:
    found = stanza(backup("full", 1000), backup("diff", 2000), backup("full", 3000, error=True), codes=(0, 2, 99))
    assert backrest.metrics(found, 3).splitlines() == [
        "# TYPE pgbackrest_backup_failed_total counter",
        "pgbackrest_backup_failed_total 3",
        "# TYPE pgbackrest_backup_newest_timestamp_seconds gauge",
        'pgbackrest_backup_newest_timestamp_seconds{repo="1",type="full"} 1060',
        'pgbackrest_backup_newest_timestamp_seconds{repo="1",type="diff"} 2060',
        'pgbackrest_backup_newest_timestamp_seconds{repo="2",type="full"} 0',
        'pgbackrest_backup_newest_timestamp_seconds{repo="2",type="diff"} 0',
    ]
    assert "newest" not in backrest.metrics(None, 0)


class Stage:
    """A member with stand-ins on its PATH."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, backrest: ModuleType) -> None:
        self._state = folder / "state.json"
        self.save({"asked": [], "fails": False, "now": 0, "stanza": stanza(codes=(1, 1))})
        (folder / "pgbackrest").write_text(STAND_IN.format(state=str(self._state)))
        self.role(folder, "f")
        (folder / "pgbackrest").chmod(0o755)
        patch.setenv("PATH", str(folder), prepend=":")
        self.keeper = backrest.Keeper(SCHEDULE)

    @staticmethod
    def role(folder: Path, recovers: str) -> None:
        (folder / "psql").write_text(f"#!/bin/sh\necho {recovers}\n")
        (folder / "psql").chmod(0o755)

    def known(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._state.read_text())
        return found

    def save(self, known: dict[str, Any]) -> None:
        self._state.write_text(json.dumps(known))

    def look(self, now: float, *, fails: bool = False) -> list[str]:
        """What was asked of pgBackRest meanwhile, other than `info`."""
        self.save(self.known() | {"asked": [], "fails": fails, "now": int(now)})
        self.keeper.look(now)
        return [" ".join(words[1:]) for words in self.known()["asked"] if "info" not in words]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backrest: ModuleType) -> Stage:
    return Stage(tmp_path, monkeypatch, backrest)


def test_a_new_primary_makes_the_stanza_and_a_full_backup_in_each_repository(stage: Stage) -> None:
    assert stage.look(SUNDAY + 5000) == ["stanza-create"]
    assert stage.look(SUNDAY + 5015) == ["--repo=1 --type=full backup", "--repo=2 --type=full backup"]
    assert stage.look(SUNDAY + 5030) == []
    assert f'{{repo="2",type="diff"}} {SUNDAY + 5024:.0f}' in stage.keeper.page
    assert stage.look(SUNDAY + DAY_S + 3600) == ["--repo=1 --type=diff backup", "--repo=2 --type=diff backup"]


def test_a_standby_makes_none_and_still_tells(stage: Stage, tmp_path: Path) -> None:
    stage.role(tmp_path, "t")
    stage.save(stage.known() | {"stanza": stanza(backup("full", SUNDAY))})
    assert stage.look(SUNDAY + 30 * DAY_S) == []
    assert f'{{repo="1",type="full"}} {SUNDAY + 60:.0f}' in stage.keeper.page


def test_a_backup_that_fails_is_tried_again_later_and_counted(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.save(stage.known() | {"stanza": stanza(codes=(2,))})
    assert len(stage.look(SUNDAY, fails=True)) == 1
    assert "exited with 42: ERROR: [042]: no such host" in capsys.readouterr().out
    assert "pgbackrest_backup_failed_total 1" in stage.keeper.page
    assert stage.look(SUNDAY + 599) == []
    assert stage.look(SUNDAY + 600) == ["--repo=1 --type=full backup"]


def test_a_repository_that_cannot_be_asked_does_not_keep_the_other_from_its_backup(stage: Stage) -> None:
    stage.save(stage.known() | {"stanza": stanza(codes=(99, 2))})
    assert stage.look(SUNDAY) == ["--repo=2 --type=full backup"]
    for nothing in (None, "[{\x16"):
        stage.save(stage.known() | {"stanza": nothing})
        assert stage.look(SUNDAY + DAY_S) == []
        assert "newest" not in stage.keeper.page


def test_prometheus_is_answered(backrest: ModuleType, stage: Stage) -> None:
    server = backrest.serve(stage.keeper, 0)
    with closing(urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/metrics", timeout=5)) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert answer.read().decode() == stage.keeper.page
    server.shutdown()
    server.server_close()


def test_it_understands_what_pgbackrest_says(backrest: ModuleType, programs: Path) -> None:
    home = Path(f"/tmp/sre-backrest-{os.getpid()}")  # noqa: S108 - short, for the socket, and open to the server's account
    home.mkdir(mode=0o755)
    try:
        with served(home, programs) as (server, made):
            command = [str(made.program), f"--config={made.config}", "--stanza=ml", "--output=json", "info"]

            def info() -> dict[str, Any]:
                done = commands.run(command, environment=made.environment, account=made.account, within_s=30)
                found: dict[str, Any] = json.loads(done.out)[0]
                return found

            assert backrest.repositories(info(), 1, 3) == [1, 2]
            made.create()
            assert backrest.repositories(info()) == [1, 2]
            now = float(server.value("SELECT extract(epoch FROM now())"))
            assert backrest.due(SCHEDULE, backrest.good(info(), 1), now) == "full"
            made.backup("full")
            for repo in (1, 2):
                assert backrest.due(SCHEDULE, backrest.good(info(), repo), time.time()) is None
                (kept,) = backrest.good(info(), repo)
                assert kept["timestamp"]["stop"] >= now - 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
