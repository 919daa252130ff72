from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sre.drills.database_clients import Together, clients_of
from sre.drills.history_files import read_history
from sre.errors import CannotRun, StepFailed
from sre.judges.history import Fate
from sre.readings import LoadPlan
from sre.targets.local.target import LocalTarget
from sre.targets.memory import MemoryTarget


@dataclass
class Part:
    """A load that does what it is told, and remembers its end."""

    ends: list[str]
    name: str
    alive: bool = True
    dead: bool = field(default=False)

    def running(self) -> bool:
        return self.alive

    def progress(self) -> str:
        return f"{self.name} progress"

    def show(self, key: str) -> None:
        self.ends.append(f"{self.name} show {key}")

    def stop(self) -> None:
        self.ends.append(self.name)
        if self.dead:
            raise StepFailed(f"{self.name} died")

    def wait(self) -> None:
        self.stop()


@pytest.mark.parametrize(("users", "writers"), [(False, True), (True, False), (False, False)])
def test_both_run_or_none_counts_as_running(users: bool, writers: bool) -> None:  # noqa: FBT001 - a table of truth
    ends: list[str] = []
    assert Together(Part(ends, "users"), Part(ends, "writers")).running()
    assert not Together(Part(ends, "users", users), Part(ends, "writers", writers)).running()


@pytest.mark.parametrize("how", ["stop", "wait"])
def test_both_are_ended_also_when_the_first_had_died(how: str) -> None:
    ends: list[str] = []
    both = Together(Part(ends, "users"), Part(ends, "writers", dead=True))
    assert both.progress() == "users progress"
    with pytest.raises(StepFailed, match="writers died"):
        getattr(both, how)()
    assert ends == ["writers", "users"]


def test_a_key_is_for_the_users() -> None:
    ends: list[str] = []
    Together(Part(ends, "users"), Part(ends, "writers")).show("another")
    assert ends == ["users show another"]


def test_a_target_that_no_client_reaches_says_so() -> None:
    with pytest.raises(CannotRun, match="target memory has no database that a client of this machine could reach"):
        clients_of(MemoryTarget())


@pytest.mark.local
def test_members_are_asked_one_by_one(system: LocalTarget) -> None:
    clients, members = clients_of(system), system.database.members()
    primary = next(member.name for member in members if member.role == "primary")
    assert [clients.asked(member.name) for member in members] == ["", "", ""]
    for member in members:
        refused = clients.refused(member.name)
        assert (refused == "") if member.name == primary else ("during recovery" in refused), refused
    written = clients.written(primary)
    assert written is not None
    assert clients.received(next(member.name for member in members if member.name != primary)) is not None
    assert clients.written(next(member.name for member in members if member.name != primary)) is None
    assert clients.recorded(time.time()) == 0
    assert clients.dropped() is not None


@pytest.mark.local
def test_a_server_that_is_not_there_is_an_answer_of_its_own(system: LocalTarget) -> None:
    layout = system.layout
    ports = {**layout.ports, "postgres-2": 1}
    gone = LocalTarget(type(layout)(layout.home, layout.tools, ports, layout.replicas, layout.account, layout.parts))
    assert "Connection refused" in clients_of(gone).asked("postgres-2")
    assert clients_of(gone).received("postgres-2") is None


@pytest.mark.local
def test_writers_leave_their_history_and_the_rows_that_it_names(system: LocalTarget, tmp_path: Path) -> None:
    clients, run = clients_of(system), f"test-{uuid.uuid4()}-{os.getpid()}"
    writing = clients.write(run, LoadPlan(40.0, 60.0, 7), tmp_path)
    time.sleep(1.0)
    assert writing.running()
    writing.stop()
    assert not writing.running()
    found = read_history(tmp_path)
    assert found is not None
    acked = {attempt.key for attempt in found.attempts if attempt.fate is Fate.ACKED}
    assert acked
    assert acked <= {row.key for row in clients.rows(run)}
