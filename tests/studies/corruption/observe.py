"""What people see of damage: the words and the exit status of the commands, and of the examination of restored objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from sre.cli.backup import app
from sre.dr import examination, vault
from sre.dr.retention import Health
from sre.errors import SreError
from sre.judges.loss import differences
from sre.targets.local.target import layout_of
from tests.studies.corruption.scene import Scene


@dataclass(frozen=True, slots=True)
class Seen:
    """What was told: whether anything is wrong, and all words."""

    alarm: bool
    words: str


Finder = Callable[[Scene], Seen]


def verify(home: Path, tools: Path, set_name: str | None, place: str = "store") -> Seen:
    """`sre backup verify`, of the newest when no set is named."""
    code, words, document = _command(home, tools, "verify", *([set_name] if set_name else []), "--from", place)
    said = [sentence for found in document.get("wrong", {}).values() for sentence in found]
    return Seen(code != 0, words or "; ".join(said))


def listed(home: Path, tools: Path) -> Seen:
    """`sre backup list`: its sentences, and of its table the sets that are not good or that a clock's jump keeps."""
    code, words, document = _command(home, tools, "list")
    rows = document.get("backups", [])
    said = [f"{row['id']} is {row['state']}" for row in rows if row["state"] != Health.GOOD]
    said += [f"{row['id']}: {why}" for row in rows for why in row["kept"] if "clock" in why]
    return Seen(code != 0, words or "; ".join([*document.get("wrong", []), *said]))


def in_store(scene: Scene) -> Seen:
    """Verification of the newer set."""
    return verify(scene.home, scene.tools, scene.item.id)


def in_newest(scene: Scene) -> Seen:
    """Verification of what is then the newest set."""
    return verify(scene.home, scene.tools, None)


def off_site(scene: Scene) -> Seen:
    """Verification of its copy in the second place."""
    return verify(scene.home, scene.tools, scene.item.id, "off-site")


def in_list(scene: Scene) -> Seen:
    """The list of both places."""
    return listed(scene.home, scene.tools)


def restored(meddle: Callable[[Path, Scene], None]) -> Finder:
    """The drill's comparison of restored objects with the set, after something was done to them."""

    def look(scene: Scene) -> Seen:
        layout = layout_of(scene.home, scene.tools)
        backups = layout.objects.rename(scene.home / "backed-up")
        vault.restore(backups / scene.store.name, scene.item.objects, layout.objects)
        meddle(layout.objects, scene)
        found = differences({}, examination.objects(scene.item, layout))
        return Seen(bool(found), "; ".join(found))

    return look


def _command(home: Path, tools: Path, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, words of an error, and the document."""
    environment = {"SRE_HOME": str(home), "SRE_TOOLS": str(tools)}
    done = CliRunner(env=environment).invoke(app, [*arguments, "--json"])
    if isinstance(done.exception, SreError):
        return int(done.exception.exit_code), str(done.exception), {}
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, "", json.loads(done.stdout) if done.stdout else {}
