from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import MissingProgram
from sre.targets.local import programs
from sre.targets.local.programs import Program, find, library_path


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One made-up program with a companion, and a PATH of one empty folder, which is returned."""
    made_up = Program("server", ("sre-server", "sre-server-debian"), "sre-server-package", "tests", ("sre-helper",))
    monkeypatch.setattr(programs, "PROGRAMS", (made_up,))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (tmp_path / "path").mkdir()
    return tmp_path / "path"


def put(folder: Path, *names: str, script: str = "echo server version 1.2.3") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def test_a_missing_program_names_itself_and_both_remedies(only: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingProgram) as told:
        find("server", tmp_path / "tools")
    assert "server (tests) is not on this machine; run `sre tools install`" in str(told.value)
    assert "or install sre-server-package" in str(told.value)


def test_path_comes_before_the_tools_folder(only: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    put(tools / "root/usr/sbin", "sre-server", "sre-helper")
    (tools / "root/usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    unpacked = find("server", tools)
    assert (unpacked.source, unpacked.path) == (".tools", tools / "root/usr/sbin/sre-server")
    assert unpacked.environment == {"LD_LIBRARY_PATH": str(tools / "root/usr/lib/x86_64-linux-gnu")}
    put(only, "sre-server", "sre-helper")
    installed = find("server", tools)
    assert (installed.source, installed.path, installed.environment) == ("PATH", only / "sre-server", {})


def test_a_program_without_its_companions_is_passed_over(only: Path, tmp_path: Path) -> None:
    put(only, "sre-server")
    tools = tmp_path / "tools"
    with pytest.raises(MissingProgram):
        find("server", tools)
    put(tools / "root/usr/bin", "sre-server-debian", "sre-helper")
    found = find("server", tools)
    assert found.path.name == "sre-server-debian"
    assert found.companion("sre-helper").exists()


def test_a_link_leads_to_the_folder_with_the_companions(only: Path, tmp_path: Path) -> None:
    put(tmp_path / "lib/15", "sre-server", "sre-helper")
    (only / "sre-server").symlink_to(tmp_path / "lib/15/sre-server")
    assert find("server", tmp_path / "tools").path == tmp_path / "lib/15/sre-server"


def test_of_several_versions_the_newest_is_used(only: Path, tmp_path: Path) -> None:
    for version in ("9", "14", "15"):
        put(tmp_path / f"tools/root/usr/lib/postgresql/{version}/bin", "sre-server", "sre-helper")
    assert find("server", tmp_path / "tools").path.parts[-3] == "15"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo server version 1.2.3-4+deb12u1", "1.2.3"),
        ("echo nginx version: nginx/1.22.1 >&2", "1.22.1"),
        ("echo who knows; exit 3", "unknown (exit 3)"),
    ],
)
def test_the_version_is_what_the_program_says(only: Path, tmp_path: Path, script: str, said: str) -> None:
    put(only, "sre-server", "sre-helper", script=script)
    monkey_path = {"PATH": "/usr/bin:/bin"}
    found = find("server", tmp_path)
    assert programs.Found(found.program, found.path, found.source, monkey_path).version() == said


def test_a_program_that_does_not_start_says_so(only: Path, tmp_path: Path) -> None:
    put(only, "sre-server", "sre-helper")
    found = find("server", tmp_path)
    found.path.write_bytes(b"\x7fELF broken")
    assert found.version().startswith("does not start: ")


def test_without_unpacked_libraries_nothing_is_set(tmp_path: Path) -> None:
    assert library_path(tmp_path) == {}


def test_every_program_says_its_version(programs: Path) -> None:
    from sre.targets.local.programs import PROGRAMS  # noqa: PLC0415 - the fixture has the module's name

    versions = {program.name: find(program.name, programs).version() for program in PROGRAMS}
    assert all(version[0].isdigit() for version in versions.values()), versions
