"""Begin and end the system of a cluster."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sre.clock import Clock, SystemClock
from sre.config import PROJECT
from sre.errors import CannotRun, StepFailed, UsageError
from sre.targets.backups import Say
from sre.targets.kubernetes import namespaces, off_site, rollout, secrets, velero_install
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.kubectl import Kubectl
from sre.targets.kubernetes.place import OVERLAYS, Place
from sre.targets.kubernetes.target import KubernetesTarget
from sre.targets.kubernetes.velero_install import Store

IMAGES = PROJECT / "k8s" / "images"
BUILD_WITHIN_S = 1200
_WHEELS = IMAGES / "training" / "wheels"
# One try at the extra index: where it cannot be reached, a wheel that is already at hand is taken at once.
_TORCH = (
    "--quiet", "--no-deps", "--require-hashes", "--retries=0", f"--find-links={_WHEELS}", f"--dest={_WHEELS}",
    "--extra-index-url=https://download.pytorch.org/whl/cpu", f"--requirement={PROJECT / 'requirements' / 'torch.lock'}",
)  # fmt: skip
# A first model is trained meanwhile.
UP_WITHIN_S = 900.0
LOOK_EVERY_S = 2.0
PROTECTED = "prod"


def check_context(context: str, typed: str | None) -> None:
    """A context that looks like production wants its name typed.

    Raises:
        UsageError: it was not, or another one was.
    """
    if PROTECTED in context.lower() and typed != context:
        raise UsageError(f"context {context!r} looks like production; add --yes-i-mean {context}")


def build(template: str, say: Say) -> None:
    """Build every image of the overlay `dev`.

    Args:
        template: command with {tag}, {dockerfile} and {context}.
        say: is told of each.

    Raises:
        UsageError: the template names something else.
        CannotRun: a build failed, or took too long.
    """
    builds = {}
    for dockerfile in sorted(IMAGES.glob("*/Dockerfile")):
        tag = f"localhost/ml-sre/{dockerfile.parent.name}:dev"
        try:
            builds[tag] = [word.format(tag=tag, dockerfile=dockerfile, context=PROJECT) for word in shlex.split(template)]
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"SRE_IMAGE_BUILD is {template!r}: {error!r}; it knows {{tag}}, {{dockerfile}}, {{context}}"
            ) from error
    # What the Dockerfile of `training` copies.
    _made("torch's wheel", [sys.executable, "-m", "pip", "download", *_TORCH])
    for tag, words in builds.items():
        say(f"image {tag}")
        _made(tag, words)


def _made(what: str, words: Sequence[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=BUILD_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRun(f"{what} cannot be built: {error}; correct SRE_IMAGE_BUILD or take --images registry") from error
    if done.returncode:
        raise CannotRun(f"{what} cannot be built: {(done.stderr or done.stdout).strip()[-1000:]}")


def up(where: Place, tools: Path, api: Api, say: Say, outside: Store | None = None) -> KubernetesTarget:
    """Apply an overlay and wait until all of it runs. What runs already as applied stays as it is.

    Args:
        where: home, cluster and overlay.
        tools: folder of unpacked programs.
        api: of the cluster.
        say: receives one line per change.
        outside: where the database has a second repository; None for none, or for the one that it has.

    Raises:
        UsageError: there is no such overlay.
        CannotRun: the cluster refuses an object, or something of it failed or did not run within the deadline.
    """
    folder = OVERLAYS / where.overlay
    if not (folder / "kustomization.yaml").exists():
        there = sorted(overlay.name for overlay in OVERLAYS.iterdir())
        raise UsageError(f"overlay {where.overlay!r} does not exist; there are {', '.join(there)}")
    kubectl = Kubectl(tools, where.kubeconfig, where.context)
    objects = kubectl.render(folder)
    # The folder first: what was begun can then be found and ended whatever happens next.
    where.write()
    kubectl.apply(one for one in objects if one["kind"] == "Namespace")
    # Those that the manifests name; what the cluster has is kept.
    existing = namespaces.held(api)
    made = [*secrets.render(existing)]
    objects = _with_second_repository(objects, made, existing, outside)
    kubectl.apply(made)
    namespaces.hand_out(where, made)
    say(f"{len(objects)} objects of overlay {where.overlay} go to {where.context}")
    kubectl.apply(objects)
    wait_until_all_run(api, objects, SystemClock(), say)
    return KubernetesTarget(where, api, tools=tools)


def join(where: Place, api: Api) -> None:
    """Learn what drills need of a system that runs already, from two of its Secrets. Nothing of it is changed.

    Raises:
        TargetUnavailable: the cluster does not answer, refuses, or holds no such system.
    """
    names = (secrets.DRILLS, (secrets.DRILLS[0], "authority"))
    found = [api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}") for namespace, name in names]
    where.write()
    namespaces.hand_out(where, found)


def _with_second_repository(
    objects: list[dict[str, Any]], made: list[dict[str, Any]], existing: Sequence[Mapping[str, Any]], outside: Store | None
) -> list[dict[str, Any]]:
    """The objects with what the database needs for it; its Secret goes to those that are made."""
    there = off_site.found(existing)
    if outside is None:
        return objects if there is None else off_site.stamped(objects, there)
    if there is None:
        off_site.check_unused(outside)
    made.append(off_site.secret(outside, existing))
    # A policy for a pod that has none closes what was open.
    closed = any(one["kind"] == "NetworkPolicy" and one["metadata"]["namespace"] == off_site.NAMESPACE for one in objects)
    return [*off_site.stamped(objects, made[-1]), *([off_site.policy(outside)] if closed else [])]


def down(where: Place, tools: Path, api: Api, say: Say) -> None:
    """Delete the system's namespaces with all that is in them, data too, Velero if `sre up` installed it, and our folder of it.

    Raises:
        UndoIncomplete: they are not gone within the deadline.
    """
    namespaces.delete(Kubectl(tools, where.kubeconfig, where.context), api, SystemClock(), say)
    velero_install.uninstall(tools, where.kubeconfig, api, say)
    shutil.rmtree(where.folder, ignore_errors=True)


def wait_until_all_run(api: Api, objects: Sequence[Mapping[str, Any]], clock: Clock, say: Say) -> None:
    """Wait for every Job, StatefulSet and Deployment among these objects.

    Raises:
        CannotRun: one failed.
        StepFailed: one did not run within the deadline; the message says what each waits for.
    """
    wanted = {_key(one) for one in objects if one["kind"] in rollout.LISTS}
    deadline = clock.now() + UP_WITHIN_S
    told: set[str] = set()
    while True:
        waiting = _waiting(api, wanted)
        namespaces.tell(told, waiting, say)
        if not waiting:
            return
        if clock.now() > deadline:
            raise StepFailed(f"not all of it runs within {UP_WITHIN_S:.0f} s (last seen: {'; '.join(sorted(waiting))})")
        clock.sleep(LOOK_EVERY_S)


def _waiting(api: Api, wanted: Collection[tuple[str, str, str]]) -> set[str]:
    found = {}
    for kind, namespace in {(kind, namespace) for kind, namespace, _ in wanted}:
        for one in api.get(rollout.LISTS[kind].format(namespace))["items"]:
            # The API leaves the kind out of what it lists.
            found[_key({**one, "kind": kind})] = {**one, "kind": kind}
    # A Job that is not there has completed: it is deleted some minutes later.
    gone = {f"{kind} {name} is not there" for kind, _, name in wanted - found.keys() if kind != "Job"}
    return gone | {words for key in wanted & found.keys() if (words := rollout.missing(found[key]))}


def _key(thing: Mapping[str, Any]) -> tuple[str, str, str]:
    return thing["kind"], thing["metadata"]["namespace"], thing["metadata"]["name"]
