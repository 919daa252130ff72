"""Overrides of the error-budget policy: who let a service ship although its budget forbids it, why, and until when.

One line per override, appended and never changed, so that the file is also the record of what was overridden.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sre.errors import EvidenceDamaged, UsageError

FILE = "slo-overrides.jsonl"
SCHEMA = "sre.slo-override/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One override.

    Attributes:
        service: that may ship.
        who: answers for it.
        why: in a sentence.
        made, until: seconds since the epoch.
    """

    service: str
    who: str
    why: str
    made: float
    until: float


def record(home: Path, override: Override, *, longest: float) -> None:
    """Write an override down, from which moment it holds.

    Args:
        home: of the toolkit.
        override: to record.
        longest: that the policy lets one last, s.

    Raises:
        UsageError: it names nobody or no reason, or lasts too long.
    """
    for field in ("who", "why"):
        if not getattr(override, field).strip():
            raise UsageError(f"an override needs a {field}; say it with --{field}")
    if not 0 < override.until - override.made <= longest:
        hours = (override.until - override.made) / 3600
        raise UsageError(f"an override of {hours:g} h is not allowed; the policy lets one last {longest / 3600:g} h at most")
    home.mkdir(parents=True, exist_ok=True)
    with (home / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"schema": SCHEMA, **asdict(override)}) + "\n")


def recorded(home: Path) -> tuple[Override, ...]:
    """Every override ever recorded, oldest first.

    Raises:
        EvidenceDamaged: a line is no override.
    """
    file = home / FILE
    if not file.exists():
        return ()
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            document = json.loads(line)
            if document.pop("schema") != SCHEMA:
                raise EvidenceDamaged(f"{file}:{number} is not of schema {SCHEMA}; restore the file")
            found.append(Override(**document))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EvidenceDamaged(f"{file}:{number} is no override ({error}); restore the file") from error
    return tuple(found)


def active(home: Path, service: str, at: float) -> Override | None:
    """The newest override of a service that holds at an instant, seconds since the epoch."""
    holding = [one for one in recorded(home) if one.service == service and one.made <= at < one.until]
    return holding[-1] if holding else None
