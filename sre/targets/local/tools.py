"""`sre tools install`: Debian packages unpacked into a folder of ours, without root and without touching the system."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from sre.errors import CannotRun, MissingProgram
from sre.targets.local.programs import PROGRAMS, Program, find

WITHIN_S = 600.0
VERSIONS_NAME = "versions.json"
# Debian's Alertmanager reads its default template from this folder, whatever its configuration says, and does not start without.
ALERTMANAGER_SHARE = "usr/share/prometheus/alertmanager"
# What it looks for instead, below its working folder: as long as the path that it replaces, as a relocation must be.
RELOCATED_SHARE = "share/alertmanager"
_INSTALLS = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)
# Web pages of Prometheus and their fonts: the API is all that is used. debconf and friends only serve dpkg's own scripts.
_NOT_NEEDED = ("libjs-", "fonts-", "debconf", "adduser", "ssl-cert", "init-system-helpers")


def missing(tools: Path) -> list[Program]:
    """The programs that are nowhere to be found."""
    absent = []
    for program in PROGRAMS:
        try:
            find(program.name, tools)
        except MissingProgram:
            absent.append(program)
    return absent


def install(tools: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Fetch and unpack what is missing.

    Args:
        tools: folder to unpack into; what is already there stays.
        say: receives one line per state change.

    Returns:
        Versions by package, of all that lies in the folder.

    Raises:
        CannotRun: this system has no apt (the message lists what to install), or apt cannot fetch a package.
    """
    absent = missing(tools)
    recorded = tools / VERSIONS_NAME
    versions: dict[str, str] = json.loads(recorded.read_text(encoding="utf-8")) if recorded.exists() else {}
    if not absent:
        say("every program is there")
        return versions
    wanted = sorted({program.package for program in absent})
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise CannotRun(
            f"this system ({platform.system()}) has no apt; install these with its own package manager: {', '.join(wanted)}"
        )
    for folder in ("apt/lists/partial", "apt/cache/archives/partial", "debs", "root"):
        (tools / folder).mkdir(parents=True, exist_ok=True)
    say("reading the package lists")
    _apt(tools, ["update"])
    packages = _resolve(tools, wanted)
    say(f"fetching {len(packages)} packages for {', '.join(wanted)}")
    _apt(tools, ["download", *(f"{name}={version}" for name, version in packages.items())])
    for archive in sorted((tools / "debs").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(tools / "root")], tools)
        archive.unlink()
    shutil.rmtree(tools / "apt")
    _relocate(tools / "root")
    versions |= packages
    recorded.write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _open_to_all(tools)
    still = missing(tools)
    if still:
        raise CannotRun(f"still missing after unpacking into {tools}: {', '.join(program.name for program in still)}")
    return versions


def _resolve(tools: Path, wanted: Iterable[str]) -> dict[str, str]:
    plan = _apt(tools, ["install", "--simulate", "--no-install-recommends", *wanted])
    found = {name: version for name, version in _INSTALLS.findall(plan) if not name.startswith(_NOT_NEEDED)}
    if not found:
        raise CannotRun(f"apt offers nothing for {', '.join(wanted)}; it said: {plan.strip()[-400:]}")
    return found


def _apt(tools: Path, arguments: list[str]) -> str:
    # Lists and cache of our own: reading the system's may need root, and they may be empty or old in a container.
    options = {
        "Dir::State::Lists": tools / "apt/lists",
        "Dir::Cache": tools / "apt/cache",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
        "Acquire::Retries": "3",
    }
    return _run(["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items()), *arguments], tools)


def _run(command: list[str], tools: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=tools / "debs", env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotRun(f"{command[0]} gave no answer within {WITHIN_S:.0f} s: {' '.join(command)}") from error
    if done.returncode:
        raise CannotRun(f"{' '.join(command)} failed with {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def _relocate(root: Path) -> None:
    program = root / "usr/bin/prometheus-alertmanager"
    if not program.exists():
        return
    built_in, ours = f"/{ALERTMANAGER_SHARE}".encode(), RELOCATED_SHARE.encode()
    padding = b"./" * ((len(built_in) - len(ours)) // 2)
    program.write_bytes(program.read_bytes().replace(built_in, padding + ours))


def _open_to_all(tools: Path) -> None:
    # As root, PostgreSQL runs under another account and must be able to read its own program.
    for path in (tools, tools / "root"):
        path.chmod(0o755)
