"""docs/serving.md knows every setting, metric and code that there is, and none that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus

import pytest

from sre.config import PROJECT
from system.config import ServeSettings
from system.errors import MlSystemError, RequestRefused, Unavailable
from system.serving.protocol import MalformedRequest
from system.telemetry import REGISTRY, PodUsage

DOCUMENT = (PROJECT / "docs" / "serving.md").read_text(encoding="utf-8")
INGRESS = (PROJECT / "system" / "ingress" / "nginx.conf.j2").read_text(encoding="utf-8")
SETTINGS, METRICS, CODES = "setting | default | meaning", "metric | kind | labels | meaning", "code | status | again | what to do"
Row = tuple[str, ...]


def table(head: str, document: str = DOCUMENT) -> list[Row]:
    """The cells below the table's heading."""
    lines = document.partition(f"| {head} |\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [tuple(cell.strip() for cell in line[1:-1].split("|")) for line in lines]


def kinds(base: type[MlSystemError]) -> Iterator[type[MlSystemError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def settings() -> Iterator[Row]:
    """Name, default, and what it means where the setting says so itself."""
    for name, field in ServeSettings.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default}`" if field.default != "" else "empty"
        yield f"`ML_{name.upper()}`", default, field.description or ""


def metrics() -> Iterator[Row]:
    """Name, kind, meaning."""
    for family in {found.name: found for collector in (REGISTRY, PodUsage()) for found in collector.collect()}.values():
        yield f"`{family.name}{'_total' if family.type == 'counter' else ''}`", family.type, family.documentation


def codes() -> dict[str, str]:
    """Every code of the service and of the ingress, with its status."""
    ours: list[type[MlSystemError]] = [MlSystemError, *kinds(RequestRefused), *kinds(Unavailable)]
    assert MalformedRequest in ours  # codes are not all defined in errors.py
    framework = {status.phrase.lower().replace(" ", "-"): str(status.value) for status in (HTTPStatus(404), HTTPStatus(405))}
    ingress = {code: status for status, code in re.findall(r'\((\d{3}), "[^"]+", "([a-z-]+)", (?:true|false)\)', INGRESS)}
    assert ingress["replica-timeout"] == "504"
    return framework | ingress | {kind.code: str(kind.status) for kind in ours}


def missing(expected: Iterable[Row], found: Iterable[Row]) -> list[str]:
    """Rows that are not in the table as they must be: an empty last cell stands for any words."""
    known = {row[0]: row for row in found}
    return [
        f"| {' | '.join(row)} |"
        for row in expected
        if (there := known.get(row[0])) is None or there[1] != row[1] or (there[-1] != row[-1] if row[-1] else not there[-1])
    ]


def test_every_setting_has_its_row() -> None:
    rows = table(SETTINGS)
    assert not missing(settings(), rows)
    assert [row[0] for row in rows] == [row[0] for row in settings()]


def test_every_metric_has_its_row() -> None:
    rows = table(METRICS)
    assert not missing(metrics(), rows)
    assert {row[0] for row in rows} == {row[0] for row in metrics()}


def test_every_code_has_its_row_and_its_status() -> None:
    assert {row[0].strip("`"): row[1] for row in table(CODES)} == codes()


@pytest.mark.parametrize("expected", [SETTINGS, METRICS], ids=["settings", "metrics"])
def test_sabotage_a_row_that_is_gone_or_outdated_is_seen(expected: str) -> None:
    rows, wanted = table(expected), list(settings() if expected == SETTINGS else metrics())
    assert len(missing(wanted, rows[1:])) == 1
    assert len(missing(wanted, [(rows[0][0], "another", *rows[0][2:]), *rows[1:]])) == 1
    assert len(missing(wanted, [(*rows[0][:-1], ""), *rows[1:]])) == 1
    assert missing(wanted, table(expected, "no table at all"))


def test_queries_and_commands_name_only_what_there_is() -> None:
    queries = "".join(re.findall(r"^```promql\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"\b(?:model|http|shadow|trace|pod)_[a-z_]+", queries))
    known = {name.strip("`") for name, *_ in metrics()}
    assert named
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= known
    assert set(re.findall(r"ML_[A-Z_]+", DOCUMENT)) <= {name.strip("`") for name, *_ in settings()}
