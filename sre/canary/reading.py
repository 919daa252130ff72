"""What Prometheus answered, raw: as it goes into the evidence, and as every count is made again from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from sre.errors import EvidenceDamaged
from sre.judges.canary.observation import Trouble
from sre.probes import answers
from sre.probes.answers import Gap, Series


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to one query, or why there is none.

    Attributes:
        selector: of the plan, for one arm; names the reading within its look.
        expression: as it was sent.
        at: the instant that was asked about, seconds since the epoch.
        series: none when there is a trouble; they may be none without.
        trouble: why nothing can be said; None when the answer was whole.
        detail: of the trouble: value and remedy.
    """

    selector: str
    expression: str
    at: float
    series: tuple[Series, ...] = ()
    trouble: Trouble | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """All readings of one look.

    Attributes:
        at: instant that was looked at, seconds since the epoch.
        stage: index in the plan.
        readings: one per selector and arm.
    """

    at: float
    stage: int
    readings: tuple[Reading, ...]


_LOOK = TypeAdapter(Look)


def dump(look: Look) -> str:
    """A look as one line of JSON; `load` gives it back unchanged."""
    return _LOOK.dump_json(look).decode()


def load(text: str) -> Look:
    """Read a look again.

    Raises:
        EvidenceDamaged: it is not one.
    """
    try:
        return _LOOK.validate_json(text, strict=True)
    except ValidationError as error:
        raise EvidenceDamaged(f"a recorded look is damaged: {answers.first(error)}; restore it from a copy") from None


def until(look: Look, at: float, since: float) -> Look:
    """What the same look would have read at an earlier instant, reaching back to `since`."""
    return Look(at, look.stage, tuple(_until(reading, at, since) for reading in look.readings))


def _until(reading: Reading, at: float, since: float) -> Reading:
    cut = (replace(one, values=tuple(value for value in one.values if since <= value[0] <= at)) for one in reading.series)
    return replace(reading, at=at, series=tuple(one for one in cut if one.values))


def read(body: bytes, asked: Reading, labels: Mapping[str, str]) -> Reading:
    """Read the body of an answer that should be a matrix.

    Args:
        body: as it came, unpacked.
        asked: the reading without its answer.
        labels: that every series must carry, because the selector asked for them.

    Returns:
        `asked` with the series, or with what is wrong.
    """
    try:
        return replace(asked, series=answers.matrix(body, asked.at, labels))
    except Gap as gap:
        return refuse(asked, gap)


def refuse(asked: Reading, gap: Gap) -> Reading:
    """The reading of a query that has no answer."""
    return replace(asked, series=(), trouble=gap.trouble, detail=gap.detail)
