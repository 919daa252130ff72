"""Where the numbers of an A/B test come from: a CSV or JSON file, or two counters in Prometheus."""

from __future__ import annotations

import asyncio
import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import promql_parser
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FiniteFloat, NonNegativeInt, ValidationError

from sre.canary.ab import Arm, totals
from sre.errors import CannotRun, UsageError
from sre.probes.answers import Api, Gap, Series, matrix

WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Data:
    """Two arms and the time from the first to the last of what was counted, s."""

    first: Arm
    second: Arm
    elapsed_s: float


def _moment(value: Any) -> Any:
    """Seconds since the epoch, or ISO 8601 with a time zone."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("write the time zone too, as in 2026-01-01T12:00:00Z") from None
        return moment.timestamp()


def _named(value: str) -> str:
    if not value:
        raise ValueError("write the name of the arm")
    return value


class Row(BaseModel):
    """One row of a file: what one arm counted since its row before, or one value of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: Annotated[FiniteFloat, BeforeValidator(_moment)]
    arm: Annotated[str, AfterValidator(_named)]
    successes: NonNegativeInt | None = None
    trials: NonNegativeInt | None = None
    value: FiniteFloat | None = None


def from_file(path: Path, names: tuple[str, str] | None, bounds: tuple[float, float]) -> Data:
    """Read a file: columns time, arm, successes, trials of a ratio; time, arm, value and, where known, trials of a bounded value.

    Args:
        path: `.json` holds a list of objects, anything else is CSV with a heading.
        names: of the arms, the one compared against first; in the order of the file when None.
        bounds: of a value.

    Raises:
        UsageError: the file is not so; names the line.
    """
    rows = _rows(path)
    found = tuple(dict.fromkeys(row.arm for row in rows))
    chosen = names or found
    if len(chosen) != 2 or set(chosen) != set(found):
        raise UsageError(f"{path} holds arms {', '.join(found) or 'none'}; two are compared, name them by --arms first,second")
    kinds = {(row.successes is not None and row.trials is not None, row.value is not None) for row in rows}
    first, second = chosen
    elapsed = max(row.time for row in rows) - min(row.time for row in rows)
    if kinds == {(True, False)}:
        if wrong := next((row for row in rows if (row.successes or 0) > (row.trials or 0)), None):
            raise UsageError(f"{path}: {wrong.successes} of {wrong.trials} at {wrong.time:g} cannot be; correct that row")
        arms = totals([(row.arm, row.successes or 0, row.trials or 0) for row in rows], (first, second))
        return Data(*arms, elapsed)
    if kinds == {(False, True)}:
        return Data(*_values(path, rows, (first, second), bounds), elapsed)
    raise UsageError(f"{path} mixes kinds of rows; each has successes and trials, or each has a value")


def _values(path: Path, rows: Sequence[Row], names: tuple[str, str], bounds: tuple[float, float]) -> tuple[Arm, Arm]:
    low, high = bounds
    moments: dict[float, dict[str, float]] = {}
    for row in sorted(rows, key=lambda row: row.time):
        value = math.nan if row.value is None else row.value
        if not low <= value <= high:
            raise UsageError(f"{path}: the value {value:g} at {row.time:g} is not within {low:g} to {high:g}; set --bounds")
        if row.arm in moments.setdefault(row.time, {}):
            raise UsageError(f"{path}: arm {row.arm!r} has two values at {row.time:g}; delete one")
        moments[row.time][row.arm] = (value - low) / (high - low)
    for at, pair in moments.items():
        if len(pair) != 2:
            raise UsageError(
                f"{path}: only arm {next(iter(pair))!r} has a value at {at:g}; give one of each arm for every moment"
            )
    first, second = (
        Arm(name, sum(row.trials or 0 for row in rows if row.arm == name), None, tuple(pair[name] for pair in moments.values()))
        for name in names
    )
    return first, second


def _rows(path: Path) -> list[Row]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            documents = [(number, document) for number, document in enumerate(json.loads(text), 1)]
        else:
            reader = csv.DictReader(text.splitlines(), strict=True)
            documents = [(reader.line_num, {key: value for key, value in row.items() if value != ""}) for row in reader]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read ({error}); give CSV with a heading, or a JSON list of objects") from error
    where = "item" if path.suffix == ".json" else "line"
    rows = []
    for number, document in documents:
        try:
            rows.append(Row.model_validate(document))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "it"
            said = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"{path} {where} {number}: {field} is {first['input']!r}: {said}") from None
    if not rows:
        raise UsageError(f"{path} holds no row; give CSV with a heading, or a JSON list of objects")
    return rows


@dataclass(frozen=True, slots=True)
class Counters:
    """Two counters in Prometheus.

    Attributes:
        url: of Prometheus.
        successes, trials: plain selectors.
        label: whose values are the arms.
        arms: the two values, the one compared against first.
    """

    url: str
    successes: str
    trials: str
    label: str
    arms: tuple[str, str]


def from_prometheus(counters: Counters, *, at: float, span_s: float) -> Data:
    """Count what was scraped within a span. Sums of differences of raw samples are exact; a restart counts from zero.

    Args:
        counters: what to read.
        at: end of the span, seconds since the epoch.
        span_s: its length, s.

    Raises:
        UsageError: a selector or the address is none, or there were more successes than trials.
        CannotRun: Prometheus does not answer, or not with counters.
    """
    sums: dict[str, dict[str, int]] = {}
    moments: list[float] = []
    api = Api(counters.url, WITHIN_S)
    for what, selector in (("successes", counters.successes), ("trials", counters.trials)):
        sums[what] = dict.fromkeys(counters.arms, 0)
        for series in _read(api, selector, at, span_s):
            arm = series.labels.get(counters.label)
            if arm in sums[what]:
                sums[what][arm] += _grown(selector, series)
                moments += [series.values[0][0], series.values[-1][0]]
    first, second = counters.arms
    for name in counters.arms:
        if sums["successes"][name] > sums["trials"][name]:
            raise UsageError(
                f"{name!r} has {sums['successes'][name]} successes of {sums['trials'][name]} trials; correct the selectors"
            )
    arms = totals([(name, sums["successes"][name], sums["trials"][name]) for name in (first, second)], (first, second))
    return Data(*arms, max(moments, default=0.0) - min(moments, default=0.0))


def _read(api: Api, selector: str, at: float, span_s: float) -> tuple[Series, ...]:
    try:
        parsed = promql_parser.parse(selector)
    except ValueError as error:
        raise UsageError(f"{selector!r} is no PromQL ({error}); write a plain selector") from error
    if not isinstance(parsed, promql_parser.VectorSelector) or not parsed.name:
        raise UsageError(f'{selector!r} is no plain selector; write name{{label="value"}} without function or range')
    expression = f"{selector}[{math.ceil(span_s * 1000)}ms]"
    try:
        body = asyncio.run(api.ask("query", expression, time=f"{at:.3f}"))
        return matrix(body, at, {"__name__": parsed.name})
    except Gap as gap:
        raise CannotRun(f"{selector}: {gap.detail}") from None


def _grown(selector: str, series: Series) -> int:
    values = []
    for at, text in series.values:
        value = float(text)
        if not (value >= 0 and value.is_integer()):
            raise CannotRun(f"{selector} stands at {text} at {at:.0f}; name a counter of events")
        values.append(int(value))
    return sum(later - earlier if later >= earlier else later for earlier, later in pairwise(values))
