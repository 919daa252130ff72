"""What Prometheus answered, raw: as it goes into the evidence, and as every count is made again from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from sre.errors import EvidenceDamaged
from sre.judges.canary.observation import Trouble


@dataclass(frozen=True, slots=True)
class Series:
    """One time series.

    Attributes:
        labels: its name included.
        values: samples as Prometheus writes them: seconds since the epoch, and the number as text; ascending.
    """

    labels: Mapping[str, str]
    values: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an answer cannot be used: the kind, and value and remedy."""

    trouble: Trouble
    detail: str


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
        raise EvidenceDamaged(f"a recorded look is damaged: {_first(error)}; restore it from a copy") from None


def until(look: Look, at: float, since: float) -> Look:
    """What the same look would have read at an earlier instant, reaching back to `since`."""
    return Look(at, look.stage, tuple(_until(reading, at, since) for reading in look.readings))


def _until(reading: Reading, at: float, since: float) -> Reading:
    cut = (replace(one, values=tuple(value for value in one.values if since <= value[0] <= at)) for one in reading.series)
    return replace(reading, at=at, series=tuple(one for one in cut if one.values))


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Data(_Strict):
    resultType: str  # noqa: N815 - Prometheus' name
    result: Any


class _Answer(_Strict):
    status: str
    data: _Data | None = None
    error: str = ""
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


class _One(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    metric: dict[str, str]
    values: list[Annotated[tuple[FiniteFloat, str], Field(strict=False)]] = []
    histograms: list[Any] = []


_SERIES = TypeAdapter(list[_One])
_SCALAR = TypeAdapter(Annotated[tuple[FiniteFloat, str], Field(strict=False)], config=ConfigDict(strict=True))


def read(body: bytes, asked: Reading, labels: Mapping[str, str]) -> Reading:
    """Read the body of an answer that should be a matrix.

    Args:
        body: as it came, unpacked.
        asked: the reading without its answer.
        labels: that every series must carry, because the selector asked for them.

    Returns:
        `asked` with the series, or with what is wrong. Nothing is guessed and nothing is dropped: a body with one wrong sample
        gives no sample.
    """
    try:
        result = _result(body, "matrix")
        if isinstance(result, Refusal):
            return refuse(asked, result)
        found = _SERIES.validate_python(result)
    except ValidationError as error:
        return refuse(asked, _foreign(error))
    if any(one.histograms for one in found):
        return refuse(asked, Refusal(Trouble.WRONG_TYPE, "the answer holds native histograms; name the classic buckets"))
    series = tuple(Series(one.metric, tuple(one.values)) for one in found)
    return _wrong(asked, series, labels) or replace(asked, series=series)


def read_time(body: bytes) -> float | Refusal:
    """Read the body of an answer to `time()`, seconds since the epoch."""
    try:
        result = _result(body, "scalar")
        if isinstance(result, Refusal):
            return result
        return float(_SCALAR.validate_python(result)[1])
    except ValidationError as error:
        return _foreign(error)
    except ValueError:
        return Refusal(Trouble.MALFORMED, "Prometheus does not say what time it is; ask Prometheus itself")


def refuse(asked: Reading, why: Refusal) -> Reading:
    """The reading of a query that has no answer."""
    return replace(asked, series=(), trouble=why.trouble, detail=why.detail)


def _result(body: bytes, kind: str) -> Any:
    answer = _Answer.model_validate_json(body)
    if said := (*answer.warnings, *answer.infos):
        return Refusal(Trouble.WARNINGS, f"Prometheus warns: {'; '.join(said)[:300]}; see to the warning")
    if answer.status != "success" or answer.data is None:
        return Refusal(Trouble.MALFORMED, f"the answer's status is {answer.status!r} {answer.error[:200]}; ask again")
    if answer.data.resultType != kind:
        return Refusal(Trouble.WRONG_TYPE, f"the answer is a {answer.data.resultType}, not a {kind}; correct the query")
    return answer.data.result


def _foreign(error: ValidationError) -> Refusal:
    return Refusal(Trouble.MALFORMED, f"the answer is none of Prometheus: {_first(error)}; ask Prometheus itself")


def _wrong(asked: Reading, series: tuple[Series, ...], labels: Mapping[str, str]) -> Reading | None:
    if len({frozenset(one.labels.items()) for one in series}) < len(series):
        return refuse(asked, Refusal(Trouble.MALFORMED, "two series have the same labels; ask Prometheus itself"))
    for one in series:
        if any(one.labels.get(name) != value for name, value in labels.items()):
            return refuse(
                asked, Refusal(Trouble.MALFORMED, f"series {dict(one.labels)} was not asked for; ask Prometheus itself")
            )
        moments = [at for at, _ in one.values]
        if not moments or any(later <= earlier for earlier, later in pairwise(moments)):
            return refuse(
                asked, Refusal(Trouble.MALFORMED, f"samples of {dict(one.labels)} are not in order; ask Prometheus itself")
            )
        if moments[-1] > asked.at:
            ahead = moments[-1] - asked.at
            return refuse(asked, Refusal(Trouble.CLOCK_SKEW, f"a sample lies {ahead:.3f} s after the look; set the clocks right"))
    return None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the body'}: {first['msg']}"
