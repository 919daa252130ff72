"""From results to what the study shows. Plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sre.errors import ExitCode
from tests.studies.backup_kill.moments import PHASES, VICTIMS
from tests.studies.backup_kill.study import Result

_WIDTH = max(map(len, PHASES)) + 2


def conclusion(results: Sequence[Result]) -> tuple[ExitCode, str]:
    """What the study shows, and the sentence that says so. A difference counts however little else there is."""
    struck = [one for one in results if one.phase]
    restored = sum(bool(one.restored) for one in struck)
    said = f"{len(struck)} of {len(results)} kills carried out, {restored} earlier sets restored"
    if differing := [one.seed for one in results if one.differences]:
        return ExitCode.BROKEN, f"{said}; not as promised after kill {', '.join(map(str, differing))}"
    if len(struck) < len(results) or not restored:
        return ExitCode.INCONCLUSIVE, f"{said}: too little to say anything"
    return ExitCode.KEPT, f"{said}: every earlier set whole, no half one counted, every next backup succeeded"


def line(one: Result) -> str:
    """One kill in one line."""
    if not one.phase:
        return f"kill {one.seed}: every backup ended before its moment"
    said = "; ".join(one.differences) or "as promised"
    return f"kill {one.seed}, {one.kind}: {one.victim} ({', '.join(one.hit)}) after {one.after_s:.1f} s, at {one.phase}: {said}"


def text(results: Sequence[Result]) -> str:
    """The report, for a terminal: kills by phase and victim, then every difference."""
    cells = Counter((one.phase, one.victim) for one in results)
    hit = Counter("pgbackrest" if "pgbackrest" in one.hit else "the command" for one in results if one.victim == "store")
    lines = [f"backup study: {conclusion(results)[1]}", "", "phase".ljust(_WIDTH) + "".join(f"{name:>10}" for name in VICTIMS)]
    lines += [name.ljust(_WIDTH) + "".join(f"{cells[name, victim]:>10}" for victim in VICTIMS) for name in PHASES]
    lines += [
        "",
        f"the store's writer was {', '.join(f'{name} {count} times' for name, count in sorted(hit.items())) or 'never hit'}",
    ]
    counted = Counter(
        " / ".join(one.counted.get(place, "none") for place in ("store", "off_site")) for one in results if one.phase
    )
    lines += [f"the set that was hit is {state} (here / off site): {count} times" for state, count in sorted(counted.items())]
    for one in results:
        lines += [f"kill {one.seed}, {one.kind}, {one.victim} at {one.phase}: {sentence}" for sentence in one.differences]
    return "\n".join(lines) + "\n"
