"""What `down` leaves: nothing, also when the supervisor was killed, also with another system beside it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from sre.dr import backup, place
from sre.targets.local import processes, state, target
from sre.targets.local.target import LocalTarget

pytestmark = pytest.mark.local


def listening(ports: set[int]) -> set[int]:
    connections = psutil.net_connections("tcp")
    return {item.laddr.port for item in connections if item.laddr and item.status == psutil.CONN_LISTEN} & ports


def test_down_leaves_nothing_after_the_supervisor_was_killed(system: LocalTarget, open_folder: Path) -> None:
    home = open_folder / "home"
    other = place.restore(backup.create(system.layout, "full"), system.layout, home).target
    ports = set(other.layout.ports.values())
    assert listening(ports)
    assert not ports & set(system.layout.ports.values())

    current = state.read(home)
    assert current is not None
    os.kill(int(current.supervisor.partition("@")[0]), signal.SIGKILL)
    ended = target.down(home, purge=True)

    assert "postgres" in ended
    assert not listening(ports)
    assert not processes.of_system(home)
    assert not home.exists()
    assert all(replica.ready for replica in system.replicas())
