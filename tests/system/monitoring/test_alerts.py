"""The alert rules under promtool, on series made by hand: each fires, does not fire just below, and never on nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from yaml import safe_load

from sre.config import PROJECT
from sre.targets.local.programs import find
from system import render

RUNBOOKS = (PROJECT / "runbooks").as_uri()
VALUES: dict[str, Any] = {
    "serving": [{"name": f"serving-{number}", "address": f"127.0.0.1:900{number}"} for number in (1, 2, 3)],
    "monitoring": {
        "scrape_interval_s": 2, "scrape_timeout_s": 2, "alertmanager": "127.0.0.1:9093", "least_replicas": 3,
        "runbooks": RUNBOOKS, "jobs": {"prometheus": "127.0.0.1:9090", "node-exporter": "127.0.0.1:9100"},
    },
}  # fmt: skip
LABELS = 'job="serving",path="/predict"'
REQUESTS, BUCKET = f"http_requests_total{{{LABELS},status=", f"http_request_duration_seconds_bucket{{{LABELS},le="
AVAILABLE, SIZE = "node_filesystem_avail_bytes", "node_filesystem_size_bytes"
ROOT = 'mountpoint="/",fstype="ext4"'
ALERTS = ("HighErrorRate", "HighLatency", "LowReplicaCount", "DiskSpaceLow")
Check = Callable[..., None]


def up(*counts: str) -> dict[str, str]:
    return {f'up{{job="serving",replica="serving-{number}"}}': values for number, values in enumerate(counts, 1)}


def errors(good: float, bad: float) -> dict[str, str]:
    counts = {f'{REQUESTS}"200"}}': f"0+{good}x120", f'{REQUESTS}"500"}}': f"0+{bad}x120"}
    return counts | {f'http_request_errors_total{{{LABELS},status="500"}}': f"0+{bad}x120"}


def buckets(quick: float, all_: float) -> dict[str, str]:
    return {f'{BUCKET}"0.5"}}': f"0+{quick}x120", f'{BUCKET}"1.0"}}': f"0+{all_}x120", f'{BUCKET}"+Inf"}}': f"0+{all_}x120"}


def disk(left: float, fstype: str = "ext4") -> dict[str, str]:
    labels = f'{{mountpoint="/",fstype="{fstype}"}}'
    return {f"{AVAILABLE}{labels}": f"{left}x120", f"{SIZE}{labels}": "100x120"}


@pytest.fixture
def promtool(programs: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    found = find("promtool", programs)
    for name in ("alerts.yml", "prometheus.yml"):
        (tmp_path / name).write_text(render.render(name, VALUES))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(found.path), *arguments], cwd=tmp_path, env={**os.environ, **found.environment}, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def firing(promtool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> Check:
    """Asserts which alerts fire at some moment (all others stay silent), with what they say."""

    def check(series: dict[str, str], at: str, expected: dict[str, tuple[str, dict[str, str]]]) -> None:
        rules = []
        for name in ALERTS:
            alert = []
            if name in expected:
                summary, labels = expected[name]
                severity = "ticket" if name == "DiskSpaceLow" else "page"
                page = {"HighErrorRate": "high-error-rate", "HighLatency": "high-latency",
                        "LowReplicaCount": "low-replica-count", "DiskSpaceLow": "disk-space-low"}[name]  # fmt: skip
                alert = [{
                    "exp_labels": {"severity": severity, **labels},
                    "exp_annotations": {"summary": summary, "runbook_url": f"{RUNBOOKS}/{page}.md"},
                }]  # fmt: skip
            rules.append({"eval_time": at, "alertname": name, "exp_alerts": alert})
        test = {
            "rule_files": ["alerts.yml"], "evaluation_interval": "2s",
            "tests": [{
                "interval": "5s", "alert_rule_test": rules,
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
            }],
        }  # fmt: skip
        (tmp_path / "test.yml").write_text(json.dumps(test))
        done = promtool("test", "rules", "test.yml")
        assert done.returncode == 0, done.stdout + done.stderr

    return check


WHOLE = up("1x120", "1x120", "1x120")
QUIET = {**WHOLE, **errors(100, 0), **buckets(100, 100), **disk(50)}


@pytest.mark.parametrize(
    ("series", "at", "expected"),
    [
        pytest.param(QUIET, "9m", {}, id="all is well"),
        pytest.param(
            QUIET | errors(98, 2), "2m", {"HighErrorRate": ("more than 1 % of predictions fail (2%)", {})}, id="2 % fail"
        ),
        pytest.param(QUIET | errors(991, 9), "9m", {}, id="0.9 % fail"),
        pytest.param(QUIET | errors(98, 2), "20s", {}, id="2 % fail, not for long"),
        pytest.param(QUIET | errors(0, 0), "9m", {}, id="nobody asks"),
        pytest.param(QUIET | {f'{REQUESTS}"404"}}': "0+50x120"}, "9m", {}, id="users ask wrongly"),
        pytest.param(
            QUIET | buckets(94.95, 100), "2m", {"HighLatency": ("the slowest 5 % of predictions take 505ms and more", {})},
            id="5.05 % are slow",
        ),
        pytest.param(QUIET | buckets(95.5, 100), "9m", {}, id="4.5 % are slow"),
        pytest.param(QUIET | buckets(90, 100), "20s", {}, id="slow, not for long"),
        pytest.param(QUIET | buckets(0, 0), "9m", {}, id="nobody asks, no latency"),
        pytest.param(
            QUIET | up("1x120", "1x120", "0x120"), "1m",
            {"LowReplicaCount": ("only 2 of at least 3 replicas answer", {})}, id="two replicas",
        ),
        pytest.param(
            QUIET | up("0x120", "0x120", "0x120"), "1m",
            {"LowReplicaCount": ("only 0 of at least 3 replicas answer", {})}, id="no replica answers",
        ),
        pytest.param(
            {**disk(50)}, "1m", {"LowReplicaCount": ("only 0 of at least 3 replicas answer", {})}, id="no replica is known",
        ),
        pytest.param(QUIET | up("1x120", "1x120", "1x9 0 1x109"), "1m", {}, id="one scrape is missed"),
        pytest.param(QUIET | disk(9.9), "6m", {"DiskSpaceLow": ("/ has 9.9% left", {"mountpoint": "/"})}, id="9.9 % left"),
        pytest.param(QUIET | disk(9.9), "4m", {}, id="9.9 % left, not for long"),
        pytest.param(QUIET | disk(10), "9m", {}, id="10 % left"),
        pytest.param(QUIET | disk(1, "tmpfs"), "9m", {}, id="a disk in memory is full"),
    ],
)  # fmt: skip
def test_alerts_fire_when_they_should_and_only_then(
    firing: Check, series: dict[str, str], at: str, expected: dict[str, tuple[str, dict[str, str]]]
) -> None:
    firing(series, at, expected)


def test_a_wrong_expectation_is_noticed(firing: Check) -> None:
    with pytest.raises(AssertionError, match="HighErrorRate"):
        firing(QUIET, "9m", {"HighErrorRate": ("more than 1 % of predictions fail (2%)", {})})


def test_promtool_takes_rules_and_configuration(
    promtool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    rules = promtool("check", "rules", "alerts.yml")
    assert rules.returncode == 0, rules.stderr
    assert "4 rules found" in rules.stdout
    config = promtool("check", "config", "prometheus.yml")
    assert config.returncode == 0, config.stderr
    (tmp_path / "alerts.yml").write_text((tmp_path / "alerts.yml").read_text().replace("sum(", "summ("))
    assert promtool("check", "rules", "alerts.yml").returncode != 0


def test_every_alert_leads_to_a_runbook_that_exists() -> None:
    groups = safe_load(render.render("alerts.yml", VALUES))["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    assert set(rules) == set(ALERTS)
    for name, rule in rules.items():
        page = rule["annotations"]["runbook_url"].removeprefix(f"{RUNBOOKS}/")
        assert page.removesuffix(".md").replace("-", "") == name.lower()
        assert (PROJECT / "runbooks" / page).is_file(), page


def test_every_replica_and_every_job_is_scraped() -> None:
    scrapes = {
        item["job_name"]: item["static_configs"] for item in safe_load(render.render("prometheus.yml", VALUES))["scrape_configs"]
    }
    assert set(scrapes) == {"serving", "prometheus", "node-exporter"}
    assert [(item["targets"], item["labels"]["replica"]) for item in scrapes["serving"]] == [
        ([replica["address"]], replica["name"]) for replica in VALUES["serving"]
    ]


def test_alertmanager_takes_its_configuration(programs: Path, tmp_path: Path) -> None:
    text = render.render("alertmanager.yml", VALUES)
    routes = safe_load(text)
    assert routes["route"]["receiver"] in {receiver["name"] for receiver in routes["receivers"]}
