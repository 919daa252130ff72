"""The short form of the study: every kind that is quickly found, and a sample of those that need every file read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.dr import backup
from sre.targets.local.target import LocalTarget
from tests.studies.corruption import observe
from tests.studies.corruption.kinds import KINDS, Kind, outcome
from tests.studies.corruption.report import LEAST_KINDS
from tests.studies.corruption.scene import Scene, detach

SLOW = 4
CHOSEN = [
    *(kind for kind in KINDS if not kind.slow),
    *random.Random(20261128).sample([kind for kind in KINDS if kind.slow], SLOW),
]


@pytest.fixture(scope="module")
def scene(system: LocalTarget, open_module_folder: Path) -> Scene:
    base, item = backup.create(system.layout, "full"), backup.create(system.layout, "diff")
    return detach(system.layout, open_module_folder / "scene", base, item)


@pytest.fixture
def home(open_module_folder: Path) -> Iterator[Path]:
    yield open_module_folder / "copy"
    shutil.rmtree(open_module_folder / "copy", ignore_errors=True)


def test_no_kind_is_counted_twice() -> None:
    names = {(kind.part, kind.name) for kind in KINDS}
    assert len(names) == len(KINDS) > LEAST_KINDS
    assert len({(kind.part, kind.name) for kind in CHOSEN}) == len(CHOSEN)


@pytest.mark.local
@pytest.mark.parametrize("kind", CHOSEN, ids=lambda kind: f"{kind.part}: {kind.name}")
def test_damage_is_found_and_named(scene: Scene, home: Path, kind: Kind) -> None:
    seen = outcome(kind, scene, home)
    assert seen.alarm, seen
    assert not seen.unnamed, seen


@pytest.mark.local
def test_what_is_not_damaged_is_not_found(scene: Scene, home: Path) -> None:
    for finder in (observe.in_store, observe.in_list):
        seen = outcome(Kind("nothing", "nothing", lambda _: ("a name",), finder), scene, home)
        assert (seen.alarm, seen.unnamed, seen.found) == (False, ["a name"], False)
        shutil.rmtree(home)


@pytest.mark.local
def test_the_scene_itself_was_never_touched(scene: Scene) -> None:
    for look in (observe.in_store(scene), observe.off_site(scene), observe.in_list(scene)):
        assert look == observe.Seen(alarm=False, words="")
