"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.config import PROJECT

MODULES = sorted(path for root in ("sre", "system") for path in (PROJECT / root).rglob("*.py"))
# Tested through what they are part of: a process of its own, or protocols and values without behaviour.
NO_TEST_OF_ITS_OWN = {
    "sre/readings.py": "values without behaviour",
    "sre/faults/base.py": "a protocol and a value",
    "sre/judges/canary/observation.py": "values without behaviour",
    "sre/judges/canary/decision.py": "values without behaviour",
    "sre/judges/canary/metric.py": "a protocol and a value",
    "sre/evidence/schema.py": "values without behaviour; the codec's tests read and write them",
}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_modules_and_functions_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno < 60, function.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_module_has_a_test_of_the_same_name(path: Path) -> None:
    relative = path.relative_to(PROJECT)
    if path.name == "__init__.py" or str(relative) in NO_TEST_OF_ITS_OWN:
        return
    test = PROJECT / "tests" / relative.parent / f"test_{path.stem.strip('_')}.py"
    assert test.is_file(), f"{test.relative_to(PROJECT)} is missing"


def test_help_loads_nothing_that_is_slow() -> None:
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from sre.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(' '.join(sorted(sys.modules)))\n"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT)
    slow = {"torch", "kubernetes", "locust", "mlflow", "pandas", "scipy", "numpy", "chaoslib", "gevent"}
    assert not slow & set(loaded.stdout.split())
