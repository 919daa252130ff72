"""`python -m system` as an operator meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sre.dr import backup_plan, lifecycle
from tests import minio_server

SERVE = {
    "ML_OBJECTS_URL": "file:///srv/objects",
    "ML_MLFLOW_URL": "http://127.0.0.1:5000",
    "ML_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:9/ml",
    "ML_API_KEYS_FILE": "/nonexistent/keys.json",
    "ML_CACHE_DIR": "/nonexistent/cache",
}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ML_")}
    command = [sys.executable, "-m", "system", *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_role_is_listed() -> None:
    shown = run("--help").stdout
    assert all(role in shown for role in ("serve", "train", "migrate", "buckets", "validate", "render"))
    assert "--worker" not in run("serve", "--help").stdout


def test_missing_settings_are_all_named_at_once() -> None:
    done = run("serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split()[0] for line in done.stderr.splitlines()] == list(SERVE)
    assert "ML_OBJECTS_URL is not set; set it (where the buckets are: file:///absolute/folder, s3://host:port" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ML_PORT", "http", "ML_PORT is 'http': Input should be a valid integer"),
        ("ML_WORKERS", "0", "ML_WORKERS is '0': Input should be greater than or equal to 1"),
        ("ML_OBJECTS_URL", "s3://b", "ML_OBJECTS_URL is 's3://b': Value error, 's3://b' is none of file:///absolute/folder, s3:"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_remedy(variable: str, value: str, said: str) -> None:
    done = run("validate", **SERVE | {variable: value})
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert "; correct it (" in done.stderr or variable == "ML_PORT"
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr


def test_a_bad_secret_is_never_shown() -> None:
    done = run("serve", **SERVE | {"ML_DATABASE_URL": "postgres+hunter2"})
    assert done.returncode == 2
    assert done.stderr.startswith("ML_DATABASE_URL has a value that is not valid, hidden here")
    assert "hunter2" not in done.stderr


def test_validate_shows_values_and_where_they_come_from() -> None:
    done = run("validate", "serve", **SERVE)
    assert done.returncode == 0
    assert "ML_PORT 8000 (default)" in done.stdout
    assert "ML_MLFLOW_URL http://127.0.0.1:5000 (environment)" in done.stdout
    assert "ML_DATABASE_URL ********** (environment)" in done.stdout
    assert "hunter2" not in done.stdout


def test_validate_checks_the_role_that_is_named() -> None:
    assert run("validate", "migrate", ML_DATABASE_URL="postgresql://x/y").stdout == "ML_DATABASE_URL ********** (environment)\n"
    assert run("validate", "train").returncode == 2


def test_keys_that_cannot_be_read_are_a_bad_setting() -> None:
    done = run("serve", **SERVE)
    assert (done.returncode, done.stderr) == (
        2,
        "ML_API_KEYS_FILE: /nonexistent/keys.json cannot be read: No such file or directory\n",
    )


def test_migrate_says_what_it_applied(database_url: str) -> None:
    applied = "applied 0001_predictions.sql\napplied 0002_variant_and_trace.sql\n"
    assert run("migrate", ML_DATABASE_URL=database_url).stdout == applied
    assert run("migrate", ML_DATABASE_URL=database_url).stdout == "nothing to apply\n"


def test_a_failure_on_purpose_is_its_message_and_status_1() -> None:
    done = run("migrate", ML_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:9/ml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("the database of ML_DATABASE_URL cannot be used")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_render_names_what_it_lacks_and_writes_nothing(tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    values.write_text("{}")
    done = run("render", "--values", str(values), "--into", str(tmp_path), "--only", "nginx.conf")
    assert done.returncode == 1
    assert "template 'nginx.conf' cannot be rendered" in done.stderr
    assert list(tmp_path.iterdir()) == [values]


def test_render_writes_what_is_named_and_asks_for_nothing_that_the_rest_needs(tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    member = {"folder": "/srv/postgres-1", "data": "/srv/data", "postgres_port": 6432}
    values.write_text(
        json.dumps({"member": member, "locks": "/srv/locks", "repositories": [{"path": "/srv/backups", "pass": "hunter2"}]})
    )
    done = run("render", "--values", str(values), "--into", str(tmp_path), "--only", "pgbackrest.conf")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pgbackrest.conf", "values.json"]
    assert "repo1-path=/srv/backups\n" in (tmp_path / "pgbackrest.conf").read_text()
    assert run("render", "--values", str(values), "--into", str(tmp_path)).returncode == 2


def test_each_role_imports_only_what_it_needs() -> None:
    heavy = "{'torch', 'mlflow', 'sklearn', 'onnxruntime', 'fastapi', 'psycopg', 'jinja2', 'numpy', 'botocore'}"
    probe = f"import sys, system.__main__; print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


def test_buckets_are_made_with_the_rules_of_the_plan(tmp_path: Path) -> None:
    plan = backup_plan.load()
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"buckets": lifecycle.s3(plan.buckets)}))
    document = json.loads(rules.read_text())
    document["buckets"]["ml-datasets"]["Rules"].pop(0)  # a class of storage that a single MinIO does not have
    with minio_server.serve(tmp_path) as minio:
        environment = minio.environment | {"ML_OBJECTS_URL": minio.objects_url}
        refused = run("buckets", "--rules", str(rules), **environment)
        rules.write_text(json.dumps(document))
        made = [run("buckets", "--rules", str(rules), **environment) for _ in range(2)]
    assert refused.returncode == 1
    assert refused.stderr.startswith("cannot make bucket ml-datasets in http://")
    assert [done.stderr for done in made] == ["", ""]
    assert made[0].stdout == made[1].stdout
    assert made[0].stdout.splitlines() == [
        "ml-datasets keeps versions; rules for old objects: versions",
        "ml-models-staging keeps versions; rules for old objects: expire, versions",
        "ml-models-production keeps versions; rules for old objects: none",
        "ml-backups keeps versions; rules for old objects: versions",
    ]


def test_a_folder_has_no_buckets_to_make(tmp_path: Path) -> None:
    done = run("buckets", "--rules", str(tmp_path / "rules.json"), ML_OBJECTS_URL=tmp_path.as_uri())
    assert (done.returncode, done.stdout) == (2, "")
    assert "a folder makes its buckets itself; name an S3 server" in done.stderr
