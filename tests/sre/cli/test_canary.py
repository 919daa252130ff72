from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sre.canary import record as records
from sre.canary.plan import load
from sre.cli import canary
from sre.drills import session
from sre.errors import EvidenceDamaged, ExitCode, UsageError
from sre.targets.kubernetes.place import Place
from tests.sre.canary.rolling import Stage, staged

Invoke = Callable[..., Result]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Commands find the memory target where they look for the running system."""
    with staged(tmp_path) as made:
        world = SimpleNamespace(endpoints=SimpleNamespace(prometheus=made.prometheus.url))  # its Prometheus is beside it
        made.target.clock.sleep(700.0)  # traffic to foresee by
        monkeypatch.setattr(session, "running", lambda *_: nullcontext((made.target, world)))
        yield made


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    environment = {
        "SRE_HOME": str(tmp_path / "home"), "SRE_EVIDENCE": str(tmp_path / "evidence"), "COLUMNS": "200",
        "SRE_SIGNING_KEY": str(tmp_path / "key.pem"),
    }  # fmt: skip
    return lambda *arguments: CliRunner(env=environment).invoke(canary.app, arguments)


def the_run(stage: Stage) -> str:
    (folder,) = stage.place.root.iterdir()
    return folder.name


def test_a_rollout_is_promoted_and_replayed(stage: Stage, invoke: Invoke) -> None:
    done = invoke("run", "2", "--plan", str(stage.plan_file))
    assert done.exit_code == ExitCode.KEPT, done.output
    assert "KEPT" in done.stdout
    assert "PROMOTE" in done.stderr
    again = invoke("replay", the_run(stage), "--json")
    assert again.exit_code == ExitCode.KEPT, again.output
    assert json.loads(again.stdout)["holds"] is True
    assert "byte for byte" in invoke("replay", the_run(stage)).stdout
    (folder,) = stage.place.root.iterdir()
    (folder / "report.html").write_text("another")
    assert invoke("replay", the_run(stage), "--json").exit_code == ExitCode.CANNOT_RUN
    broken = invoke("replay", the_run(stage))
    assert isinstance(broken.exception, EvidenceDamaged)
    assert "report.html was altered" in str(broken.exception)


def test_a_rollout_is_rolled_back(stage: Stage, invoke: Invoke) -> None:
    stage.prometheus.service.failing["canary"] = 0.3
    done = invoke("run", "2", "--plan", str(stage.plan_file), "--json")
    assert done.exit_code == ExitCode.BROKEN
    document = json.loads(done.stdout)
    assert (document["outcome"], document["drills"][0]["name"]) == ("broken", records.CANARY)
    assert stage.untouched


def test_a_rollout_is_shown_on_a_page(stage: Stage, invoke: Invoke) -> None:
    done = invoke("run", "2", "--plan", str(stage.plan_file), "--page", "0")
    assert done.exit_code == ExitCode.KEPT
    assert "http://127.0.0.1:" in done.stderr
    assert "token=" not in (stage.place.root / the_run(stage) / "journal.jsonl").read_text()


def test_what_is_over_asks_nothing_and_cannot_go_on(stage: Stage, invoke: Invoke) -> None:
    assert invoke("run", "2", "--plan", str(stage.plan_file)).exit_code == ExitCode.KEPT
    for command in ("approve", "reject"):
        refused = invoke(command, the_run(stage))
        assert isinstance(refused.exception, UsageError)
        assert "asks nothing just now" in str(refused.exception)
    for arguments in (("run", "--resume", the_run(stage)), ("abort", the_run(stage))):
        assert "is over" in str(invoke(*arguments).exception)


def test_an_approval_is_given_for_the_stage_that_is_meant(stage: Stage, invoke: Invoke) -> None:
    stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
    seen: list[Any] = []

    def approve(_: object) -> None:
        run = the_run(stage)
        if not seen and records.read(stage.place.root / run).question():
            seen.append(invoke("approve", run, "--stage", "10%"))
            seen.append(invoke("approve", run, "--stage", "50%"))
            seen.append(invoke("approve", run, "--stage", "50%"))

    stage.view.each = approve
    assert stage.begin().record.exit_code == ExitCode.KEPT
    wrong, right, twice = seen
    assert "asks about the stage of 50.0000%, not of 10.0000%" in str(wrong.exception)
    assert right.exit_code == 0, right.output
    assert "answered before" in str(twice.exception)


def test_the_version_or_the_run_is_named(invoke: Invoke) -> None:
    for arguments in ((), ("2", "--resume", "x")):
        assert isinstance(invoke("run", *arguments).exception, UsageError)


def test_a_cluster_that_looks_like_production_wants_its_name_typed(stage: Stage, invoke: Invoke, tmp_path: Path) -> None:
    Place(tmp_path / "home", "kubeconfig", "eu-Prod-1", "prod").write()
    on_cluster = ("2", "--plan", str(stage.plan_file), "--target", "kubernetes")
    for arguments in (("run", *on_cluster), ("abort", "a-run", "--target", "kubernetes")):
        refused = invoke(*arguments)
        assert isinstance(refused.exception, UsageError)
        assert "add --yes-i-mean eu-Prod-1" in str(refused.exception)
    assert stage.untouched
    assert invoke("run", *on_cluster, "--yes-i-mean", "eu-Prod-1").exit_code == ExitCode.KEPT


def test_a_live_table_needs_a_terminal(stage: Stage, invoke: Invoke) -> None:
    refused = invoke("run", "2", "--watch", "--plan", str(stage.plan_file))
    assert "needs a terminal" in str(refused.exception)


def test_a_decision_for_pipelines(stage: Stage, invoke: Invoke) -> None:
    stage.target.router.begin("2")
    stage.prometheus.service.failing["canary"] = 0.3
    stage.target.router.shift(0.1, 0.1)
    stage.target.clock.sleep(60.0)
    stage.source(load(stage.plan_file)).look(stage.target.clock.wall() - 60.0, 0)
    at = "2026-01-01T12:12:40Z"
    # The simulated Prometheus lives in another time than this command, and a gate does not pass over that.
    done = invoke(
        "judge", "--plan", str(stage.plan_file), "--prometheus", stage.prometheus.url, "--at", at, "--since", "30s", "--json"
    )
    assert done.exit_code == ExitCode.INCONCLUSIVE
    document = json.loads(done.stdout)
    assert document["action"] == "HOLD"
    assert any("clock" in reason for reason in document["reasons"])
    text = invoke(
        "judge",
        "--plan",
        str(stage.plan_file),
        "--prometheus",
        stage.prometheus.url,
        "--at",
        at,
        "--since",
        "30s",
        "--stage",
        "50%",
    )
    assert text.exit_code == ExitCode.INCONCLUSIVE
    assert text.stdout.startswith("HOLD")
    assert isinstance(invoke("judge", "--at", "noon", "--prometheus", stage.prometheus.url).exception, UsageError)
    assert "no stage of 20" in str(invoke("judge", "--stage", "20%", "--prometheus", stage.prometheus.url).exception)


def test_a_plan_at_an_unknown_traffic_is_told(stage: Stage, invoke: Invoke) -> None:
    refused = invoke("plan", "--plan", str(stage.plan_file), "--prometheus", stage.prometheus.url)
    assert "today's traffic is not known" in str(refused.exception)


def test_help_teaches(sre: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    shown = sre("canary", "--help").stdout
    for word in ("plan", "judge", "run", "approve", "reject", "abort", "replay", "rolled back"):
        assert word in shown
    assert "SRE_SLACK_TOKEN_FILE" in sre("canary", "run", "--help").stdout
