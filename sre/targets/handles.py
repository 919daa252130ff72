"""From a handle to its target: how another process, or a later one, gets hold of the system that a run was about."""

from __future__ import annotations

from pathlib import Path

from sre.errors import UsageError
from sre.targets.base import Target


def attach(handle: str, tools: Path, *, lost: bool = False) -> Target:
    """The target of a handle, which must be up.

    Args:
        handle: as `Target.handle` gives it.
        tools: folder of unpacked programs.
        lost: whether a cluster may be gone, to be made again.

    Raises:
        UsageError: the handle names no known kind of target.
        TargetUnavailable: nothing runs there.
    """
    kind, _, home = handle.partition(":")
    if kind == "local":
        from sre.targets.local import target as local  # noqa: PLC0415 - each target's imports only where it is used

        return local.attach(Path(home), tools)
    if kind == "kubernetes":
        from sre.targets.kubernetes import target as kubernetes  # noqa: PLC0415

        return kubernetes.attach(Path(home), tools, lost=lost)
    raise UsageError(f"target handle {handle} is not known; there are local:HOME and kubernetes:HOME")
