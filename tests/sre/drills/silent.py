"""A local system that is only a layout: nothing of it runs."""

from __future__ import annotations

from pathlib import Path

from sre.targets.local import layout as layouts
from sre.targets.local.layout import Layout
from sre.targets.local.target import LocalTarget
from sre.targets.simulation import VirtualClock


def silent(folder: Path, **ports: int) -> LocalTarget:
    """A system in its own time, none of whose services answers but those at the given ports. It holds one dataset, empty."""
    every = dict.fromkeys((*layouts._SINGLE_PORTS, "serving-1"), 1)
    target = LocalTarget(Layout(folder, folder, every | ports, ("serving-1",), None, "all"))
    target.clock = VirtualClock()
    manifest = target.layout.objects / "ml-datasets" / "1" / "manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.touch()
    return target
