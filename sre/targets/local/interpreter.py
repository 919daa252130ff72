"""A Python that the unprivileged account can run: ours where it can reach it, else a copy.

Patroni is Python and may not run as root. Root's own interpreter often lies where no other account can pass.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from sre.config import closed_to_others
from sre.targets.local.layout import Layout

_EXTRAS = ("", "etcd3", "psycopg3", "binary")


def patroni(layout: Layout) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command that runs Patroni as the layout's account, and what its environment needs."""
    mine = (Path(sys.executable).parent, Path(sys.prefix), Path(sys.base_prefix))
    if layout.account is None or not any(closed_to_others(folder.resolve()) for folder in mine):
        return (sys.executable, "-m", "patroni"), {}
    name = f"python-{sys.version_info.major}.{sys.version_info.minor}"
    home = layout.tools / f"{name}-patroni-{distribution('patroni').version}"
    if not home.exists():
        _copy(home)
    libraries, packages = home / "lib", home / "packages"
    environment = {"PYTHONHOME": str(home), "PYTHONPATH": str(packages), "LD_LIBRARY_PATH": str(libraries)}
    return (str(home / "bin" / "python"), "-m", "patroni"), environment


def _copy(home: Path) -> None:
    # Made beside and renamed when whole: what a SIGKILL leaves half is never run.
    fresh = home.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    standard = Path(sysconfig.get_path("stdlib"))
    skip = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "tkinter", "__pycache__", "config-*", "ensurepip")
    shutil.copytree(standard, fresh / "lib" / standard.name, ignore=skip, symlinks=True)
    for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy2(library, fresh / "lib", follow_symlinks=False)
    (fresh / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), fresh / "bin" / "python")
    for name in _needed("patroni", set()):
        for file in distribution(name).files or ():
            source = Path(str(file.locate()))
            # Scripts lie outside of the packages' folder, and name our interpreter.
            if ".." not in file.parts and source.is_file():
                into = fresh / "packages" / file
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, into)
    home.parent.chmod(0o755)
    fresh.rename(home)


def _needed(name: str, seen: set[str]) -> set[str]:
    """A distribution and all that it requires here."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    seen.add(key)
    for requirement in map(Requirement, distribution(name).requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            _needed(requirement.name, seen)
    return seen
