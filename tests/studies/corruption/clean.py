"""Undamaged backups, again and again, while a system goes on: nothing may be told of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from sre.dr import backup, sets
from sre.dr.backup_plan import PLAN, load
from sre.targets.local.layout import Layout
from tests.studies.corruption import observe

LOOKS = 5  # after each growth: both places, of the newest set and of the oldest, and the list
_OBJECTS, _BYTES, _ROWS = 20, 50_000, 2000


@dataclass(frozen=True, slots=True)
class Look:
    """One look at what is whole: after what, at what, and whether there was an alarm, with its words."""

    after: str
    at: str
    alarm: bool
    words: str


def run(layout: Layout, rounds: int) -> Iterator[list[Look]]:
    """Let a system grow, back it up and prune, and look at everything after each.

    Args:
        layout: of the running system, which has a backup set.
        rounds: how often it grows.

    Yields:
        The looks of a round, `LOOKS` of them.
    """
    for number in range(rounds):
        after = _grow(layout, number)
        oldest, *_, newest = sets.listing(sets.places(layout.home)["store"]).sets
        looks = {f"{one} in {place}": (one, place) for place in ("store", "off-site") for one in (newest, oldest)}
        found = {at: observe.verify(layout.home, layout.tools, *look) for at, look in looks.items()}
        found["list"] = observe.listed(layout.home, layout.tools)
        yield [Look(after, at, seen.alarm, seen.words) for at, seen in found.items()]


def _grow(layout: Layout, number: int) -> str:
    """New objects and rows, then a set, and every third time what prune removes; in words."""
    chance, folder = random.Random(number), layout.objects / "ml-datasets" / f"grown-{number}"
    folder.mkdir()
    for index in range(_OBJECTS):
        (folder / f"part-{index}").write_bytes(chance.randbytes(_BYTES))
    with psycopg.connect(layout.dsn("drills", "drills"), passfile=str(layout.secrets / "passfile")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS grown (round int, n int, words text)")
        connection.execute("INSERT INTO grown SELECT %s, n, md5(n::text) FROM generate_series(1, %s) n", [number, _ROWS])
    item = backup.create(layout, "full" if number % 4 == 0 else "diff", "manual" if number % 2 else "daily")
    gone = backup.prune(layout, load(PLAN), time.time()) if number % 3 == 2 else []
    return f"{item.id}, {len(gone)} things pruned"
