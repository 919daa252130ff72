from __future__ import annotations

import json
from pathlib import Path

import pytest

from sre.errors import TargetUnavailable
from sre.targets.local import state
from sre.targets.local.layout import Layout
from sre.targets.local.state import ServiceState, SystemState


def one() -> SystemState:
    services = {"postgres": ServiceState("ready", "7@1.50", 2, ""), "train": ServiceState("done")}
    ports, replicas = {"postgres": 20_001}, ["serving-1"]
    return SystemState("9@2.25", "ready", "", "all", ports, replicas, None, services, "int8", "strict")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state.write(tmp_path, one())
    assert state.read(tmp_path) == one()
    assert [path.name for path in tmp_path.iterdir()] == [state.STATE_NAME]


def test_it_gives_back_the_layout(tmp_path: Path) -> None:
    layout = one().layout(tmp_path, Path("/tools"))
    assert layout == Layout(tmp_path, Path("/tools"), {"postgres": 20_001}, ("serving-1",), None, "all", "int8", "strict")


@pytest.mark.parametrize("torn", [None, "", '{"schema": "sre.local/1", "serv'])
def test_no_file_or_one_that_a_crash_left_is_no_system(tmp_path: Path, torn: str | None) -> None:
    if torn is not None:
        (tmp_path / state.STATE_NAME).write_text(torn)
    assert state.read(tmp_path) is None


def test_another_version_is_told_from_damage(tmp_path: Path) -> None:
    (tmp_path / state.STATE_NAME).write_text(json.dumps({"schema": "sre.local/9"}))
    with pytest.raises(TargetUnavailable, match=r"is not of schema sre.local/1; end that system with the version that began it"):
        state.read(tmp_path)


def test_a_hold_lasts_until_it_is_released_and_touches_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert not state.held(tmp_path, "etcd-1")
    for _ in range(2):
        state.hold(tmp_path, "etcd-1")
        assert state.held(tmp_path, "etcd-1")
    assert not state.held(tmp_path, "etcd-2")
    for _ in range(2):
        state.release(tmp_path, "etcd-1")
        assert not state.held(tmp_path, "etcd-1")
