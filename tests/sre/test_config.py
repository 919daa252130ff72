from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from sre import config
from sre.config import PROJECT, Settings, closed_to_others
from sre.targets.local import target


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SRE_HOME", str(tmp_path))
    monkeypatch.setenv("SRE_REPLICAS", "5")
    assert (Settings().home, Settings().replicas) == (tmp_path, 5)


@pytest.mark.parametrize("variable", ["SRE_HOME", "SRE_TOOLS", "SRE_EVIDENCE"])
def test_a_relative_folder_means_the_callers_even_for_processes_that_run_elsewhere(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "here/../there")
    assert getattr(Settings(), variable.removeprefix("SRE_").lower()) == tmp_path.resolve() / "there"


@pytest.mark.parametrize("replicas", ["0", "21", "three"])
def test_a_wrong_number_of_replicas_is_refused(monkeypatch: pytest.MonkeyPatch, replicas: str) -> None:
    monkeypatch.setenv("SRE_REPLICAS", replicas)
    with pytest.raises(ValidationError):
        Settings()


def test_a_closed_parent_closes_everything_below(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    tmp_path.chmod(0o700)
    assert closed_to_others(tmp_path / "open")


def test_an_open_way_is_open(open_folder: Path) -> None:
    assert not closed_to_others(open_folder)


def test_state_lies_in_the_project_unless_the_account_cannot_reach_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SRE_TOOLS", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert (Settings().home, Settings().tools) == (PROJECT / ".sre", PROJECT / ".tools")
    tmp_path.chmod(0o700)
    monkeypatch.setattr(config, "PROJECT", tmp_path)
    assert Settings().home == tmp_path.resolve() / ".sre"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    home = Settings().home
    assert home.parent.parent == Path("/var/lib/sre")
    assert home == Settings().home
    monkeypatch.setattr(config, "PROJECT", tmp_path / "second")
    (tmp_path / "second").mkdir()
    assert Settings().home != home


def test_the_signing_key_lies_in_the_state_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SRE_HOME", str(tmp_path / "home"))
    assert Settings().signing_key == tmp_path / "home" / "signing-key.pem"
    monkeypatch.setenv("SRE_SIGNING_KEY", str(tmp_path / "own.pem"))
    assert Settings().signing_key == tmp_path / "own.pem"


def test_purging_spares_the_signing_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SRE_HOME", str(tmp_path))
    Settings().signing_key.write_bytes(b"key")
    (tmp_path / "data").mkdir()
    target.down(tmp_path, purge=True)
    assert not (tmp_path / "data").exists()
    assert Settings().signing_key.read_bytes() == b"key"
