"""An environment for each peer, with its release pinned and the libraries that do the work as the lock has them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sre.config import PROJECT

LOCK = PROJECT / "requirements" / "main.lock"
ROOT = PROJECT / ".bench"  # environments, logs, results; the home of the begun system where that is its place too
SHARED = ("onnxruntime", "numpy", "pillow", "simplejpeg", "opencv-python-headless")
# mlserver-w0 runs in the environment of mlserver, whose inference workers do not start on a newer uvloop.
PINNED: dict[str, tuple[str, ...]] = {
    "kserve": ("kserve==0.21.0",),
    "mlserver": ("mlserver==1.7.1", "uvloop==0.21.0"),
    "mlflow": ("mlflow==3.17.2",),
    "bentoml": ("bentoml==1.4.40",),
    "litserve": ("litserve==0.2.19", "python-multipart==0.0.34"),
}
INSTALL_WITHIN_S = 1200


class NoEnvironment(Exception):
    """A peer's environment cannot be made."""


def locked(text: str, python: tuple[int, int] = sys.version_info[:2]) -> dict[str, str]:
    """Versions of the shared libraries in a lock file; of several for different Pythons, the one for this."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"([a-z0-9-]+)==([^ ;]+)(?: ; python_full_version (<|>=) '(\d+)\.(\d+)')?", line)
        if match and match[1] in SHARED:
            bound = (int(match[4]), int(match[5])) if match[3] else None
            if bound is None or (python < bound) == (match[3] == "<"):
                found[match[1]] = match[2]
    return found


def folder(peer: str) -> Path:
    """Where the environment of a peer is."""
    return ROOT / "envs" / peer.partition("-")[0]


def ready(peer: str, say: Callable[[str], None]) -> Path:
    """The environment of a peer, made when it is not there or was made for other versions.

    Raises:
        NoEnvironment: it cannot be made; the message holds the installer's last words.
    """
    name, where = peer.partition("-")[0], folder(peer)
    shared = locked(LOCK.read_text(encoding="utf-8"))
    wanted = [*PINNED[name], *(f"{package}=={version}" for package, version in shared.items())]
    stamp, digest = where / "made-for", hashlib.sha256(" ".join(wanted).encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return where
    say(f"{name}: making its environment, a minute or two")
    _run(name, [sys.executable, "-m", "venv", str(where)])
    _run(name, [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
    stamp.write_text(digest, encoding="utf-8")
    return where


def versions(where: Path) -> dict[str, str]:
    """What is installed there and matters for speed."""
    script = (
        "import importlib.metadata as m, json\n"
        "names = ('kserve','mlserver','mlflow','bentoml','litserve','onnxruntime','numpy','pillow','simplejpeg',"
        "'opencv-python-headless','uvicorn','uvloop','fastapi','starlette')\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: have[n] for n in names if n in have}))"
    )
    done = subprocess.run([str(where / "bin" / "python"), "-c", script], capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _run(name: str, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoEnvironment(f"{name}: {error}") from error
    if done.returncode:
        words = [
            line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")
        ] or done.stderr.strip().splitlines()
        raise NoEnvironment(f"{name}: {' '.join(words[-2:])[-400:]}")
