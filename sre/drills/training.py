"""`training`: a model is trained on the running system, and users judge the one that serves: right answers on unseen images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from sre.drills.base import Case, Context, Drill, Judgement
from sre.errors import CannotRun, StepFailed
from sre.judges.quality import accuracy
from sre.probes import http
from sre.promises import promise
from sre.targets.base import Capability
from sre.targets.local.plan import system_environment
from sre.targets.local.target import LocalTarget, newest_dataset
from sre.targets.registry import PRODUCTION, Registry

TRAIN_WITHIN_S = 600.0
FOLLOWED_WITHIN_S = 30.0  # replicas look at the registry every 5 s, and load what is new in one


class Training(Drill):
    """No fault: what is proven is that training runs end to end, and that what serves is good."""

    name = "training"
    summary = "train a model, then let users judge the one that serves"
    promises: ClassVar = ("model-quality",)
    needs: ClassVar = frozenset({Capability.TRAINING})

    def inject(self, context: Context) -> str:
        """Train. Its exit status is noted and not believed: the registry and the users are asked."""
        layout = _local(context).layout
        command = [sys.executable, "-m", "system", "train"]
        context.ran(command)
        log = context.folder / "train.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=layout.run, env=system_environment(layout), stdout=output, stderr=output, start_new_session=True
            )
        try:
            context.until(
                lambda: (None if process.poll() is None else True, _last_line(log)),
                within=TRAIN_WITHIN_S, what="the training to end", every=0.5,
            )  # fmt: skip
        finally:
            process.kill()
            process.wait()
        context.note(train_exit=process.returncode)
        return _last_line(log)

    def prove_injected(self, context: Context) -> str:
        """The registry names a model for production, with a checksum."""
        version = Registry(_local(context).endpoints.mlflow).named(PRODUCTION)
        if version is None or not {"sha256", "dataset_version"} <= version.tags.keys():
            raise StepFailed(f"the registry names no verifiable model for {PRODUCTION}, but {version}; see train.log")
        context.note(registered=version.number, sha256=version.tags["sha256"], dataset=version.tags["dataset_version"])
        return f"version {context.facts['registered']} has the alias production"

    def recover(self, context: Context) -> str:
        """Send every image of the test split as a user would."""
        target = _local(context)
        what = f"every replica to serve version {context.facts['registered']}"
        context.until(lambda: _followed(target, context.facts["registered"]), within=FOLLOWED_WITHIN_S, what=what)
        folder = newest_dataset(target.layout)
        files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        labels: dict[str, str] = {file["path"]: str(file["label"]) for file in files}
        answers: list[list[str | int]] = []
        served: set[str] = set()
        test: list[str] = json.loads((folder / "splits.json").read_text(encoding="utf-8"))["test"]
        for number, name in enumerate(test, start=1):
            status, body = http.predict(target.endpoints, folder / name)
            answers.append([name, labels[name], status, str(body.get("label", ""))])
            served.add(str(body.get("model_version", "none")))
            context.say(f"{number} of {len(test)} test images sent")
        context.note(answers=answers, served=sorted(served))
        right = sum(expected == label for _, expected, _, label in answers)
        return f"{right} of {len(answers)} answers right, served by version {', '.join(sorted(served))}"

    def judge(self, case: Case) -> Judgement:
        """Share of right answers among all test images; no answer is a wrong one."""
        facts = case.facts
        if "answers" not in facts:
            return Judgement(())
        right = sum(status == 200 and expected == label for _, expected, status, label in facts["answers"])
        findings = []
        if facts["train_exit"]:
            findings.append(f"the training ended with {facts['train_exit']} and promoted nothing; see train.log")
        if facts["served"] != [facts["registered"]]:
            served = ", ".join(facts["served"])
            findings.append(
                f"the registry names version {facts['registered']}, version {served} answered: the alias moved meanwhile"
            )
        return Judgement((accuracy(promise("model-quality"), right, len(facts["answers"])),), tuple(findings))


def _followed(target: LocalTarget, version: str) -> tuple[bool | None, str]:
    """Whether all replicas serve the version, and what each serves."""
    served = target.versions()
    seen = ", ".join(f"{name} serves {found}" for name, found in served.items())
    return (True if set(served.values()) == {version} else None), seen


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output yet"


def _local(context: Context) -> LocalTarget:
    if not isinstance(context.target, LocalTarget):
        raise CannotRun(f"target {context.target.name} cannot train")
    return context.target
