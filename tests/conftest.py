"""What every test gets: a clean environment, and for those that ask a real system, begun once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sre.config import Settings
from sre.errors import CannotRun
from sre.targets.local import target, tools
from sre.targets.local.target import LocalTarget
from tests import mlflow_server

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it when it is imported, and would write into the home folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=2, help="how many drills are killed at a random moment")
    parser.addoption("--moments", type=int, default=5, help="how many random moments a database is restored to")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A cluster takes its share of the processors as long as it is up, so those that begin one come last.
    items.sort(key=lambda item: item.get_closest_marker("cluster") is not None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("--kills")))


# What coverage tells the processes that a measured one begins.
MEASURED = "COVERAGE_PROCESS_"


@pytest.fixture(autouse=True)
def _clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch, "ML_", "MLFLOW_", "SRE_")
    if request.node.get_closest_marker("local"):
        # Coverage would slow what is drilled, and who drills it.
        _forget(monkeypatch, MEASURED)


def _forget(patch: pytest.MonkeyPatch, *prefixes: str) -> None:
    for name in os.environ:
        if name.startswith(prefixes) and name != "SRE_TOOLS":
            patch.delenv(name)


@contextmanager
def _open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sre-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can reach into, as PostgreSQL must when the tests run as root; pytest's own cannot be."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def open_module_folder() -> Iterator[Path]:
    """The same for all tests of a module."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server; tests share it, so each has models of its own name, or counts from what is there."""
    with mlflow_server.serve(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="session")
def programs() -> Path:
    """The tools folder, with every program that a local system needs."""
    folder = Settings().tools
    try:
        tools.install(folder, lambda _: None)
    except CannotRun as error:
        pytest.skip(f"the local target's programs are not here: {error}")
    return folder


@pytest.fixture(scope="session")
def system(programs: Path) -> Iterator[LocalTarget]:
    """One whole local system with three replicas; tests that change it put it back."""
    with _open_folder() as folder:
        home = folder / "home"
        with pytest.MonkeyPatch.context() as patch:
            _forget(patch, MEASURED)
            begun, _ = target.up(home, programs)
        yield begun
        target.down(home, purge=True)
