"""The canary drills, one per way in which a new version can be wrong, and one for a version that is right."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from sre.drills.base import Context
from sre.drills.canary import PROMOTED, CanaryDrill
from sre.drills.canary_site import site_of
from sre.errors import CannotRun, FaultWithoutEffect, StepFailed
from sre.faults import model
from sre.faults.base import Undo
from sre.faults.model import Place
from sre.probes import prometheus
from sre.targets.base import Capability
from sre.targets.local.plan import system_environment
from sre.targets.local.target import LocalTarget, newest_dataset
from sre.targets.registry import CANDIDATE

SLOWER = 0.25
FAILING_SHARE = 0.005  # five times what is promised
CRASHES_AFTER_S = 6.0
EFFECT_WITHIN_S = 10.0
TRAIN_WITHIN_S = 600.0
_BAD = ("canary", "canary-requests", "canary-rollback")


class CanaryGood(CanaryDrill):
    """The version in production under a new number: nothing is wrong with it, so it must get through."""

    name = "canary-good"
    summary = "a version as good as production is promoted"
    ends = PROMOTED


class CanarySlow(CanaryDrill):
    """A version whose answers take a quarter longer."""

    name = "canary-slow"
    summary = "a version that is 25 % slower is rolled back"
    promises: ClassVar = _BAD

    def version(self, context: Context, models: Place) -> str:
        """Slower by a quarter of what a request takes here in the median; a mean would tell of queues."""
        url = site_of(context).endpoints.prometheus
        span = round(self.steady_seconds(context.options) / 2)
        buckets = f'rate(http_request_duration_seconds_bucket{{job="serving",path="/predict"}}[{span}s])'
        median = prometheus.Prometheus(url).value(f"histogram_quantile(0.5, sum by (le) ({buckets}))")
        if median is None:
            raise StepFailed("Prometheus does not say how long a request takes here; see `sre slo`")
        context.note(median_s=median)
        return model.register(models, "slow", extra_s=SLOWER * median)


class CanaryErrors(CanaryDrill):
    """A version that fails on one image in two hundred."""

    name = "canary-errors"
    summary = "a version with five times the promised error ratio is rolled back"
    promises: ClassVar = _BAD

    def version(self, context: Context, models: Place) -> str:
        """Failing on a few of the images that users send, spread over all."""
        # Decoders differ in the last bit of a JPEG; a PNG, which every second image is, is the same for all of them.
        files = sorted(site_of(context).endpoints.bodies.rglob("*.png"))
        chosen = files[:: round(1 / FAILING_SHARE / 2)]
        context.note(failing=[path.name for path in chosen])
        return model.register(models, "failing", failing=[_pixels(path) for path in chosen])


class CanaryWrongClasses(CanaryDrill):
    """A version that takes each 3 for an 8, as fast and as sure as ever."""

    name = "canary-wrong-classes"
    summary = "a version that moves a tenth of the answers to another class is rolled back"
    promises: ClassVar = _BAD
    defect = "wrong-classes"


class CanaryTrainedDefect(CanaryDrill):
    """A version from a real training whose labels were wrong: it passes the training's gate, on labels as wrong."""

    name = "canary-trained-defect"
    summary = "a model that was trained with wrong labels is rolled back"
    promises: ClassVar = _BAD
    needs: ClassVar = CanaryDrill.needs | {Capability.TRAINING}

    def version(self, context: Context, models: Place) -> str:
        """Train with a dataset in which half of the 3s are labelled 8, and leave the promotion to the canary."""
        target = _local(context)
        dataset = mislabelled(newest_dataset(target.layout), "3", "8")
        command = [sys.executable, "-m", "system", "train"]
        context.ran(command)
        environment = {**system_environment(target.layout), "ML_DATASET": dataset, "ML_RELEASE_ALIAS": CANDIDATE}
        with (context.folder / "train.log").open("wb") as log:
            done = subprocess.run(
                command, cwd=target.layout.run, env=environment, stdout=log, stderr=log, timeout=TRAIN_WITHIN_S, check=False
            )
        if done.returncode:
            raise StepFailed(f"the training ended with {done.returncode} and registered nothing; see train.log")
        context.note(dataset=dataset)
        return models.named(CANDIDATE).number


class CanaryCrash(CanaryDrill):
    """A version without a defect whose process is killed."""

    name = "canary-crash"
    summary = "a version that crashes is rolled back"
    promises: ClassVar = _BAD

    def harm(self, context: Context) -> str:
        """SIGKILL, once the gate has seen it run."""
        context.target.clock.sleep(CRASHES_AFTER_S)
        context.note(victim=_canary(context))
        context.target.kill("canary-1")
        context.note(fault="SIGKILL canary-1", fault_at=context.target.clock.now())
        return ", SIGKILL canary-1"

    def prove_injected(self, context: Context) -> str:
        """The process that was there is not there any more."""
        victim = context.facts["victim"]

        def gone() -> tuple[bool | None, str]:
            now = _canary(context)
            return (True if now != victim else None), f"canary-1 is still {now}"

        context.effect(gone, within=EFFECT_WITHIN_S, what="canary-1 to be gone", every=0.1)
        return f"process {victim.partition('@')[0]} is gone"


class CanaryPrometheusDown(CanaryDrill):
    """A version without a defect, and nobody to say so: the gate must hold, and roll back in the end."""

    name = "canary-prometheus-down"
    summary = "a rollout that loses its eyes holds, then rolls back"
    counted = False
    promises: ClassVar = _BAD

    def preflight(self, context: Context) -> str:
        """As every canary drill, on a target that can stop Prometheus."""
        _local(context)
        return super().preflight(context)

    def harm(self, context: Context) -> str:
        """SIGSTOP of Prometheus, once the gate has seen the canary."""
        context.target.clock.sleep(CRASHES_AFTER_S)
        context.ledger.plan(Undo("resume-service", {"service": "prometheus"}, "resume prometheus"))
        _local(context).signal_service("prometheus", signal.SIGSTOP)
        context.note(fault="SIGSTOP prometheus", fault_at=context.target.clock.now())
        return ", SIGSTOP prometheus"

    def prove_injected(self, context: Context) -> str:
        """It does not answer."""
        url = site_of(context).endpoints.prometheus
        if prometheus.Prometheus(url).query("up") is not None:
            raise FaultWithoutEffect("the fault had no effect: prometheus still answers")
        return "prometheus does not answer"

    def conclude(self, context: Context) -> str:
        """As for every rollout, with a Prometheus that is back, so that the users' requests can be counted."""
        context.ledger.replay(context.target)
        return super().conclude(context)


def _local(context: Context) -> LocalTarget:
    """The target, which must be local: there Prometheus is a process, and a training one of its programs."""
    if not isinstance(context.target, LocalTarget):
        raise CannotRun(f"target {context.target.name} neither trains nor stops Prometheus; {context.drill} needs target local")
    return context.target


def _canary(context: Context) -> str:
    """Identity of the canary's process; empty when there is none."""
    split = context.target.router.split()
    return "" if split is None else split.replicas[0].identity


def mislabelled(dataset: Path, label: str, instead: str) -> str:
    """A copy of a dataset, consistent in itself, in which the darker half of a label's images has another; the copy's version.

    Half, because the training refuses a dataset that lacks a class; the darker one, because what is wrong must be there to learn.
    """
    document: dict[str, Any] = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    greys = {
        file["path"]: float(_pixels(dataset / file["path"]).mean()) for file in document["files"] if str(file["label"]) == label
    }
    middle = float(np.median(list(greys.values())))
    # The newest dataset is that with the last name, and it is what users send.
    version = f"0-mislabelled-{document['version']}"
    folder = dataset.parent / version
    for file in document["files"]:
        content = (dataset / file["path"]).read_bytes()
        if greys.get(file["path"], math.inf) < middle:
            file["label"] = int(instead)
            file["path"] = f"{instead}/{label}-{Path(file['path']).name}"
        (folder / file["path"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / file["path"]).write_bytes(content)
    document["version"] = version
    (folder / "manifest.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return version


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(path))
    if image is None:
        raise StepFailed(f"{path} is no image; train again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
