"""Programs that speak to a cluster, and what they are told about it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sre.errors import MissingProgram


def found(name: str, tools: Path) -> str:
    """A program of PATH, or of the folder of unpacked programs.

    Raises:
        MissingProgram: it is not installed.
    """
    program = shutil.which(name) or shutil.which(name, path=str(tools))
    if program is None:
        raise MissingProgram(f"{name} is neither on PATH nor in {tools}; install it")
    return program


def environment(kubeconfig: str) -> dict[str, str]:
    """This process's, with the file that names the cluster."""
    return {**os.environ, "KUBECONFIG": kubeconfig}
