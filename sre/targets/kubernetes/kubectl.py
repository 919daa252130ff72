"""kubectl: renders an overlay, applies objects, deletes them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sre.errors import CannotRun
from sre.targets.kubernetes import programs

WITHIN_S = 180


class Kubectl:
    """The program, for one cluster.

    Args:
        tools: folder of unpacked programs, where PATH holds none.
        kubeconfig: file that names the cluster, or several as in KUBECONFIG.
        context: of that file.

    Raises:
        MissingProgram: it is not installed.
    """

    def __init__(self, tools: Path, kubeconfig: str, context: str) -> None:
        self._command = [programs.found("kubectl", tools), f"--context={context}"]
        self._environment = programs.environment(kubeconfig)

    def render(self, overlay: Path) -> list[dict[str, Any]]:
        """The objects of a kustomization.

        Raises:
            CannotRun: it cannot be rendered.
        """
        return [one for one in yaml.load_all(self._run("kustomize", str(overlay)), Loader=yaml.CSafeLoader) if one]

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Make the cluster hold these objects.

        Raises:
            CannotRun: it refuses one.
        """
        # Fields that another manager has set are ours again: an overlay says what is applied.
        self._run("apply", "--server-side", "--field-manager=sre", "--force-conflicts", "-f", "-", objects=objects)

    def delete(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Begin to delete these objects; those that are not there count as deleted.

        Raises:
            CannotRun: the cluster refuses.
        """
        self._run("delete", "--ignore-not-found", "--wait=false", "-f", "-", objects=objects)

    def _run(self, *arguments: str, objects: Iterable[Mapping[str, Any]] = ()) -> str:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        try:
            done = subprocess.run(
                [*self._command, *arguments], input=text, env=self._environment, capture_output=True, text=True,
                timeout=WITHIN_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CannotRun(f"kubectl {arguments[0]} did not end within {WITHIN_S} s; is the cluster up?") from error
        if done.returncode:
            raise CannotRun(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()[-1500:]}")
        return done.stdout
