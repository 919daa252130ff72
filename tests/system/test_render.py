from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from system import render
from system.errors import MlSystemError

VALUES: dict[str, Any] = {
    "run": "/srv/run",
    "logs": "/srv/logs",
    "serving": [{"name": "serving-1", "address": "127.0.0.1:9001"}, {"name": "serving-2", "address": "127.0.0.1:9002"}],
    "arms": [{"name": "canary-1", "track": "canary", "address": "127.0.0.1:9003"}],
    "split": "/srv/run/split",
    "ingress": {
        "address": "127.0.0.1:9443", "status_address": "127.0.0.1:9080", "certificate": "/srv/server.pem",
        "certificate_key": "/srv/server.key", "user": "", "workers": 2, "rate_per_key": 5, "burst_per_key": 2,
        "max_body_bytes": 1000, "answer_timeout_s": 1, "failures_until_away": 1, "away_s": 1,
    },
    "monitoring": {
        "scrape_interval_s": 2, "scrape_timeout_s": 2, "alertmanager": "127.0.0.1:9093", "least_replicas": 2,
        "runbooks": "file:///srv/runbooks", "jobs": {"prometheus": "127.0.0.1:9090"}, "authority": "/srv/ca.pem",
        "arms": "/srv/run/arms",
        "members": [{"name": "postgres-1", "address": "127.0.0.1:8008"}, {"name": "postgres-2", "address": "127.0.0.1:8009"}],
    },
    "member": {
        "name": "postgres-1", "folder": "/srv/postgres-1", "data": "/srv/data/postgres-1", "postgres": "127.0.0.1:5432",
        "postgres_inside": "127.0.0.1:6432", "postgres_port": 6432, "rest": "127.0.0.1:8008", "rest_inside": "127.0.0.1:8108",
    },
    "etcd": ["127.0.0.1:2379", "127.0.0.1:2479"],
    "authority": "/srv/ca.pem",
    "programs": "/usr/lib/postgresql/15/bin",
    "pgbackrest": "/usr/bin/pgbackrest",
    "synchronous": "on",
    "authentication": {"superuser": {"name": "postgres", "password": "a: 'b' \"c\" # {d}"}},
    "locks": "/srv/locks",
    "repositories": [{"path": "/srv/objects/backups", "pass": "first"}, {"path": "/srv/offsite", "pass": "second"}],
}  # fmt: skip


def leaves(values: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(values, dict):
        return [leaf for key, value in values.items() for leaf in leaves(value, (*path, key))]
    return [path]


@pytest.mark.parametrize("name", render.TEMPLATES)
def test_every_template_is_filled_whole(name: str) -> None:
    text = render.render(name, VALUES)
    assert text.endswith("\n")
    assert not [mark for mark in ("[[", "]]", "[%", "%]", "[#") if mark in text]


def test_braces_stay_for_those_who_have_templates_of_their_own() -> None:
    assert "{{ $value | humanizePercentage }}" in render.render("alerts.yml", VALUES)


@pytest.mark.parametrize("path", leaves(VALUES), ids=".".join)
def test_a_missing_value_is_an_error_and_never_an_empty_string(path: tuple[str, ...], tmp_path: Path) -> None:
    values = deepcopy(VALUES)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    if path == ("monitoring", "jobs", "prometheus"):
        assert "job_name: prometheus" not in render.render("prometheus.yml", values)
        return
    with pytest.raises(MlSystemError, match=f"cannot be rendered: .*'{path[-1]}'"):
        render.render_all(render.TEMPLATES, values, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_template_names_those_there_are() -> None:
    with pytest.raises(MlSystemError, match=r"template 'grafana.json' does not exist; there are nginx.conf, patroni.yml"):
        render.render("grafana.json", VALUES)


def test_those_files_are_written_that_are_named(tmp_path: Path) -> None:
    render.render_all(("nginx.conf", "alerts.yml"), VALUES, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"nginx.conf", "alerts.yml"}
    for path in tmp_path.iterdir():
        assert path.read_text(encoding="utf-8") == render.render(path.name, VALUES)


def test_one_unknown_name_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(MlSystemError, match=r"'grafana\.json' does not exist"):
        render.render_all(("nginx.conf", "grafana.json"), VALUES, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_user_is_named_only_where_there_is_one() -> None:
    assert "\nuser " not in render.render("nginx.conf", VALUES)
    assert "\nuser nobody nogroup;" in render.render(
        "nginx.conf", VALUES | {"ingress": VALUES["ingress"] | {"user": "nobody nogroup"}}
    )


def test_values_are_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    path.write_text(json.dumps(VALUES))
    assert render.read_values(path) == VALUES


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("{", "cannot be read"), ("[1]", "hold a list, not an object")]
)
def test_values_that_are_no_object_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "values.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MlSystemError, match=said):
        render.read_values(path)
