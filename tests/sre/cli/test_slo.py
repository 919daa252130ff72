from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sre.slo.history import backfill, served

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]

BEGIN = 1_780_012_800.0
SPENT, AT = BEGIN + 3600, BEGIN + 7200
SLOTH = """
version: prometheus/v1
service: shop
slos:
  - name: answers
    objective: 99.9
    description: Requests get an answer.
    sli:
      events:
        error_query: sum(rate(bad_total[{{.window}}]))
        total_query: sum(rate(all_total[{{.window}}]))
    alerting:
      name: ShopFails
      page_alert: {}
      ticket_alert: {}
"""


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@pytest.fixture(scope="module")
def url(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An hour in which everything is answered, and one in which a fifth fails."""
    folder = tmp_path_factory.mktemp("slo")
    at = np.arange(BEGIN, AT + 1, 15.0)
    total, bad = 300.0 * np.arange(len(at)), 60.0 * np.maximum(0.0, np.arange(len(at)) - (SPENT - BEGIN) / 15)
    series = {
        "all_total": list(zip(at.tolist(), total.tolist(), strict=True)),
        "bad_total": list(zip(at.tolist(), bad.tolist(), strict=True)),
    }
    backfill(programs, folder, series)
    with served(programs, folder) as address:
        yield address


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "shop.yaml"
    path.write_text(SLOTH)
    return str(path)


def asked(url: str, at: float) -> list[str]:
    return ["--prometheus", url, "--at", moment(at)]


@pytest.mark.local
def test_slo_of_the_real_system(on_system: Run, document: Document) -> None:
    done = on_system("slo", "--json", "--window", "30m")
    found = document(done, "sre.slo/1")
    assert found["window"] == "30m"
    assert [row["objective"] for row in found["objectives"]] == ["availability", "latency-p95", "latency-p99", "errors"]
    outcomes = {row["outcome"] for row in found["objectives"]}
    assert done.returncode == (1 if "BROKEN" in outcomes else 3 if "INCONCLUSIVE" in outcomes else 0)
    assert "budget left" in on_system("slo").stdout
    assert on_system("slo", "check").returncode in {0, 1, 3}


def test_a_pipeline_ships_with_budget_and_stops_without(sre: Run, url: str, file: str, document: Document) -> None:
    fine = sre("slo", "check", file, *asked(url, SPENT))
    assert (fine.returncode, fine.stdout.splitlines()[0]) == (0, "SHIP")
    spent = sre("slo", "check", file, *asked(url, AT), "--json")
    found = document(spent, "sre.slo-check/1")
    assert (spent.returncode, found["decision"], found["starts"]) == (1, "FREEZE", False)
    assert found["at"] == "2026-05-29T02:00:00.000Z"
    unknown = sre("slo", "check", file, *asked(url, BEGIN - 3600))
    assert (unknown.returncode, unknown.stdout.splitlines()[0]) == (3, "UNKNOWN")
    assert "nothing counts the events of shop/answers" in unknown.stdout
    gone = sre("slo", "check", file, "--prometheus", "http://127.0.0.1:1")
    assert gone.returncode == 3
    assert "no answer came (All connection attempts failed); see to Prometheus at http://127.0.0.1:1" in gone.stdout


def test_a_report_is_a_table_a_document_and_a_page(sre: Run, url: str, file: str, tmp_path: Path, document: Document) -> None:
    page = tmp_path / "report.html"
    done = sre("slo", "report", file, *asked(url, AT), "--html", str(page))
    assert done.returncode == 1
    assert "shop/answers" in done.stdout
    assert "FREEZE" in done.stdout
    assert "Frozen: only what mends the service ships." in page.read_text()
    found = document(sre("slo", "report", file, *asked(url, AT), "--json"), "sre.slo-report/1")
    (objective,) = found["objectives"]
    assert (objective["budget"]["bad"], objective["budget"]["total"]) == (240 * 60, 480 * 300)
    assert objective["burn"][0]["firing"]


def test_an_override_lets_a_frozen_service_ship(sre: Run, url: str, file: str, document: Document) -> None:
    assert document(sre("slo", "override", "--json"), "sre.slo-overrides/1")["overrides"] == []
    nobody = sre("slo", "override", "shop", "--why", "it mends the outage")
    assert nobody.returncode == 2
    assert "an override needs a who; say it with --who" in nobody.stderr
    long = sre("slo", "override", "shop", "--who", "Ada", "--why", "it mends the outage", "--for", "100h")
    assert "the policy lets one last 72 h at most" in long.stderr
    made = document(sre("slo", "override", "shop", "--who", "Ada", "--why", "it mends", "--json"), "sre.slo-overrides/1")
    (row,) = made["overrides"]
    assert (row["service"], row["who"], row["why"]) == ("shop", "Ada", "it mends")
    # It was made now, and lifts nothing at an instant of the past.
    assert sre("slo", "check", file, *asked(url, AT)).returncode == 1


def test_rules_and_dashboard_are_written(sre: Run, file: str, tmp_path: Path, document: Document) -> None:
    done = sre("slo", "generate", file, "-o", str(tmp_path / "made"), "--runbooks", "https://example.test/runbooks/", "--json")
    found = document(done, "sre.slo-generated/1")
    assert found["files"] == sorted(path.name for path in (tmp_path / "made").iterdir())
    assert "dashboard.json" in found["files"]
    rules = (tmp_path / "made" / "shop-answers.rules.yml").read_text()
    assert "https://example.test/runbooks/error-budget-burn.md" in rules
    assert "promtool test rules" in sre("slo", "generate", file, "-o", str(tmp_path / "made")).stderr


def test_objectives_are_validated_and_shown(sre: Run, file: str, document: Document) -> None:
    assert "page 14.4 over 1h/5m" in sre("slo", "validate", file).stdout
    (found,) = document(sre("slo", "validate", file, "--json"), "sre.slo-objectives/1")["objectives"]
    assert (found["service"], found["target"], len(found["alerts"])) == ("shop", 0.999, 4)
    Path(file).write_text(SLOTH.replace("objective: 99.9", "objective: 101"))
    wrong = sre("slo", "validate", file)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "shop.yaml:6: slos.0.objective" in wrong.stderr


@pytest.mark.parametrize("text", ["yesterday", "2026-01-01", "2026-01-01T12:00:00"])
def test_an_instant_needs_its_zone(sre: Run, file: str, text: str) -> None:
    done = sre("slo", "check", file, "--at", text)
    assert done.returncode == 2
    assert f"time '{text}' is not understood; write it with its zone" in " ".join(done.stderr.split())


def test_the_state_of_this_system_needs_this_system(sre: Run, document: Document) -> None:
    assert document(sre("slo", "--json"), "sre.error/1")["exit_code"] == 4
