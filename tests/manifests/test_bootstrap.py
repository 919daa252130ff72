"""Where the first copy of the database comes from: a backup, or nothing, and never nothing because nobody could be asked."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from system import render
from tests.manifests.generated import K8S
from tests.system.database.test_templates import VALUES

SCRIPT = K8S / "base" / "database" / "bootstrap.py"
# Each as version 2.45 printed it, where a test says how.
HOLDS, NO_STANZA, NO_BACKUP, AWAY = (
    (0, "ok"),
    (1, "missing stanza path"),
    (2, "no valid backups"),
    (99, "[HostConnectError] x\ny"),
)
_PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in *info*) cat "{folder}/info" ;; *) exit "$(cat "{folder}/status")" ;; esac
"""


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def info(*states: tuple[int, str]) -> str:
    repositories = [{"key": key, "status": {"code": code, "message": words}} for key, (code, words) in enumerate(states, 1)]
    return json.dumps([{"name": "ml", "backup": [], "db": [], "repo": repositories}])


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        ([HOLDS], 1),
        ([HOLDS, HOLDS], 2),
        ([HOLDS, NO_BACKUP], 1),
        ([AWAY, HOLDS], 2),
        ([NO_STANZA], None),
        ([NO_BACKUP, NO_STANZA], None),
    ],
)
def test_the_repository_outside_comes_first_and_nothing_only_where_none_holds_a_backup(
    bootstrap: ModuleType, states: list[tuple[int, str]], chosen: int | None
) -> None:
    assert bootstrap.chosen(info(*states)) == chosen


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([AWAY], r"repository 1: \[HostConnectError\] x y"),
        ([HOLDS, AWAY], "repository 2: "),
        ([AWAY, NO_BACKUP], "repository 1: "),
        ([(3, "missing stanza data")], "repository 1: missing stanza data"),
        ([(5, "database mismatch across repos"), NO_BACKUP], "repository 1: "),
    ],
)
def test_what_cannot_be_asked_holds_no_known_nothing(bootstrap: ModuleType, states: list[tuple[int, str]], words: str) -> None:
    with pytest.raises(LookupError, match=words):
        bootstrap.chosen(info(*states))


def test_a_new_database_is_as_that_of_the_local_target(bootstrap: ModuleType) -> None:
    here = yaml.safe_load(SCRIPT.with_name("patroni.yml").read_text(encoding="utf-8"))
    member = dict.fromkeys(("name", "folder", "data", "postgres", "postgres_inside", "rest", "rest_inside"), "any")
    values = {"member": member, "authority": "any", "programs": "any", "pgbackrest": "any", "etcd": [], "authentication": {}}
    local = yaml.safe_load(render.render("patroni.yml", values | {"synchronous": "on"}))
    assert here["bootstrap"]["initdb"] == local["bootstrap"]["initdb"]
    assert bootstrap.options(here) == [
        "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--data-checksums", "--username=postgres",
    ]  # fmt: skip


def test_wal_is_archived_by_the_same_command_as_on_the_local_target() -> None:
    here = yaml.safe_load(SCRIPT.with_name("patroni.yml").read_text(encoding="utf-8"))
    local = yaml.safe_load(render.render("patroni.yml", VALUES))
    commands = [settings["postgresql"]["parameters"]["archive_command"] for settings in (here, local)]
    places = f"({VALUES['programs']}/|/usr/bin/| --config=\\S+)"
    assert len({re.sub(places, "", command) for command in commands}) == 1


def test_it_reads_variables_that_its_container_has_and_that_patroni_leaves_it() -> None:
    read = set(re.findall(r'os\.environ\["(\w+)"\]', SCRIPT.read_text(encoding="utf-8")))
    members = yaml.safe_load(SCRIPT.with_name("statefulset.yaml").read_text(encoding="utf-8"))
    container = next(one for one in members["spec"]["template"]["spec"]["containers"] if one["name"] == "postgres")
    assert read
    # Patroni takes those that begin with PATRONI_ out of its environment before it calls anything.
    assert read <= {one["name"] for one in container["env"] if not one["name"].startswith("PATRONI_")}


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that write down how they were called, and that end as files say."""
    for name in ("pgbackrest", "initdb"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(_PROGRAM.format(log=tmp_path / "log", folder=tmp_path))
        program.chmod(0o755)
    (tmp_path / "status").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("SUPERUSER_PASSWORD", "secret")
    return tmp_path


def run(folder: Path, **limits: float) -> subprocess.CompletedProcess[str]:
    """The script itself, with limits in place of its own."""
    preset = "".join(f"m.{name} = {value}; " for name, value in limits.items())
    code = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('m', sys.argv[1]); m = u.module_from_spec(s); "
        f"s.loader.exec_module(m); {preset}sys.exit(m.main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", code, str(SCRIPT), "--scope=ml", f"--datadir={folder / 'data'}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def calls(folder: Path) -> list[str]:
    return [line for line in (folder / "log").read_text().splitlines() if "info" not in line]


def test_a_backup_is_restored_with_wal_from_the_same_repository(stand_ins: Path) -> None:
    (stand_ins / "info").write_text(info(HOLDS, HOLDS))
    done = run(stand_ins)
    assert (done.returncode, done.stdout) == (0, "the database is restored from repository 2\n")
    (call,) = calls(stand_ins)
    assert call == (
        f"pgbackrest --stanza=ml --repo=2 --pg1-path={stand_ins / 'data'} "
        '--recovery-option=restore_command=pgbackrest --stanza=ml --repo=2 archive-get %f "%p" restore'
    )
    assert (stand_ins / "data").stat().st_mode & 0o777 == 0o700


def test_a_new_one_is_made_where_no_repository_holds_a_backup(stand_ins: Path) -> None:
    (stand_ins / "info").write_text(info(NO_BACKUP, NO_STANZA))
    assert run(stand_ins).returncode == 0
    (call,) = calls(stand_ins)
    assert call.startswith(
        f"initdb --pgdata={stand_ins / 'data'} --encoding=UTF8 --locale=C --auth=scram-sha-256 --data-checksums"
    )
    assert "secret" not in call


@pytest.mark.parametrize("found", [info(HOLDS, AWAY), info(AWAY), "", "no answer"])
def test_while_a_repository_cannot_be_asked_there_is_no_database(stand_ins: Path, found: str) -> None:
    (stand_ins / "info").write_text(found)
    done = run(stand_ins, ASK_WITHIN_S=0.5, ASK_EVERY_S=0.1)
    assert done.returncode == 1
    # Once, and not at every look.
    assert done.stdout.count("no database is made while the backups cannot be asked") == 1
    assert calls(stand_ins) == []
    assert not (stand_ins / "data").exists()


@pytest.mark.parametrize("found", [info(HOLDS), info(NO_BACKUP)])
def test_half_a_database_is_none(stand_ins: Path, found: str) -> None:
    (stand_ins / "info").write_text(found)
    (stand_ins / "status").write_text("55")
    done = run(stand_ins)
    assert done.returncode == 1
    assert "no database could be made: " in done.stdout
    assert not (stand_ins / "data").exists()


def test_patroni_keeps_what_the_restore_says_of_recovery() -> None:
    bootstrap: dict[str, Any] = yaml.safe_load(SCRIPT.with_name("patroni.yml").read_text(encoding="utf-8"))["bootstrap"]
    assert bootstrap[bootstrap["method"]] == {
        "command": "python /etc/postgres/config/bootstrap.py", "keep_existing_recovery_conf": True
    }  # fmt: skip
