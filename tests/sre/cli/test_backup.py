from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sre.cli.backup import app
from sre.dr import backup_plan, sets
from sre.errors import TargetUnavailable, UsageError
from tests.sre.dr.test_sets import a_set, backup

NOW = datetime.now(UTC).replace(microsecond=0)
Invoke = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A day-old backup here and off-site, verified, and one a year old that is no longer kept here."""
    home = tmp_path / "home"
    store, off_site = sets.places(home).values()
    for began in (NOW - timedelta(days=365), *(NOW - timedelta(days=day) for day in range(60, 0, -1))):
        label = backup(f"{began:%Y%m%d-%H%M%S}F")
        database = sets.Database(
            stanza="ml", system_id="1", marker="m", marker_wal="0" * 24, backups={"store": label, "off_site": label}
        )
        item = a_set(store, began, database=database)
        sets.write(store, item)
        sets.write_check(store, item, [], NOW.timestamp())
    sets.copy(store, off_site, item)
    sets.write_check(off_site, item, [], NOW.timestamp())
    return home


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    return lambda *arguments: CliRunner(env={"SRE_HOME": str(tmp_path / "home"), "COLUMNS": "200"}).invoke(app, arguments)


def test_list_shows_both_places_and_why_each_set_is_kept(home: Path, invoke: Invoke) -> None:
    done = invoke("list", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["schema"], document["wrong"]) == ("sre.backups/1", [])
    rows = {(row["place"], row["id"]): row for row in document["backups"]}
    newest = sets.set_id(NOW - timedelta(days=1), "full")
    assert {place for place, _ in rows} == {"store", "off_site"}
    assert "newest good" in rows["store", newest]["kept"]
    assert rows["off_site", newest]["state"] == "good"
    assert rows["store", sets.set_id(NOW - timedelta(days=40), "full")]["kept"] == []
    text = invoke("list")
    assert text.exit_code == 0
    assert "goes at the next prune" in text.stdout
    assert "newest good" in text.stdout


def test_list_tells_what_is_damaged_and_goes_on(home: Path, invoke: Invoke) -> None:
    store = sets.places(home)["store"]
    newest = sets.set_id(NOW - timedelta(days=1), "full")
    item = sets.listing(store).sets[newest]
    sets.write_check(store, item, ["object x is altered"], NOW.timestamp())
    path = store / "sets" / f"{sets.set_id(NOW - timedelta(days=2), 'full')}.json"
    path.write_bytes(b"{}")
    done = invoke("list", "--json")
    assert done.exit_code == 4
    document = json.loads(done.stdout)
    assert [row["state"] for row in document["backups"] if row["id"] == newest] == ["damaged", "good"]
    assert any(f"sets/{path.name} is damaged" in sentence for sentence in document["wrong"])
    assert f"store: {newest}: object x is altered" in document["wrong"]
    assert any("the plan allows 26 h" in sentence for sentence in document["wrong"])


def test_an_empty_home_has_no_good_backup(invoke: Invoke) -> None:
    done = invoke("list")
    assert done.exit_code == 4
    assert "store holds no good backup" in done.stderr
    assert "off_site holds no good backup" in done.stderr


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("cron", {"crontab"}),
        ("kubernetes", {"cronjobs.yaml"}),
        ("systemd", {f"sre-{job}.{kind}" for job in ("backup-daily", "backup-weekly", "backup-prune", "restore-drill",
                     "restore-quarterly") for kind in ("service", "timer")}),
    ],
)  # fmt: skip
def test_schedule(tmp_path: Path, invoke: Invoke, form: str, names: set[str]) -> None:
    document = json.loads(invoke("schedule", "--format", form, "--json").stdout)
    assert document["schema"] == "sre.schedule/1"
    assert set(document["files"]) == names
    into = tmp_path / "units"
    done = invoke("schedule", "--format", form, "--into", str(into))
    assert f"{len(names)} files are in {into}" in done.stderr
    assert {path.name: path.read_text() for path in into.iterdir()} == document["files"]
    printed = invoke("schedule", "--format", form).stdout
    assert all(text in printed for text in document["files"].values())


def test_schedule_names_this_program_and_home(home: Path, invoke: Invoke) -> None:
    text = invoke("schedule").stdout
    assert f'SRE_HOME="{home}"' in text
    assert "bin/sre backup create --kind diff --reason daily" in text


def test_a_wrong_format_is_a_usage_error(invoke: Invoke) -> None:
    assert invoke("schedule", "--format", "at").exit_code == 2


def test_another_plan_is_obeyed(tmp_path: Path, invoke: Invoke) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(backup_plan.PLAN.read_text(encoding="utf-8").replace('"02:00"', '"23:00"'))
    assert "0 23 * * * " in invoke("schedule", "--plan", str(other)).stdout


def test_lifecycle_shows_what_is_due_and_changes_nothing(home: Path, invoke: Invoke) -> None:
    assert json.loads(invoke("lifecycle", "--json").stdout) == {"schema": "sre.lifecycle/1", "due": []}
    stale = home / "data" / "objects" / "ml-models-staging" / "m" / "1" / "model.onnx"
    stale.parent.mkdir(parents=True)
    stale.touch()
    os.utime(stale, (time.time() - 31 * 86_400,) * 2)
    (due,) = json.loads(invoke("lifecycle", "--json").stdout)["due"]
    assert (due["verb"], due["object"]) == ("expire", "ml-models-staging/m/1/model.onnx")
    assert "expire  ml-models-staging/m/1/model.onnx  31.0 days old" in invoke("lifecycle").stdout
    assert stale.exists()


def test_lifecycle_for_s3(invoke: Invoke) -> None:
    document = json.loads(invoke("lifecycle", "--s3").stdout)
    assert document["buckets"]["ml-models-production"] == {}
    assert document["buckets"]["ml-datasets"]["Rules"][0]["ID"] == "cold"


def test_what_the_newest_backup_says_an_alias_names_is_not_due(home: Path, invoke: Invoke) -> None:
    store = sets.places(home)["store"]
    name = "ml-models-staging/m/1/model.onnx"
    model = sets.RegisteredModel(versions={"1": {name: "0" * 64}}, aliases={"candidate": "1"})
    sets.write(store, a_set(store, NOW, registry={"m": model}))
    path = home / "data" / "objects" / name
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (time.time() - 31 * 86_400,) * 2)
    assert json.loads(invoke("lifecycle", "--json").stdout)["due"] == []


def test_a_restore_needs_one_place_to_go_to(home: Path, invoke: Invoke) -> None:
    for arguments in ((), ("--into", "x", "--over", "ml")):
        done = invoke("restore", *arguments)
        assert isinstance(done.exception, UsageError)
        assert "say where" in str(done.exception)


def test_what_does_not_exist_is_named(home: Path, invoke: Invoke) -> None:
    assert isinstance(invoke("verify").exception, TargetUnavailable)
    (home / "secrets").mkdir()
    done = invoke("verify", "20200101T000000Z-full", "--from", "off-site")
    assert isinstance(done.exception, UsageError)
    assert "off_site holds no backup 20200101T000000Z-full" in str(done.exception)
    done = invoke("restore", "--over", "ml", "--to", "noon")
    assert "'noon' is no moment" in str(done.exception)
