"""The nine points that a restore must pass before anyone may say that it worked; arithmetic on what `examination` noted.

Each point judges one fact. A fact that is not there, or that says why it could not be had, passes nothing.

    {"trouble": "..."}      in place of any fact: it could not be had
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sre.judges.loss import differences
from sre.units import Unit, show, show_bound

RTO_AIM_S, RPO_AIM_S = 300.0, 60.0
_SHOWN = 3

Fact = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """One point: its number from 1, its name, whether it passed, and why."""

    number: int
    name: str
    passed: bool
    words: str

    def __str__(self) -> str:
        return f"{self.number} {self.name}: {'passed' if self.passed else 'FAILED'}, {self.words}"


def points(facts: Mapping[str, Any]) -> tuple[Point, ...]:
    """All nine, in order.

    Args:
        facts: by name, as the functions below tell; others are passed over.
    """
    return tuple(_point(number, *row, facts) for number, row in enumerate(_POINTS, 1))


def manifest(fact: Fact) -> tuple[list[str], str]:
    """`wrong`: sentences of the verification of the set, made before the restore; `files`: objects that it read."""
    return list(fact["wrong"]), f"every file of the set was read again, {fact['files']:,} objects among them"


def place(fact: Fact) -> tuple[list[str], str]:
    """`found`: what lay there before; `reaches`: what ties it to the running system; `looked`: how many processes there are."""
    wrong = [f"{name} was there before the restore" for name in fact["found"]]
    wrong += list(fact["reaches"])
    if not fact["looked"]:
        wrong.append("it has no process to look at")
    return wrong, f"nothing was there before; {fact['looked']} processes and their settings know nothing of the running system"


def target(fact: Fact) -> tuple[list[str], str]:
    """`marker` asked for, `words` of the server, `system`, `timeline` of the copy, `of_system`, `from_timeline` of the set."""
    wrong = []
    if f'restore point "{fact["marker"]}"' not in fact["words"]:
        wrong.append(f"marker {fact['marker']} was asked for, the server says: {fact['words'] or 'nothing'}")
    if fact["system"] != fact["of_system"]:
        wrong.append(f"it is a copy of database system {fact['system']}, the set is of {fact['of_system']}")
    if fact["timeline"] <= fact["from_timeline"]:
        wrong.append(f"it writes on timeline {fact['timeline']}, which it should have left")
    return wrong, f"{fact['words']}, timeline {fact['timeline']}"


def physical(fact: Fact) -> tuple[list[str], str]:
    """`relations`: what pg_amcheck found in the running copy; `pages`: what pg_checksums found once it was stopped."""
    return [*fact["relations"], *fact["pages"]], "pg_amcheck found every row in every index, pg_checksums every page whole"


def content(tables: Fact, objects: Fact) -> tuple[list[str], str]:
    """Both as in `judges.loss.differences`."""
    found = list(differences(tables, objects))
    if not tables or not objects["expected"]:
        return ["there was nothing to compare"], ""
    return found, f"{len(tables)} tables and {objects['expected']:,} objects are as the set says"


def structure(fact: Fact) -> tuple[list[str], str]:
    """`wrong`: differences to the running system, sequences behind their columns; `databases`, `roles`, `sequences`: counts."""
    wrong = list(fact["wrong"])
    wrong += [f"there are no {kind} to compare" for kind in ("databases", "roles") if not fact[kind]]
    counts = f"{fact['databases']} databases, {fact['roles']} roles"
    return wrong, f"{counts} and their extensions are the same, {fact['sequences']} sequences are ahead of their columns"


def registry(fact: Fact) -> tuple[list[str], str]:
    """`wrong`: sentences; `loaded`: models that an alias names, as MODEL VERSION; `files`: of them, fetched through MLflow."""
    wrong = list(fact["wrong"])
    if not fact["loaded"] or not fact["files"]:
        wrong.append("no model of an alias was loaded")
    return wrong, f"{', '.join(fact['loaded'])}: {fact['files']} files fetched through its MLflow, each as registered"


def prediction(fact: Fact) -> tuple[list[str], str]:
    """`recorded`, `repeated`: bits, None where there are none, and `why` not; `logged`: the restored log holds the new one."""
    if fact["recorded"] is None or fact["recorded"] != fact["repeated"]:
        return [fact["why"] or "the repeated prediction has other bits than the recorded one"], ""
    wrong = [] if fact["logged"] else ["the repeated prediction never reached the log of the place"]
    return wrong, "a recorded prediction was repeated bit for bit, and recorded in the place"


def time(fact: Fact) -> tuple[list[str], str]:
    """`rto`, `rpo`: s, None where not measured; `rto_bound`, `rpo_bound`; `gaps`: stamped markers that are not as written."""
    wrong, words = [], []
    for kind, aim in (("rto", RTO_AIM_S), ("rpo", RPO_AIM_S)):
        seconds, bound = fact[kind], fact[f"{kind}_bound"]
        if seconds is None:
            wrong.append(f"{kind.upper()} was not measured")
            continue
        words.append(
            f"{kind.upper()} {show(seconds, Unit.SECONDS)}, {'within' if seconds <= aim else 'past'} our aim of {aim:.0f} s"
        )
        if not seconds < bound:
            wrong.append(f"{kind.upper()} {show(seconds, Unit.SECONDS)} of {show_bound(bound, Unit.SECONDS)}")
    if fact["gaps"]:
        wrong.append(f"{fact['gaps']:,} stamped markers before the newest restored one are not as they were written")
    return wrong, "; ".join(words)


_POINTS: tuple[tuple[str, tuple[str, ...], Callable[..., tuple[list[str], str]]], ...] = (
    ("manifest and checksums", ("manifest",), manifest),
    ("a place of its own", ("place",), place),
    ("recovery target", ("reached",), target),
    ("pages, rows and indexes", ("physical",), physical),
    ("rows and objects", ("tables", "objects"), content),
    ("structure", ("structure",), structure),
    ("model registry", ("registry",), registry),
    ("prediction", ("prediction",), prediction),
    ("time", ("time",), time),
)
COUNT = len(_POINTS)


def _point(
    number: int, name: str, needed: tuple[str, ...], rule: Callable[..., tuple[list[str], str]], facts: Mapping[str, Any]
) -> Point:
    if missing := [one for one in needed if one not in facts]:
        return Point(number, name, False, f"{' and '.join(missing)} not looked at")
    given = [facts[one] for one in needed]
    if troubles := [fact["trouble"] for fact in given if "trouble" in fact]:
        return Point(number, name, False, f"could not be looked at: {'; '.join(troubles)}")
    wrong, words = rule(*given)
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        return Point(number, name, False, "; ".join(wrong[:_SHOWN]) + more)
    return Point(number, name, True, words)
