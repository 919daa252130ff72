"""The protocols hold no code; what is tested is that mypy and every target agree on them. Behaviour: tests/contract."""

from __future__ import annotations

import pytest

from sre.drills.world import World
from sre.load.worker import LocustLoad
from sre.targets.base import Capability, Load, Observers, Target
from sre.targets.local.target import LocalTarget
from sre.targets.memory import MemoryLoad, MemoryTarget


def test_capabilities_have_the_names_that_messages_show() -> None:
    assert [str(capability) for capability in Capability] == ["replicas", "alerts", "backups", "training", "database-cluster"]


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [
        (Target, MemoryTarget),
        (Target, LocalTarget),
        (Observers, MemoryTarget),
        (Observers, World),
        (Load, MemoryLoad),
        (Load, LocustLoad),
    ],
)
def test_every_implementation_has_every_member(protocol: type, kind: type) -> None:
    missing = {name for name in vars(protocol) if not name.startswith("_") and not hasattr(kind, name)}
    assert missing <= {"clock"}  # an attribute of the instance
