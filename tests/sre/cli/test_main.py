"""`sre` as a user meets it: a process, its streams and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sre.cli import main as module
from sre.errors import ExitCode, UndoIncomplete

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
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
def test_an_error_is_a_document_too(sre: Run, arguments: list[str], code: int, kind: str, document: Document) -> None:
    done = sre(*arguments, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    error = document(done, "sre.error/1")
    assert (error["kind"], error["exit_code"]) == (kind, code)


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
