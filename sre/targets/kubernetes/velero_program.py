"""The velero program: asks Velero's server, installs it, reads archives. Its exit status says only whether it was asked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from sre.errors import CannotRun, StepFailed
from sre.targets.kubernetes import programs

NAMESPACE = "velero"
WITHIN_S = 120.0


class VeleroProgram:
    """The program, for one cluster.

    Args:
        tools: folder of unpacked programs, where PATH holds none.
        kubeconfig: file that names the cluster, or several as in KUBECONFIG.
        context: of that file.

    Raises:
        MissingProgram: it is not installed.
    """

    def __init__(self, tools: Path, kubeconfig: str, context: str) -> None:
        self._command = [programs.found("velero", tools), f"--kubecontext={context}", f"--namespace={NAMESPACE}"]
        self._environment = programs.environment(kubeconfig)

    def run(self, *arguments: str, within_s: float = WITHIN_S) -> str:
        """Run it and return what it wrote.

        Raises:
            StepFailed: it refuses, or did not end within the time.
        """
        what = f"velero {' '.join(_first(arguments))}"
        try:
            done = subprocess.run(
                [*self._command, *arguments], stdin=subprocess.DEVNULL, env=self._environment, capture_output=True, text=True,
                timeout=within_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            log = f"kubectl logs -n {NAMESPACE} deploy/velero"
            raise StepFailed(f"{what} did not end within {within_s:.0f} s; see `{log}`") from error
        except OSError as error:
            raise CannotRun(f"{what} cannot be run: {error}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).partition("\nUsage:")[0]
            raise StepFailed(f"{what} failed: {said.strip()[-1000:]}")
        return done.stdout

    def server(self) -> str:
        """Version of the server, as it answers just now; empty when it does not answer."""
        try:
            lines = self.run("version").splitlines()
        except StepFailed:
            return ""
        after = lines[lines.index("Server:") + 1 :] if "Server:" in lines else []
        return next((line.partition(":")[2].strip() for line in after if line.strip().startswith("Version:")), "")


def _first(arguments: Sequence[str]) -> list[str]:
    """The words before the first option."""
    return list(arguments[: next((number for number, word in enumerate(arguments) if word.startswith("-")), len(arguments))])
