"""The vault alone: SIGKILL while sets are written into two folders, at random moments. It has no database and takes a second.

Earlier sets stay whole, a half one never counts, the next one succeeds. `python -m tests.studies.backup_kill.folders FOLDER SEED`
is the process that is killed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sre.dr import sets, vault
from sre.dr.sets import BackupSet, Database, DatabaseBackup

OBJECTS, BYTES = 24, 200_000
FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)
WITHIN_S = 60.0


def back_up(source: Path, store: Path, off_site: Path) -> BackupSet:
    """One whole backup, as the command makes it, without its database."""
    with vault.hold(store, "study", WITHIN_S), vault.hold(off_site, "study", WITHIN_S):
        began = FIRST + timedelta(days=len(list((store / sets.SETS).glob("[!.]*"))))
        found = vault.back_up(source, store)
        item = BackupSet(
            id=sets.set_id(began, "full"), kind="full", reason="manual", began=began, ended=began, objects=found, tables={},
            registry={}, tools={},
            database=Database(
                stanza="study", system_id="1", marker="study", marker_wal="0" * 24,
                backups={"store": DatabaseBackup(label=f"{began:%Y%m%d-%H%M%S}F", timeline=1, start_lsn="0/1", stop_lsn="0/2")},
            ),
        )  # fmt: skip
        if wrong := vault.verify(store, found):
            raise AssertionError(wrong)
        sets.write(store, item)
        sets.write_check(store, item, [], began.timestamp())
        sets.copy(store, off_site, item)
        return item


def fill(source: Path, seed: int) -> dict[str, bytes]:
    """New content for a third of the objects; what every object holds by then, by `bucket/key`."""
    chance = random.Random(seed)
    for number in range(OBJECTS):
        path = source / "ml-datasets" / f"part-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or chance.random() < 1 / 3:
            path.write_bytes(chance.randbytes(BYTES))
    return {f"ml-datasets/{path.name}": path.read_bytes() for path in (source / "ml-datasets").iterdir()}


@dataclass(frozen=True, slots=True)
class Killed:
    """One kill: after how long, and how many whole sets there were in each place then."""

    after_s: float
    store: int
    off_site: int


def kill_once(folder: Path, seed: int, within_s: float) -> Killed:
    """Begin backups in a process of their own, kill it at a random moment, and look at what is left.

    Args:
        folder: may hold what earlier calls left.
        seed: of contents and moment.
        within_s: the kill comes before.

    Raises:
        AssertionError: a set is damaged, cannot be restored, or the next backup fails.
    """
    source, places = folder / "source", (folder / "store", folder / "off-site")
    chance, content = random.Random(seed), fill(source, seed)
    before = back_up(source, *places)
    command = [sys.executable, "-m", "tests.studies.backup_kill.folders", str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "begun\n"
        time.sleep(after := chance.uniform(0.0, within_s))
        child.send_signal(signal.SIGKILL)
        child.wait(WITHIN_S)
    whole = []
    for place in places:
        found = sets.listing(place)
        assert not found.damaged, found.damaged
        for item in found.sets.values():
            assert not (wrong := vault.verify(place, item.objects)), wrong
        with tempfile.TemporaryDirectory(dir=folder) as into:
            vault.restore(place, before.objects, Path(into))
            assert {name: (Path(into) / name).read_bytes() for name in before.objects} == content
        whole.append(len(found.sets))
    after_kill = back_up(source, *places)  # what was held by the dead is free, what it left half is no hindrance
    assert after_kill.id > before.id
    return Killed(after, *whole)


def main(folder: Path, seed: int) -> None:
    """Write sets until killed."""
    print("begun", flush=True)  # noqa: T201 - whoever kills waits for it
    for round_ in range(1_000_000):
        fill(folder / "source", seed * 1000 + round_)
        back_up(folder / "source", folder / "store", folder / "off-site")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
