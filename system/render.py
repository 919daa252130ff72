"""Configuration files as templates: one per program, rendered for every place where the system runs.

Delimiters are `[[ value ]]` and `[% block %]`, because Prometheus has templates of its own with braces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from system.errors import MlSystemError

OBJECTIVES = tuple(f"ml-api-{name}.rules.yml" for name in ("availability", "errors", "latency-p95", "latency-p99"))
TEMPLATES = {
    "nginx.conf": "ingress/nginx.conf.j2",
    "patroni.yml": "database/patroni.yml.j2",
    "pgbackrest.conf": "database/pgbackrest.conf.j2",
    "prometheus.yml": "monitoring/prometheus.yml.j2",
    "alerts.yml": "monitoring/alerts.yml.j2",
    "alertmanager.yml": "monitoring/alertmanager.yml.j2",
} | {
    # Made of experiments/slo.yaml: `sre slo generate -o system/monitoring/objectives --runbooks '[[ monitoring.runbooks ]]'`.
    name: f"monitoring/objectives/{name}"
    for name in OBJECTIVES
}


def render(name: str, values: dict[str, Any]) -> str:
    """One configuration file.

    Args:
        name: a key of `TEMPLATES`.
        values: everything that the template names; a missing value is an error, never an empty string.

    Raises:
        MlSystemError: the name is unknown or a value is missing; the message says which.
    """
    if name not in TEMPLATES:
        raise MlSystemError(f"template {name!r} does not exist; there are {', '.join(TEMPLATES)}")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - configuration, not HTML
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # `str` of a missing value says which one is missing; JSON alone would only say that it is of no type it knows.
    environment.policies["json.dumps_kwargs"] = {"default": str}
    try:
        return environment.get_template(TEMPLATES[name]).render(values)
    except TemplateError as error:
        raise MlSystemError(f"template {name!r} cannot be rendered: {error}") from error


def render_all(names: Iterable[str], values: dict[str, Any], into: Path) -> None:
    """Write files into a folder; all are rendered before the first is written."""
    rendered = {name: render(name, values) for name in names}
    for name, text in rendered.items():
        (into / name).write_text(text, encoding="utf-8")


def read_values(path: Path) -> dict[str, Any]:
    """Values from a JSON file.

    Raises:
        MlSystemError: it is not a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MlSystemError(f"values {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise MlSystemError(f"values {path} hold a {type(values).__name__}, not an object")
    return values
