"""From outcomes to what the study shows: a table on the terminal, one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sre.measure.proportion import at_most
from sre.units import Unit, show
from tests.studies.corruption.clean import Look
from tests.studies.corruption.kinds import Outcome

SCHEMA = "sre.corruption-study/1"
LEAST_KINDS, LEAST_LOOKS = 25, 50
_SHOWN = 160


def sentences(outcomes: Sequence[Outcome], looks: Sequence[Look]) -> list[tuple[bool, str]]:
    """The two goals: whether each was met, and by how much."""
    found, alarms = sum(outcome.found for outcome in outcomes), sum(look.alarm for look in looks)
    all_found = found == len(outcomes) >= LEAST_KINDS
    quiet = not alarms and len(looks) >= LEAST_LOOKS
    bound = show(at_most(alarms, len(looks)), Unit.RATIO)
    return [
        (
            all_found,
            f"{found} of {len(outcomes)} kinds of corruption and loss found and named; the goal is all, of {LEAST_KINDS}",
        ),
        (quiet, f"{alarms} false alarms in {len(looks)} clean runs, at most {bound} with 95 % confidence; none in {LEAST_LOOKS}"),
    ]


def show_all(console: Console, outcomes: Sequence[Outcome], looks: Sequence[Look]) -> None:
    """Print everything."""
    grid = Table("part", "kind", "found", "what was said", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for outcome in outcomes:
        word = "named" if outcome.found else f"lacks {', '.join(outcome.unnamed)}" if outcome.alarm else "NOT FOUND"
        said = outcome.words if len(outcome.words) <= _SHOWN else f"{outcome.words[:_SHOWN]}..."
        grid.add_row(*map(Text, (outcome.part, outcome.name, word, said)))
    console.print(grid)
    for look in looks:
        if look.alarm:
            console.print(Text(f"false alarm after {look.after} at {look.at}: {look.words}"))
    for met, sentence in sentences(outcomes, looks):
        console.print(Text(f"{'met' if met else 'MISSED'}: {sentence}"))


def document(outcomes: Sequence[Outcome], looks: Sequence[Look]) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "schema": SCHEMA,
        "goals": [{"met": met, "said": sentence} for met, sentence in sentences(outcomes, looks)],
        "kinds": [{**asdict(outcome), "found": outcome.found} for outcome in outcomes],
        "clean": [asdict(look) for look in looks],
    }
