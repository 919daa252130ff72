"""Prometheus over HTTP, read strictly: a whole answer in the form that was asked for, or a `Gap` that says what is wrong.

Nothing is guessed and nothing is dropped: an answer with one wrong sample gives no sample.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from sre.errors import SreError, UsageError
from sre.judges.canary.observation import Trouble

MEBIBYTE = 2**20


class Gap(SreError):
    """There is no data. Whoever asked says what follows from it; no command ends with it.

    Args:
        trouble: its kind.
        detail: value and remedy.
    """

    def __init__(self, trouble: Trouble, detail: str) -> None:
        super().__init__(detail)
        self.trouble = trouble
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Series:
    """One time series.

    Attributes:
        labels: its name included.
        values: samples as Prometheus writes them: seconds since the epoch, and the number as text; ascending.
    """

    labels: Mapping[str, str]
    values: tuple[tuple[float, str], ...]


class Api:
    """One Prometheus.

    Args:
        url: base URL.
        within_s: deadline of one query, s.
        most: length at most of one answer, bytes.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, url: str, within_s: float, most: int = 64 * MEBIBYTE) -> None:
        try:
            parsed = httpx.URL(url)
            good = parsed.scheme in {"http", "https"} and bool(parsed.host)
        except httpx.InvalidURL:
            good = False
        if not good:
            raise UsageError(f"Prometheus' address {url!r} is no URL; write for example http://127.0.0.1:9090")
        self._url = url.rstrip("/")
        self._within_s, self._most = within_s, most
        # Read once: it takes longer than a query.
        self._trust = httpx.create_ssl_context(trust_env=False)

    async def ask(self, path: str, query: str, **parameters: str) -> bytes:
        """The body of a whole answer.

        Args:
            path: `query` or `query_range`.
            query: PromQL.
            parameters: further ones of the path.

        Raises:
            Gap: there is none.
        """
        begun = False
        sent = {"query": query, **parameters, "timeout": f"{math.ceil(self._within_s * 1000)}ms"}
        try:
            # One deadline for all of it: a server that sends a byte now and then never runs into the deadline of a read. A client
            # for each query: a kept connection that the server closes just then would be taken for a server that is away.
            async with (
                asyncio.timeout(self._within_s),
                httpx.AsyncClient(trust_env=False, verify=self._trust, timeout=self._within_s) as client,
                client.stream("GET", f"{self._url}/api/v1/{path}", params=sent) as answer,
            ):
                begun = True
                chunks, size = [], 0
                async for chunk in answer.aiter_bytes():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > self._most:
                        why = f"the answer is longer than {self._most:,} bytes; ask about a shorter span"
                        raise Gap(Trouble.MALFORMED, why)
                return _good(answer, b"".join(chunks))
        except (TimeoutError, httpx.TimeoutException):
            raise Gap(Trouble.TIMED_OUT, f"no whole answer within {self._within_s:g} s; see to Prometheus") from None
        except httpx.DecodingError as error:
            raise Gap(Trouble.MALFORMED, f"the answer cannot be unpacked ({error}); ask Prometheus itself") from None
        except (httpx.HTTPError, OSError) as error:
            kind, what = (Trouble.PARTIAL, "the answer broke off") if begun else (Trouble.UNREACHABLE, "no answer came")
            why = f"{what} ({str(error) or type(error).__name__}); see to Prometheus at {self._url}"
            raise Gap(kind, why) from None


def _good(answer: httpx.Response, body: bytes) -> bytes:
    status, said = answer.status_code, body[:200].decode(errors="replace")
    if status >= 500:
        raise Gap(Trouble.SERVER_ERROR, f"Prometheus answers {status} {said}; see to Prometheus")
    if status == httpx.codes.PARTIAL_CONTENT:
        raise Gap(Trouble.PARTIAL, "Prometheus answers 206, a part; ask Prometheus itself")
    if status != httpx.codes.OK:
        raise Gap(Trouble.CLIENT_ERROR, f"Prometheus answers {status} {said}; correct the address or the query")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Gap(Trouble.WRONG_TYPE, f"the answer is {kind or 'of no type'}, not application/json; ask Prometheus itself")
    return body


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


_Sample = Annotated[tuple[FiniteFloat, str], Field(strict=False)]


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    metric: dict[str, str]
    values: list[_Sample] = []
    histograms: list[Any] = []


class _Point(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    metric: dict[str, str]
    value: _Sample


_MATRIX = TypeAdapter(list[_Line])
_VECTOR = TypeAdapter(list[_Point])
_SCALAR = TypeAdapter(_Sample, config=ConfigDict(strict=True))


def matrix(body: bytes, at: float, labels: Mapping[str, str], *, hints: bool = False) -> tuple[Series, ...]:
    """The series of a range.

    Args:
        body: as `ask` gave it.
        at: the last instant that was asked about, seconds since the epoch.
        labels: that every series must carry, because the selector asked for them.
        hints: take an answer about whose expression Prometheus has a remark, such as that a name is none of a counter.

    Raises:
        Gap: the answer is none of that kind.
    """
    try:
        found = _MATRIX.validate_python(_result(body, "matrix", hints=hints))
    except ValidationError as error:
        raise _foreign(error) from None
    if any(one.histograms for one in found):
        raise Gap(Trouble.WRONG_TYPE, "the answer holds native histograms; name the classic buckets")
    return _sound(tuple(Series(one.metric, tuple(one.values)) for one in found), at, labels)


def vector(body: bytes, at: float, labels: Mapping[str, str]) -> tuple[Series, ...]:
    """The series at an instant, with one sample each; as `matrix`."""
    try:
        found = _VECTOR.validate_python(_result(body, "vector"))
    except ValidationError as error:
        raise _foreign(error) from None
    return _sound(tuple(Series(one.metric, (one.value,)) for one in found), at, labels)


def scalar(body: bytes) -> float:
    """The answer to `time()`, seconds since the epoch; raises as `matrix`."""
    try:
        return float(_SCALAR.validate_python(_result(body, "scalar"))[1])
    except ValidationError as error:
        raise _foreign(error) from None
    except ValueError:
        raise Gap(Trouble.MALFORMED, "Prometheus does not say what time it is; ask Prometheus itself") from None


def first(error: ValidationError) -> str:
    """The first thing that is wrong with a document, and where."""
    one = error.errors()[0]
    return f"{'.'.join(str(part) for part in one['loc']) or 'the body'}: {one['msg']}"


def _result(body: bytes, kind: str, *, hints: bool = False) -> Any:
    answer = _Answer.model_validate_json(body)
    if said := (*answer.warnings, *(() if hints else answer.infos)):
        raise Gap(Trouble.WARNINGS, f"Prometheus warns: {'; '.join(said)[:300]}; see to the warning")
    if answer.status != "success" or answer.data is None:
        raise Gap(Trouble.MALFORMED, f"the answer's status is {answer.status!r} {answer.error[:200]}; ask again")
    if answer.data.resultType != kind:
        raise Gap(Trouble.WRONG_TYPE, f"the answer is a {answer.data.resultType}, not a {kind}; correct the query")
    return answer.data.result


def _foreign(error: ValidationError) -> Gap:
    return Gap(Trouble.MALFORMED, f"the answer is none of Prometheus: {first(error)}; ask Prometheus itself")


def _sound(series: tuple[Series, ...], at: float, labels: Mapping[str, str]) -> tuple[Series, ...]:
    if len({frozenset(one.labels.items()) for one in series}) < len(series):
        raise Gap(Trouble.MALFORMED, "two series have the same labels; ask Prometheus itself")
    for one in series:
        if any(one.labels.get(name) != value for name, value in labels.items()):
            raise Gap(Trouble.MALFORMED, f"series {dict(one.labels)} was not asked for; ask Prometheus itself")
        moments = [moment for moment, _ in one.values]
        if not moments or any(later <= earlier for earlier, later in pairwise(moments)):
            raise Gap(Trouble.MALFORMED, f"samples of {dict(one.labels)} are not in order; ask Prometheus itself")
        if moments[-1] > at:
            raise Gap(Trouble.CLOCK_SKEW, f"a sample lies {moments[-1] - at:.3f} s after the look; set the clocks right")
    return series
