"""The alert rules under promtool, on series made by hand: each fires, does not fire just below, and never on nothing."""

from __future__ import annotations

import json
import os
import re
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
        "authority": "ca.pem", "arms": "run/arms",
        "members": [{"name": f"postgres-{number}", "address": f"127.0.0.1:800{number}"} for number in (1, 2, 3)],
    },
}  # fmt: skip
LABELS = 'job="serving",path="/predict"'
REQUESTS, BUCKET = f"http_requests_total{{{LABELS},status=", f"http_request_duration_seconds_bucket{{{LABELS},le="
AVAILABLE, SIZE = "node_filesystem_avail_bytes", "node_filesystem_size_bytes"
ROOT = 'mountpoint="/",fstype="ext4"'
ALERTS = {
    "HighErrorRate": "page", "HighLatency": "page", "LowReplicaCount": "page", "DiskSpaceLow": "ticket",
    "DatabaseNoPrimary": "page", "DatabaseMemberLost": "ticket", "WalNotArchived": "page",
}  # fmt: skip
Check = Callable[..., None]


def up(*counts: str) -> dict[str, str]:
    return {f'up{{job="serving",replica="serving-{number}",track="stable"}}': values for number, values in enumerate(counts, 1)}


def errors(good: float, bad: float) -> dict[str, str]:
    counts = {f'{REQUESTS}"200"}}': f"0+{good}x120", f'{REQUESTS}"500"}}': f"0+{bad}x120"}
    return counts | {f'http_request_errors_total{{{LABELS},status="500"}}': f"0+{bad}x120"}


def buckets(quick: float, all_: float) -> dict[str, str]:
    return {f'{BUCKET}"0.5"}}': f"0+{quick}x120", f'{BUCKET}"1.0"}}': f"0+{all_}x120", f'{BUCKET}"+Inf"}}': f"0+{all_}x120"}


def disk(left: float, fstype: str = "ext4") -> dict[str, str]:
    labels = f'{{mountpoint="/",fstype="{fstype}"}}'
    return {f"{AVAILABLE}{labels}": f"{left}x120", f"{SIZE}{labels}": "100x120"}


def members(name: str, *counts: str) -> dict[str, str]:
    return {f'{name}{{job="database",member="postgres-{number}"}}': values for number, values in enumerate(counts, 1)}


def primary(*counts: str) -> dict[str, str]:
    return members("patroni_primary", *counts)


def running(*counts: str) -> dict[str, str]:
    return members("patroni_postgres_running", *counts)


def refused(values: str) -> dict[str, str]:
    return {'pg_stat_archiver_failed_count{job="postgres-exporter",server="postgres-1"}': values}


@pytest.fixture
def promtool(programs: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    found = find("promtool", programs)
    for name in ("alerts.yml", "prometheus.yml"):
        (tmp_path / name).write_text(render.render(name, VALUES))
    # promtool asks that the file is there, not what it says.
    (tmp_path / "ca.pem").touch()

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
        for name, severity in ALERTS.items():
            alert = []
            if name in expected:
                summary, labels = expected[name]
                page = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
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
DATABASE = {**primary("1x120", "0x120", "0x120"), **running("1x120", "1x120", "1x120"), **refused("3x120")}
QUIET = {**WHOLE, **DATABASE, **errors(100, 0), **buckets(100, 100), **disk(50)}


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
            QUIET | up("1x120", "1x120", "0x120") | {'up{job="serving",replica="canary-1",track="canary"}': "1x120"}, "1m",
            {"LowReplicaCount": ("only 2 of at least 3 replicas answer", {})}, id="a canary is no replica in production",
        ),
        pytest.param(
            QUIET | {'up{job="serving",replica="canary-1",track="canary"}': "0x120"}, "9m", {}, id="a canary that is down"
        ),
        pytest.param(
            QUIET | up("0x120", "0x120", "0x120"), "1m",
            {"LowReplicaCount": ("only 0 of at least 3 replicas answer", {})}, id="no replica answers",
        ),
        pytest.param(
            {**DATABASE, **disk(50)}, "1m",
            {"LowReplicaCount": ("only 0 of at least 3 replicas answer", {})}, id="no replica is known",
        ),
        pytest.param(QUIET | up("1x120", "1x120", "1x9 0 1x109"), "1m", {}, id="one scrape is missed"),
        pytest.param(QUIET | disk(9.9), "6m", {"DiskSpaceLow": ("/ has 9.9% left", {"mountpoint": "/"})}, id="9.9 % left"),
        pytest.param(QUIET | disk(9.9), "4m", {}, id="9.9 % left, not for long"),
        pytest.param(QUIET | disk(10), "9m", {}, id="10 % left"),
        pytest.param(QUIET | disk(1, "tmpfs"), "9m", {}, id="a disk in memory is full"),
        pytest.param(
            QUIET | primary("1x10 0x109", "0x120", "0x120"), "75s",
            {"DatabaseNoPrimary": ("the database cluster has 0 primaries", {})}, id="nobody takes over",
        ),
        pytest.param(QUIET | primary("1x10 0x109", "0x12 1x107", "0x120"), "64s", {}, id="a failover takes 10 s"),
        pytest.param(QUIET | primary("1x10 0x109", "0x12 1x107", "0x120"), "9m", {}, id="another primary"),
        pytest.param(
            QUIET | primary("1x120", "1x120", "0x120"), "1m",
            {"DatabaseNoPrimary": ("the database cluster has 2 primaries", {})}, id="two primaries",
        ),
        pytest.param(
            {**WHOLE, **refused("3x120")}, "2m",
            {
                "DatabaseNoPrimary": ("the database cluster has 0 primaries", {}),
                "DatabaseMemberLost": ("only 0 of 3 database servers run", {}),
            }, id="no member is known",
        ),
        pytest.param(
            QUIET | running("1x120", "1x120", "0x120"), "2m",
            {"DatabaseMemberLost": ("only 2 of 3 database servers run", {})}, id="a member is lost",
        ),
        pytest.param(QUIET | running("1x120", "1x120", "0x120"), "50s", {}, id="a member is lost, not for long"),
        pytest.param(
            QUIET | refused("3+1x120"), "4m",
            {"WalNotArchived": ("WAL is not archived; what is written now is lost with the machine", {})},
            id="the repository refuses WAL",
        ),
        pytest.param(QUIET | refused("3+1x120"), "1m", {}, id="the repository refuses WAL, not for long"),
        pytest.param(QUIET | refused("3+1x10 13x109"), "9m", {}, id="the repository refused WAL once"),
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
    assert f"{len(ALERTS)} rules found" in rules.stdout
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


def test_every_replica_every_member_and_every_job_is_scraped() -> None:
    scrapes = {item["job_name"]: item for item in safe_load(render.render("prometheus.yml", VALUES))["scrape_configs"]}
    assert set(scrapes) == {"serving", "database", "prometheus", "node-exporter"}
    targets = {
        job: [(group["targets"], group["labels"]) for group in scrapes[job]["static_configs"]] for job in ("serving", "database")
    }
    assert targets["serving"] == [
        ([replica["address"]], {"replica": replica["name"], "track": "stable"}) for replica in VALUES["serving"]
    ]
    assert scrapes["serving"]["file_sd_configs"] == [{"files": ["run/arms/*.json"]}]
    assert targets["database"] == [
        ([member["address"]], {"member": member["name"]}) for member in VALUES["monitoring"]["members"]
    ]
    assert (scrapes["database"]["scheme"], scrapes["database"]["tls_config"]) == ("https", {"ca_file": "ca.pem"})


def test_alertmanager_takes_its_configuration(programs: Path, tmp_path: Path) -> None:
    text = render.render("alertmanager.yml", VALUES)
    routes = safe_load(text)
    assert routes["route"]["receiver"] in {receiver["name"] for receiver in routes["receivers"]}
