from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.config import PROJECT
from sre.errors import ExitCode
from sre.promises import PROMISES
from tests.conftest import MEASURED

README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SET_UP = [block for block in BLOCKS if block.startswith("python3 -m venv")]
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.startswith("sre ")]
PREDICTION = next(block for block in BLOCKS if "/predict" in block)


@pytest.fixture(scope="module")
def surroundings(programs: Path, open_module_folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a newcomer: a home of their own, the commands on PATH, and no coverage that slows what is drilled."""
    folder = open_module_folder
    own = {"SRE_HOME": str(folder / ".sre"), "SRE_EVIDENCE": str(folder / "evidence"), "SRE_TOOLS": str(programs)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(MEASURED)}
    environment = {**kept, **own, "PATH": path, "NO_COLOR": "1"}
    yield environment
    subprocess.run(["sre", "down", "--purge"], env=environment, check=True, capture_output=True, timeout=120)


def run(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    folder = Path(environment["SRE_HOME"]).parent
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], env=environment, cwd=folder, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip


def test_ci_runs_the_line_of_the_readme() -> None:
    line = next(block.strip() for block in SET_UP if block.strip().endswith("-s tests"))
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"sed -n '(.*)' README.md", script)
    assert pattern
    found = subprocess.run(["sed", "-n", pattern[1], "README.md"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == line


def test_the_set_up_lines_name_sessions_that_exist() -> None:
    assert len(SET_UP) == 2
    sessions = (PROJECT / "noxfile.py").read_text(encoding="utf-8")
    for block in SET_UP:
        name = block.split("-s ")[1].strip()
        assert f"def {name}(" in sessions
        assert (PROJECT / block.split("-r ")[1].split()[0]).is_file()


@pytest.mark.local
@pytest.mark.timeout(1200)
def test_the_commands_run_in_the_order_of_the_readme(surroundings: dict[str, str]) -> None:
    # A verdict may be inconclusive on a busy machine; broken or impossible it may not be.
    good = {ExitCode.KEPT, ExitCode.INCONCLUSIVE}
    for command in COMMANDS:
        if command.startswith(("sre down", "sre up --json")):
            continue
        done = run(command, surroundings)
        assert done.returncode in good, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    folder = Path(surroundings["SRE_HOME"]).parent
    if shutil.which("jq") is None or shutil.which("curl") is None:
        pytest.skip("the example of a prediction needs curl and jq")
    answer = run(PREDICTION, surroundings)
    assert answer.returncode == 0, answer.stderr
    assert '"probabilities"' in answer.stdout
    assert (folder / "up.json").is_file()
    assert run("sre down", surroundings).returncode == ExitCode.KEPT


def test_the_exit_codes_are_those_of_the_enum() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE))
    assert rows == {str(code.value): code.meaning for code in ExitCode}


def test_every_promise_stands_in_the_table() -> None:
    table = README.partition("<!-- promises -->")[2].partition("<!-- /promises -->")[0]
    for promise in PROMISES:
        assert f"| {promise.sentence} |" in table


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.id)
def test_every_promise_has_a_runbook(promise: object) -> None:
    runbook = getattr(promise, "runbook", "")
    assert (PROJECT / "runbooks" / f"{runbook}.md").is_file()


@pytest.mark.parametrize("runbook", sorted((PROJECT / "runbooks").glob("*.md")), ids=lambda path: path.stem)
def test_every_runbook_has_all_sections(runbook: Path) -> None:
    text = runbook.read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verification", "Escalation", "Proven by"]
    for name in re.findall(r"`([a-z-]+\.md)`", text):
        assert (runbook.parent / name).is_file()
