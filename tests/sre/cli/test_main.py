"""`sre` as a user meets it: a process, its streams and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sre.cli import main as module
from sre.errors import ExitCode, UndoIncomplete
from sre.targets.local import processes, state
from sre.targets.local.target import LocalTarget

Run = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = (
    "torch",
    "kubernetes",
    "locust",
    "mlflow",
    "pandas",
    "gevent",
    "matplotlib",
    "scipy",
    "psycopg",
    "cryptography",
    "chaoslib",
)


def document(done: subprocess.CompletedProcess[str], schema: str) -> dict[str, Any]:
    """The one JSON document on stdout."""
    parsed: dict[str, Any] = json.loads(done.stdout)
    assert parsed["schema"] == schema
    return parsed


def test_help_names_every_command_and_exit_code(sre: Run) -> None:
    done = sre("--help")
    assert done.returncode == 0
    for command in ("up", "down", "status", "drill", "gameday", "report", "verify", "undo", "slo", "doctor", "tools"):
        assert f" {command} " in done.stdout
    for code in ExitCode:
        assert f"{code.value} {code.meaning}"[:60] in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["doctor"], ["drill", "--list"]])
def test_what_must_be_quick_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    script = f"""
import sys
sys.argv = ["sre", *{arguments!r}]
from sre.cli.main import main
try:
    main()
except SystemExit:
    pass
print("LOADED", *[name for name in {HEAVY!r} if name in sys.modules])
"""
    environment = {**os.environ, "SRE_HOME": str(tmp_path), "SRE_EVIDENCE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True)
    loaded = done.stdout.splitlines()[-1].split()[1:]
    allowed = {"scipy", "psycopg", "cryptography"} if arguments == ["drill", "--list"] else set()
    assert set(loaded) <= allowed


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fly"], 2, "No such command 'fly'"),
        (["drill", "meteor"], 2, "drill 'meteor' does not exist; there are training, peak-load"),
        (["drill", "peak-load", "--duration", "10"], 2, "duration '10' is not understood"),
        (["drill", "peak-load", "--rate", "0"], 2, "--rate"),
        (["drill"], 5, "no drill is named; `sre drill --list` shows them"),
        (["slo", "--window", "0h"], 2, "window '0h' is not understood"),
        (["slo"], 4, "no system runs in"),
        (["status"], 4, "no system runs in"),
        (["drill", "pod-recovery"], 4, "no system runs in"),
        (["report"], 5, "there is no run in"),
        (["report", "20260101T000000Z-x"], 2, "does not exist"),
        (["verify"], 5, "there is no run in"),
        (["undo", "--run", "20260101T000000Z-x"], 2, "does not exist"),
        (["up", "--replicas", "0"], 2, "--replicas"),
    ],
)
def test_what_cannot_be_done_says_why_on_stderr_with_its_code(sre: Run, arguments: list[str], code: int, said: str) -> None:
    done = sre(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "code", "kind"), [
    (["status"], 4, "TargetUnavailable"), (["drill"], 5, "NothingSelected"), (["drill", "x"], 2, "UsageError"),
    (["report"], 5, "NothingSelected"),
])  # fmt: skip
def test_an_error_is_a_document_too(sre: Run, arguments: list[str], code: int, kind: str) -> None:
    done = sre(*arguments, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    error = document(done, "sre.error/1")
    assert (error["kind"], error["exit_code"]) == (kind, code)


def test_undo_and_down_with_nothing_to_do_are_content(sre: Run) -> None:
    done = sre("undo")
    assert (done.returncode, done.stdout) == (0, "nothing is left to undo\n")
    assert document(sre("undo", "--json"), "sre.undo/1")["undone"] == {}
    done = sre("down", "--purge")
    assert (done.returncode, done.stdout) == (0, "")
    assert "runs any more; its data are deleted" in done.stderr
    assert document(sre("down", "--json"), "sre.down/1")["ended_by_force"] == []


def test_the_list_of_drills_names_promises_and_last_verdicts(sre: Run) -> None:
    done = sre("drill", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    rows = document(sre("drill", "--list", "--json"), "sre.drills/1")["drills"]
    assert {row["drill"] for row in rows} == {"training", "peak-load", "pod-recovery", "alerting", "backup-restore"}
    assert {row["last"] for row in rows} == {"never"}
    assert {"drill": "pod-recovery", "promise": "pod-recovery", "bound": "< 30 s", "last": "never", "run": ""} in rows
    assert all(row["promise"] in done.stdout for row in rows)


def test_doctor_shows_what_is_missing_and_the_remedy(sre: Run, tmp_path: Path, programs: Path) -> None:
    whole = sre("doctor", "--json", SRE_TOOLS=str(programs))
    assert whole.returncode == 0
    found = document(whole, "sre.doctor/1")
    assert found["whole"] is True
    assert all(row["version"] and row["source"] and not row["remedy"] for row in found["programs"])
    if any(row["source"] == ".tools" for row in found["programs"]):
        lacking = sre("doctor", "--json", SRE_TOOLS=str(tmp_path / "none"))
        assert lacking.returncode == 4
        missing = [row for row in document(lacking, "sre.doctor/1")["programs"] if row["source"] == "missing"]
        assert all("run `sre tools install`" in row["remedy"] for row in missing)
        assert "missing" in sre("doctor", SRE_TOOLS=str(tmp_path / "none")).stdout


def test_tools_that_are_there_are_not_fetched(sre: Run, programs: Path) -> None:
    done = sre("tools", "install", "--json", SRE_TOOLS=str(programs))
    assert done.returncode == 0
    assert "every program is there" in done.stderr
    assert document(done, "sre.tools/1")["folder"] == str(programs)


def test_a_wrong_setting_is_a_usage_error(sre: Run) -> None:
    done = sre("status", SRE_REPLICAS="many")
    assert done.returncode == 2
    assert "SRE_REPLICAS is 'many': Input should be a valid integer" in done.stderr
    assert "Traceback" not in done.stderr


def test_colour_is_for_those_who_want_it(sre: Run) -> None:
    assert "\x1b[" in sre("drill", "--list", FORCE_COLOR="1").stdout
    for environment in ({}, {"NO_COLOR": "1"}):
        done = sre("drill", "--list", **environment)
        assert "\x1b[" not in done.stdout + done.stderr
        assert "\x1b[" not in sre("slo", **environment).stderr


@pytest.mark.parametrize(
    ("raised", "code"), [(UndoIncomplete("x is changed"), 6), (KeyboardInterrupt(), 130), (SystemExit(3), 3), (None, 0)]
)
def test_main_ends_with_the_code_of_what_happened(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException | None, code: int
) -> None:
    def app() -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(module, "app", app)
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == code


@pytest.mark.local
def test_status_of_the_real_system(on_system: Run, system: LocalTarget) -> None:
    done = on_system("status")
    assert done.returncode == 0
    assert "serving-2" in done.stdout
    found = document(on_system("status", "--json"), "sre.status/1")
    assert found["state"] == "ready"
    assert {row["state"] for row in found["services"].values()} == {"ready", "done"}
    assert {"serving-1", "postgres", "ingress", "mlflow", "prometheus"} <= set(found["services"])


@pytest.mark.local
def test_slo_of_the_real_system(on_system: Run) -> None:
    done = on_system("slo", "--json", "--window", "30m")
    found = document(done, "sre.slo/1")
    assert found["window"] == "30m"
    assert [row["objective"] for row in found["objectives"]] == ["availability", "latency-p95", "replicas"]
    outcomes = {row["outcome"] for row in found["objectives"]}
    assert done.returncode == (1 if "BROKEN" in outcomes else 3 if "INCONCLUSIVE" in outcomes else 0)
    assert "budget left" in on_system("slo").stdout


@pytest.mark.local
def test_a_second_up_joins_the_real_system(on_system: Run, system: LocalTarget) -> None:
    before = state.read(system.layout.home)
    done = on_system("up", "--json", "--replicas", "7")
    found = document(done, "sre.up/1")
    assert (done.returncode, found["begun"], found["ingress"]) == (0, False, system.endpoints.ingress)
    after = state.read(system.layout.home)
    assert before is not None
    assert after is not None
    assert (after.supervisor, after.replicas) == (before.supervisor, before.replicas)
    key = system.endpoints.api_key_file.read_text().strip()
    assert key not in done.stdout + done.stderr + on_system("up").stdout


@pytest.mark.local
def test_ctrl_c_ends_what_up_has_begun(programs: Path, open_folder: Path) -> None:
    home = open_folder / "home"
    environment = {**os.environ, "SRE_HOME": str(home), "SRE_TOOLS": str(programs)}
    command = [sys.executable, "-c", "from sre.cli.main import main; main()", "up"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as one:
        assert one.stderr is not None
        for line in one.stderr:
            if "postgres: ready" in line:
                one.send_signal(2)
                break
        rest = one.stderr.read()
        assert one.wait(60) == 130, rest
    assert not processes.of_system(home)
    assert state.read(home) is None
