"""apt and dpkg-deb as they are, over a repository of one made-up package that lies in a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from sre.errors import CannotRun
from sre.targets.local import programs, tools
from sre.targets.local.programs import Program

BUILT_IN = b"default template: /usr/share/prometheus/alertmanager/default.tmpl"

needs_apt = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None,
    reason="this system has no apt, so nothing can be fetched",
)


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (Program("server", ("sre-test-server",), "sre-test-package", "tests"),)
    monkeypatch.setattr(programs, "PROGRAMS", wanted)
    monkeypatch.setattr(tools, "PROGRAMS", wanted)


def build(folder: Path, name: str, files: dict[str, bytes]) -> None:
    """A package and the index that apt reads."""
    root = folder / "build" / name
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        (root / path).chmod(0o755)
    control = f"Package: {name}\nVersion: 1.0-1\nArchitecture: all\nMaintainer: tests <tests@localhost>\nDescription: tests\n"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(control)
    archive = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(root), str(archive)], check=True, capture_output=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    entry = f"{control}Filename: ./{archive.name}\nSize: {archive.stat().st_size}\nSHA256: {digest}\n\n"
    with (folder / "Packages").open("a") as index:
        index.write(entry)


@pytest.fixture
def repository(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that apt takes for the only repository there is."""
    folder = open_folder / "repository"
    folder.mkdir()
    (folder / "Packages").touch()
    (open_folder / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    (open_folder / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{open_folder}/sources.list";\nDir::Etc::SourceParts "{open_folder}/none";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(open_folder / "apt.conf"))
    return folder


@needs_apt
def test_what_is_missing_is_fetched_unpacked_and_recorded(repository: Path, open_folder: Path) -> None:
    script = b"#!/bin/sh\necho 1.0\n"
    build(repository, "sre-test-package", {
        "usr/bin/sre-test-server": script, "usr/bin/prometheus-alertmanager": BUILT_IN,
    })  # fmt: skip
    folder, said = open_folder / "tools", []  # type: ignore[var-annotated]
    assert [program.name for program in tools.missing(folder)] == ["server"]
    assert tools.install(folder, said.append) == {"sre-test-package": "1.0-1"}
    assert json.loads((folder / tools.VERSIONS_NAME).read_text()) == {"sre-test-package": "1.0-1"}
    assert said == ["reading the package lists", "fetching 1 packages for sre-test-package"]
    found = programs.find("server", folder)
    assert (found.source, found.version()) == (".tools", "1.0")
    assert folder.stat().st_mode & 0o005 == 0o005
    # What only fetching needed is gone again.
    assert not list((folder / "debs").iterdir())
    assert not (folder / "apt").exists()
    # The relocated path leads to the same file below the working folder, and moves nothing else in the program.
    relocated = (folder / "root/usr/bin/prometheus-alertmanager").read_bytes()
    assert len(relocated) == len(BUILT_IN)
    assert Path(relocated.decode().removeprefix("default template: ")) == Path(tools.RELOCATED_SHARE, "default.tmpl")
    assert tools.install(folder, said.append) == {"sre-test-package": "1.0-1"}
    assert said[2:] == ["every program is there"]


@needs_apt
def test_a_package_that_no_repository_has_is_told(repository: Path, open_folder: Path) -> None:
    with pytest.raises(CannotRun, match="Unable to locate package sre-test-package"):
        tools.install(open_folder / "tools", lambda _: None)


@needs_apt
def test_a_damaged_package_is_refused(repository: Path, open_folder: Path) -> None:
    build(repository, "sre-test-package", {"usr/bin/sre-test-server": b"#!/bin/sh\n"})
    with (repository / "sre-test-package.deb").open("r+b") as archive:
        archive.seek(100)
        archive.write(b"!")
    with pytest.raises(CannotRun, match=r"apt-get .* failed with 100"):
        tools.install(open_folder / "tools", lambda _: None)
    assert not (open_folder / "tools" / tools.VERSIONS_NAME).exists()


@needs_apt
def test_a_package_without_the_program_is_not_success(repository: Path, open_folder: Path) -> None:
    build(repository, "sre-test-package", {"usr/share/doc/readme": b"nothing"})
    with pytest.raises(CannotRun, match=r"still missing after unpacking into .*: server"):
        tools.install(open_folder / "tools", lambda _: None)


def test_without_apt_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="has no apt; install these with its own package manager: sre-test-package"):
        tools.install(tmp_path / "tools", lambda _: None)
    assert not (tmp_path / "tools").exists()


def test_a_command_that_gives_no_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "debs").mkdir()
    monkeypatch.setattr(tools, "WITHIN_S", 0.1)
    with pytest.raises(CannotRun, match="sleep gave no answer within 0 s: sleep 1000"):
        tools._run(["sleep", "1000"], tmp_path)
