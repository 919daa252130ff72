"""A cluster with rows and objects in it, and a ledger of them that lies in no place which a kill can reach."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from sre.dr import backup, backup_plan, place, sets, vault
from sre.dr.sets import Place
from sre.errors import StepFailed
from sre.targets.local import processes, target
from sre.targets.local.layout import Layout
from tests.studies.backup_kill.moments import Victim

ENDS_WITHIN_S = 1200.0
ROWS, OBJECTS, OBJECT_BYTES = 200, 32, 300_000
# A cluster alone has no MLflow; these are the tables that a backup reads.
_REGISTRY = (
    "CREATE TABLE model_versions (name text, version int, current_stage text)",
    "CREATE TABLE model_version_tags (name text, version int, key text, value text)",
    "CREATE TABLE registered_model_aliases (name text, alias text, version int)",
)


def payload(number: int) -> str:
    """What row `number` holds."""
    return hashlib.sha256(str(number).encode()).hexdigest()


@dataclass(slots=True)
class System:
    """A running cluster.

    Attributes:
        layout: of it.
        said: gets what the commands say.
        rows: how many there are.
        objects: what each holds, by `bucket/key`.
        ledger: rows and objects by the id of the set that holds them.
    """

    layout: Layout
    said: Path
    rows: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    ledger: dict[str, tuple[int, dict[str, bytes]]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the tables. Raises psycopg.Error."""
        with self._connect("mlflow") as registry:
            for statement in _REGISTRY:
                registry.execute(statement)
        with self._connect("drills") as drills:
            drills.execute("CREATE TABLE kept (n int PRIMARY KEY, payload text NOT NULL)")

    def write(self, seed: int) -> None:
        """Some more rows, and new content for a third of the objects. Raises psycopg.Error."""
        with self._connect("drills") as drills, drills.cursor() as cursor:
            cursor.executemany("INSERT INTO kept VALUES (%s, %s)", [(n, payload(n)) for n in range(self.rows, self.rows + ROWS)])
        self.rows += ROWS
        chance = random.Random(seed)
        for number in range(OBJECTS):
            name = f"ml-datasets/study/part-{number}"
            if name not in self.objects or chance.random() < 1 / 3:
                self.objects[name] = chance.randbytes(OBJECT_BYTES)
                vault.write_whole(self.layout.objects / name, [self.objects[name]], mode=0o644)

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin `sre backup`, as the leader of its own process group."""
        environment = {
            **os.environ,
            "SRE_HOME": str(self.layout.home),
            "SRE_TOOLS": str(self.layout.tools),
            "SRE_SYSTEM": str(self.layout.home),  # so that it ends with the system when the study is interrupted
            "NO_COLOR": "1",
        }
        with self.said.open("wb") as said:
            return subprocess.Popen(
                [str(Path(sys.executable).with_name("sre")), "backup", *arguments], env=environment,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def end(self, command: subprocess.Popen[bytes]) -> int:
        """Wait for a command and note in the ledger which sets hold what was there meanwhile; its exit status."""
        status = command.wait(ENDS_WITHIN_S)
        for name in sets.listing(self._root("store")).sets.keys() - self.ledger.keys():
            self.ledger[name] = (self.rows, dict(self.objects))
        return status

    def create(self, kind: str) -> float:
        """Make a whole backup of what is there now; how long it took, s.

        Raises:
            StepFailed: it failed; the message holds its last words.
        """
        began = time.monotonic()
        if status := self.end(self.begin("create", "--kind", kind)):
            raise StepFailed(f"`sre backup create --kind {kind}` ended with {status}; its last words: {self.words()}")
        return time.monotonic() - began

    def words(self) -> str:
        """The last that a command said."""
        return " ".join(self.said.read_text(encoding="utf-8", errors="replace").split())[-600:]

    def shown(self) -> tuple[dict[tuple[str, str], str], list[str]]:
        """What `sre backup list` shows: the state by place and id, and what it says is wrong."""
        status = self.end(self.begin("list", "--json"))
        document = json.loads(self.said.read_text(encoding="utf-8"))
        states = {(row["place"], row["id"]): row["state"] for row in document["backups"]}
        return states, [f"`sre backup list` ended with {status}: {'; '.join(document['wrong'])}"] * bool(status)

    def prune(self) -> None:
        """As every night, by the plan of the project. Raises StepFailed and EvidenceDamaged."""
        backup.prune(self.layout, backup_plan.load(), time.time())

    def strike(self, command: subprocess.Popen[bytes], victim: Victim) -> list[str]:
        """SIGKILL to a victim of a command that the caller has stopped; the names of those hit. What is left of it goes on."""
        process = psutil.Process(command.pid)
        if victim == "store":
            found = processes.of_system(self.layout.home)
            hit = [name for one in found if (name := _kill(one, only="pgbackrest"))]
            hit = hit or [_kill(process)]  # pgBackRest does not write right now, so the command does, or is about to
        else:
            children = process.children(recursive=True) if victim == "tree" else []
            hit = [name for one in (process, *children) if (name := _kill(one))]
        os.kill(command.pid, signal.SIGCONT)
        return hit

    def wrong(self, where: Place, names: list[str], *, thorough: bool) -> list[str]:
        """What the product's check finds in sets of a place, and what it would find in others too.

        Args:
            where: the place.
            names: of the sets, oldest first.
            thorough: the whole check for each; else for the newest, which reads all of the repository, and of the others their
                objects and whether their database backups are listed.
        """
        found = sets.listing(self._root(where)).sets
        gone = [f"{where}: set {name} is gone" for name in names if name not in found]
        there = [found[name] for name in names if name in found]
        whole, rest = (there, []) if thorough else (there[-1:], there[:-1])
        listed = {item.label for item in backup.stanza(self.layout).backups(backup.REPOSITORIES[where])}
        for item in rest:
            gone += [f"{where}: {item.id}: {sentence}" for sentence in vault.verify(self._root(where), item.objects)]
            if item.database.backups[where].label not in listed:
                gone.append(f"{where}: {item.id}: its database backup is not listed")
        return gone + [
            f"{where}: {item.id}: {sentence}" for item in whole for sentence in backup.verify(self.layout, item, where)
        ]

    def restored(self, name: str, where: Place, say: Callable[[str], None]) -> list[str]:
        """Restore a set into a new place and compare rows and objects with the ledger; a sentence for each difference."""
        item, home = sets.listing(self._root(where)).sets[name], self.layout.home / "restored" / "study"
        rows, objects = self.ledger[name]
        try:
            own = place.restore(item, self.layout, home, place=where, parts="database", say=say).target.layout
            with psycopg.connect(own.dsn("postgres", "drills"), passfile=str(own.secrets / "passfile")) as connection:
                found = connection.execute("SELECT n, payload FROM kept ORDER BY n").fetchall()
            vault.restore(self._root(where), item.objects, home / "objects")
            read = {name: (home / "objects" / name).read_bytes() for name in item.objects}
        finally:
            target.down(home, purge=True)
            shutil.rmtree(home, ignore_errors=True)
        return [f"{where}: {name}: {sentence}" for sentence in differences(rows, objects, found, read)]

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        dsn = self.layout.dsn(database, database)
        return psycopg.connect(dsn, passfile=str(self.layout.secrets / "passfile"), connect_timeout=10)

    def _root(self, where: Place) -> Path:
        return sets.places(self.layout.home)[where]


@contextmanager
def begun(tools: Path, say: Callable[[str], None]) -> Iterator[System]:
    """A cluster in a folder of its own, prepared; nothing of it is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="backup-kill-"))
    folder.chmod(0o755)  # PostgreSQL's account must reach it
    try:
        running, _ = target.up(folder / "home", tools, parts="cluster", say=say)
        system = System(running.layout, folder / "said")
        system.prepare()
        system.write(0)
        yield system
    finally:
        target.down(folder / "home", purge=True)
        shutil.rmtree(folder, ignore_errors=True)


def differences(
    rows: int, objects: Mapping[str, bytes], found: Sequence[tuple[object, ...]], read: Mapping[str, bytes]
) -> list[str]:
    """A sentence for rows and one for objects that are not those of the ledger.

    Args:
        rows: the ledger's number of them.
        objects: the ledger's, by `bucket/key`.
        found: number and payload, in order.
        read: objects as they were restored.
    """
    wrong = []
    if list(found) != [(n, payload(n)) for n in range(rows)]:
        wrong.append(f"{len(found)} rows are not the {rows} of the ledger")
    if read != objects:
        other = sorted(name for name in read.keys() | objects.keys() if read.get(name) != objects.get(name))
        wrong.append(f"{', '.join(other)} are not as in the ledger")
    return wrong


def _kill(process: psutil.Process, only: str | None = None) -> str:
    """The name of what was killed, empty when it was gone or has another name than the only one wanted."""
    try:
        name = process.name()
        if only in (None, name):
            process.kill()
            return name
    except psutil.NoSuchProcess:
        pass
    return ""
