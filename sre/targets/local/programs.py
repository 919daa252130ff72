"""The programs that are not Python packages: where each is found, its version, and the remedy when it is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sre.errors import MissingProgram


@dataclass(frozen=True, slots=True)
class Program:
    """A program that the local target needs.

    Attributes:
        name: as the toolkit calls it.
        executables: names that it goes by, the usual one first.
        package: Debian's package that holds it.
        purpose: for `sre doctor`.
        companions: further executables of the same folder that must be there too.
    """

    name: str
    executables: tuple[str, ...]
    package: str
    purpose: str
    companions: tuple[str, ...] = ()


PROGRAMS: tuple[Program, ...] = (
    Program("nginx", ("nginx",), "nginx", "ingress"),
    Program(
        "postgres",
        ("postgres",),
        "postgresql",
        "database of the registry and of the prediction log",
        ("initdb", "pg_amcheck", "pg_basebackup", "pg_checksums", "pg_controldata", "pg_ctl", "pg_isready", "pg_rewind"),
    ),
    Program("etcd", ("etcd",), "etcd-server", "where the database cluster agrees on its primary"),
    Program("pgbackrest", ("pgbackrest",), "pgbackrest", "backups of the database and of its WAL"),
    Program("prometheus", ("prometheus",), "prometheus", "metrics and alert rules"),
    Program("promtool", ("promtool",), "prometheus", "checks rule files"),
    Program("alertmanager", ("alertmanager", "prometheus-alertmanager"), "prometheus-alertmanager", "alerts"),
    Program("node-exporter", ("node_exporter", "prometheus-node-exporter"), "prometheus-node-exporter", "disk, CPU, memory"),
    Program("postgres-exporter", ("postgres_exporter", "prometheus-postgres-exporter"), "prometheus-postgres-exporter",
            "database metrics"),
    Program("nginx-exporter", ("nginx-prometheus-exporter", "prometheus-nginx-exporter"), "prometheus-nginx-exporter",
            "ingress metrics"),
)  # fmt: skip

# Folders that hold server programs on Debian and Ubuntu but are not on an ordinary user's PATH.
_SERVER_FOLDERS = ("usr/sbin", "usr/bin", "usr/local/sbin", "usr/local/bin", "usr/lib/postgresql/*/bin")
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Found:
    """A program on this machine.

    Attributes:
        program: which one.
        path: absolute, links resolved.
        source: `PATH`, `system` (installed, not on PATH) or `.tools`.
        environment: variables that it needs to start.
    """

    program: Program
    path: Path
    source: str
    environment: Mapping[str, str]

    def companion(self, name: str) -> Path:
        """Another executable of the same folder."""
        return self.path.parent / name

    def version(self) -> str:
        """What the program says of its own version, or why it could not say."""
        command = [str(self.path), {"nginx": "-v", "pgbackrest": "version"}.get(self.program.name, "--version")]
        try:
            answer = subprocess.run(
                command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"does not start: {error}"
        match = _VERSION.search(answer.stdout + answer.stderr)
        return match.group() if match else f"unknown (exit {answer.returncode})"


def find(name: str, tools: Path) -> Found:
    """Find a program: on PATH, then among installed server programs, then in the tools folder.

    Raises:
        MissingProgram: it is in none of them; the message names the remedy.
    """
    program = next(item for item in PROGRAMS if item.name == name)
    for source, path in _candidates(program, tools):
        resolved = path.resolve()
        if all((resolved.parent / companion).exists() for companion in program.companions):
            return Found(program, resolved, source, library_path(tools) if source == ".tools" else {})
    raise MissingProgram(
        f"{name} ({program.purpose}) is not on this machine; run `sre tools install`, "
        f"or install {program.package} with the system's package manager"
    )


def _candidates(program: Program, tools: Path) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for executable in program.executables:
        on_path = shutil.which(executable)
        if on_path:
            found.append(("PATH", Path(on_path)))
        for source, root in (("system", Path("/")), (".tools", tools / "root")):
            for folder in _SERVER_FOLDERS:
                # Of several PostgreSQL versions the newest is used.
                found.extend((source, path) for path in sorted(root.glob(f"{folder}/{executable}"), key=_numbers, reverse=True))
    order = {"PATH": 0, "system": 1, ".tools": 2}
    return sorted(found, key=lambda item: order[item[0]])


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def library_path(tools: Path) -> dict[str, str]:
    """The variable that lets unpacked programs find the libraries unpacked beside them."""
    folders = [str(folder) for folder in (tools / "root").glob("usr/lib/*-linux-gnu*") if folder.is_dir()]
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}
