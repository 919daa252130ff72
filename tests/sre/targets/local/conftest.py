"""Systems of one's own: a layout made by hand, and a supervisor of small processes in place of databases and servers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sre.targets.local import database, prepare, processes, supervisor, target
from sre.targets.local import layout as layouts
from sre.targets.local.layout import Layout, Parts, replica_names, unprivileged_account
from sre.targets.local.service import Service, Task

MakeLayout = Callable[..., Layout]
Prepare = Callable[[Path, Parts], Layout]

# The real supervisor, its lock and its signals, over two services that only sleep.
SMALL = """
import sys
from sre.targets.local import supervisor
from sre.targets.local.service import Service, Task, base_environment

def small(layout):
    sleeper = ("sleep", "1000")
    environment = base_environment(layout)
    return [
        Task(name="first", function=lambda _: None),
        Service(name="one", command=sleeper, environment=environment, check=lambda: "", after=("first",)),
        Service(name="two", command=sleeper, environment=environment, check=lambda: %s, after=("one",)),
    ]

supervisor.nodes = small
supervisor.READY_WITHIN_S = 1.0
sys.exit(supervisor.main())
"""


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits for a condition, and says what it waited for when it does not come true in time."""

    def wait(condition: Callable[[], bool], what: str, within: float = 90.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
            time.sleep(0.1)

    return wait


@pytest.fixture
def make_layout(tmp_path: Path) -> MakeLayout:
    """A layout whose folders exist; nothing listens on its ports."""

    def make(*, replicas: int = 3, account: str | None = None, parts: Parts = "all", tools: Path | None = None) -> Layout:
        names = (*layouts._SINGLE_PORTS, *replica_names(replicas))
        ports = {name: 1 + index for index, name in enumerate(names)}
        chosen = tools or tmp_path / "tools"
        layout = Layout(tmp_path / "home", chosen, ports, replica_names(replicas), account, parts)
        for folder in (layout.home, layout.config, layout.logs, layout.run, layout.objects):
            folder.mkdir(parents=True, exist_ok=True)
        layout.secrets.mkdir(mode=0o700)
        return layout

    return make


@pytest.fixture
def small_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home in which `up` begins two sleeping services; nothing of it runs afterwards."""
    script = tmp_path / "small.py"
    script.write_text(SMALL % "''", encoding="utf-8")
    monkeypatch.setattr(target, "SUPERVISOR", (sys.executable, str(script)))
    home = tmp_path / "home"
    yield home
    target.down(home)
    assert not processes.of_system(home)


@pytest.fixture
def never_ready(small_home: Path, tmp_path: Path) -> Path:
    """The same home, but its second service never becomes ready."""
    (tmp_path / "small.py").write_text(SMALL % "'not yet'", encoding="utf-8")
    return small_home


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines and delays of a supervisor, all short."""
    monkeypatch.setattr(supervisor, "READY_WITHIN_S", 0.4)
    monkeypatch.setattr(supervisor, "TASK_WITHIN_S", 0.4)
    monkeypatch.setattr(supervisor, "STOP_WITHIN_S", 0.4)
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_S", 0.05)


@pytest.fixture
def service() -> Callable[..., Service]:
    """A service of `sh`; ready at once unless told otherwise."""

    def make(name: str, script: str, **fields: object) -> Service:
        given: dict[str, object] = {"environment": {"PATH": "/usr/bin:/bin"}, "check": lambda: ""}
        return Service(name=name, command=("sh", "-c", script), **(given | fields))  # type: ignore[arg-type]

    return make


@pytest.fixture
def command() -> Callable[..., Task]:
    """A task of `sh`."""

    def make(name: str, script: str, **fields: object) -> Task:
        environment = {"PATH": "/usr/bin:/bin"}
        return Task(name=name, command=("sh", "-c", script), environment=environment, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def prepared(programs: Path) -> Prepare:
    """Makes a layout that the account can reach, with all that a supervisor makes before it starts the first process."""

    def make(folder: Path, parts: Parts) -> Layout:
        ports = {name: 19_000 + index for index, name in enumerate(layouts._SINGLE_PORTS)}
        layout = Layout(folder / "home", programs, ports, (), unprivileged_account(), parts)
        prepare.folders(layout)
        prepare.passwords(layout)
        database.folders(layout, prepare.certificates(layout))
        return layout

    return make


@pytest.fixture(scope="module")
def cluster(prepared: Prepare, open_module_folder: Path) -> Layout:
    """A whole system's layout, configured; tests leave it as it is."""
    layout = prepared(open_module_folder / "cluster", "all")
    database.configure(layout)
    return layout


@pytest.fixture
def place(prepared: Prepare, open_folder: Path) -> Layout:
    """A restored place's."""
    return prepared(open_folder, "serving")
