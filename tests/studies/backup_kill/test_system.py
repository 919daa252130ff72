"""The short form of the study: a kill of each victim on a real cluster, and damage made by hand that it must see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.dr import sets, vault
from sre.errors import ExitCode
from tests.studies.backup_kill.moments import VICTIMS, planned
from tests.studies.backup_kill.report import conclusion
from tests.studies.backup_kill.study import Study
from tests.studies.backup_kill.system import System, begun, differences, payload

pytestmark = [pytest.mark.local, pytest.mark.timeout(1200)]
KILLS = 3


@pytest.fixture(scope="module")
def system(programs: Path) -> Iterator[System]:
    with begun(programs, lambda _: None) as running:
        yield running


def test_earlier_backups_survive_a_kill_of_each_victim(system: System) -> None:
    took = system.create("full")
    study = Study(system, {"full": took, "diff": took}, lambda _: None)
    results = [study.run(planned(seed), thorough=seed == KILLS - 1) for seed in range(KILLS)]
    assert [one.victim for one in results] == list(VICTIMS)
    assert conclusion(results)[0] is ExitCode.KEPT, results


def test_a_damaged_earlier_set_is_seen(system: System) -> None:
    root = sets.places(system.layout.home)["off_site"]
    found = sets.listing(root).sets
    item = found[max(found)]
    name, ref = next(iter(item.objects.items()))
    vault.path_of(root, ref.sha256).write_bytes(b"altered")
    wrong = system.wrong("off_site", [item.id, "20200101T000000Z-full"], thorough=False)
    assert any(name in sentence for sentence in wrong)
    assert "off_site: set 20200101T000000Z-full is gone" in wrong


def test_rows_and_objects_are_compared_with_the_ledger() -> None:
    rows, objects = [(n, payload(n)) for n in range(3)], {"ml-datasets/a": b"a", "ml-datasets/b": b"b"}
    assert differences(3, objects, rows, objects) == []
    assert differences(4, objects, rows, objects) == ["3 rows are not the 4 of the ledger"]
    assert differences(3, objects, [*rows[:2], (2, payload(3))], objects) == ["3 rows are not the 3 of the ledger"]
    assert differences(3, objects, rows, {"ml-datasets/a": b"x"}) == ["ml-datasets/a, ml-datasets/b are not as in the ledger"]
