from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sre.dr import sets
from tests.studies.backup_kill import folders
from tests.studies.backup_kill.moments import PHASES, VICTIMS, Seen, look, phase, planned

NOTHING: dict[sets.Place, frozenset[str]] = {"store": frozenset(), "off_site": frozenset()}
BEGUN = Seen("sre backup create, process 7", NOTHING, NOTHING, NOTHING)


def test_kills_are_their_seeds_and_spread_over_victims_kinds_and_moments() -> None:
    kills = [planned(seed) for seed in range(300)]
    assert kills == [planned(seed) for seed in range(300)]
    assert Counter(kill.victim for kill in kills) == dict.fromkeys(VICTIMS, 100)
    assert Counter(kill.kind for kill in kills)["full"] in range(110, 190)
    shares = [share for kill in kills for share in islice(kill.shares(), 2)]
    assert shares == [share for kill in kills for share in islice(kill.shares(), 2)]
    assert len(set(shares)) == 600
    for tenth in range(10):
        assert 35 < sum(tenth <= share * 10 < tenth + 1 for share in shares) < 85


def test_a_phase_is_the_first_thing_that_is_not_there() -> None:
    here: dict[sets.Place, frozenset[str]] = {"store": frozenset({"new"}), "off_site": frozenset()}
    both: dict[sets.Place, frozenset[str]] = {"store": frozenset({"new"}), "off_site": frozenset({"new"})}
    steps = [replace(BEGUN, holder="sre backup create, process 17"), BEGUN]
    steps += [replace(BEGUN, labels=labels) for labels in (here, both)]
    steps += [replace(steps[-1], sets=found) for found in (here, both)]
    steps += [replace(steps[-1], good=good) for good in (here, both)]
    assert tuple(phase(BEGUN, seen, 7) for seen in steps) == PHASES


def test_what_lies_there_is_read_from_the_places(tmp_path: Path) -> None:
    places = sets.places(tmp_path)
    assert look(tmp_path) == Seen("", NOTHING, NOTHING, NOTHING)
    folders.fill(tmp_path / "source", 1)
    item = folders.back_up(tmp_path / "source", places["store"], places["off_site"])
    for label, name in (("whole", "backup.manifest"), ("half", "backup.manifest.copy")):
        (places["store"] / "pgbackrest" / "backup" / "ml" / label).mkdir(parents=True)
        (places["store"] / "pgbackrest" / "backup" / "ml" / label / name).touch()
    seen = look(tmp_path)
    assert seen.labels == {"store": {"whole"}, "off_site": set()}
    assert seen.sets == {"store": {item.id}, "off_site": {item.id}}
    assert seen.good == {"store": {item.id}, "off_site": set()}
    assert seen.holder.startswith("study, process ")


def test_a_file_cut_short_ends_the_look(tmp_path: Path) -> None:
    places = sets.places(tmp_path)
    folders.fill(tmp_path / "source", 1)
    item = folders.back_up(tmp_path / "source", places["store"], places["off_site"])
    file = places["store"] / "sets" / f"{item.id}.json"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(AssertionError, match="is damaged"):
        look(tmp_path)
