"""Prometheus over HTTP, read strictly: whatever is not a whole and fresh answer becomes a reading with a trouble, and no number.

A look asks for `up` first and for everything else afterwards, at the same instant: a scrape that the first answer shows is
whole in the others, because Prometheus commits a scrape at once.
"""

from __future__ import annotations

import asyncio
import math

import httpx

from sre.canary import reading as readings
from sre.canary.plan import TRACKS, Plan
from sre.canary.promql import labels, of_track
from sre.canary.reading import Look, Reading, Refusal, refuse
from sre.clock import Clock, SystemClock
from sre.errors import UsageError
from sre.judges.canary.observation import Trouble

WITHIN_S = 5.0
_MAX_BYTES = 64 * 2**20


class Source:
    """Reads looks of one canary from one Prometheus.

    Args:
        plan: what to read.
        url: base URL.
        within_s: deadline of one query, s.
        clock: of this machine.
        tracks: who is read.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, plan: Plan, url: str, *, within_s: float = WITHIN_S, clock: Clock | None = None,
                 tracks: tuple[str, ...] = TRACKS) -> None:  # fmt: skip
        try:
            parsed = httpx.URL(url)
            good = parsed.scheme in {"http", "https"} and bool(parsed.host)
        except httpx.InvalidURL:
            good = False
        if not good:
            raise UsageError(f"Prometheus' address {url!r} is no URL; write for example http://127.0.0.1:9090")
        self._plan = plan
        self._tracks = tracks
        self._url = url.rstrip("/")
        self._within_s = within_s
        self._clock = clock or SystemClock()
        # Read once: it takes longer than a look.
        self._trust = httpx.create_ssl_context(trust_env=False)

    def look(self, since: float, stage: int, at: float | None = None) -> Look:
        """Read everything that the plan names. Never raises: troubles are in the readings.

        Args:
            since: how far back samples are read, seconds since the epoch.
            stage: index in the plan, for the look.
            at: instant, seconds since the epoch; now when left out.
        """
        moment = round(self._clock.wall() if at is None else at, 3)
        return asyncio.run(self._look(since, stage, moment))

    async def _look(self, since: float, stage: int, at: float) -> Look:
        # A kept connection that the server closes just then would be taken for a server that is away.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(trust_env=False, verify=self._trust, timeout=self._within_s, limits=limits) as client:
            skew = await self._skew(client)
            ups = [of_track(self._plan.up(), track) for track in self._tracks]
            found = await asyncio.gather(*(self._raw(client, selector, since, at) for selector in ups))
            selectors = [of_track(selector, track) for selector in self._plan.raw() for track in self._tracks]
            values = [of_track(value, track) for value in self._plan.values() for track in self._tracks]
            found += await asyncio.gather(
                *(self._raw(client, selector, since, at) for selector in selectors),
                *(self._value(client, value, since, at) for value in values),
            )
        if skew is not None:
            found = [one if one.trouble else refuse(one, skew) for one in found]
        return Look(at, stage, tuple(found))

    async def _raw(self, client: httpx.AsyncClient, selector: str, since: float, at: float) -> Reading:
        expression = f"{selector}[{math.ceil(round((at - since) * 1000, 3))}ms]"
        asked = Reading(selector, expression, at)
        body = await self._ask(client, "query", {"query": expression, "time": f"{at:.3f}"})
        return readings.read(body, asked, labels(selector)) if isinstance(body, bytes) else refuse(asked, body)

    async def _value(self, client: httpx.AsyncClient, expression: str, since: float, at: float) -> Reading:
        step = self._plan.scrape
        asked = Reading(expression, expression, at)
        start = at - math.floor((at - since) / step) * step
        grid = {"start": f"{start:.3f}", "end": f"{at:.3f}", "step": f"{step:.3f}"}
        body = await self._ask(client, "query_range", {"query": expression, **grid})
        return readings.read(body, asked, {}) if isinstance(body, bytes) else refuse(asked, body)

    async def _skew(self, client: httpx.AsyncClient) -> Refusal | None:
        """What is wrong with Prometheus' clock, compared with this machine's."""
        sent = self._clock.wall()
        body = await self._ask(client, "query", {"query": "time()"})
        received = self._clock.wall()
        if not isinstance(body, bytes):
            return body
        said = readings.read_time(body)
        if isinstance(said, Refusal):
            return said
        # The answer was made at some moment between the two.
        skew = max(sent - said, said - received, 0.0)
        if not skew <= self._plan.scrape:
            return Refusal(
                Trouble.CLOCK_SKEW, f"Prometheus' clock and this machine's differ by {skew:.3f} s; set the clocks right"
            )
        return None

    async def _ask(self, client: httpx.AsyncClient, path: str, parameters: dict[str, str]) -> bytes | Refusal:
        """The body of a whole answer, or what is wrong with it."""
        begun = False
        limit = {"timeout": f"{math.ceil(self._within_s * 1000)}ms"}
        try:
            # One deadline for all of it: a server that sends a byte now and then never runs into the deadline of a read.
            async with (
                asyncio.timeout(self._within_s),
                client.stream("GET", f"{self._url}/api/v1/{path}", params=parameters | limit) as answer,
            ):
                begun = True
                chunks, size = [], 0
                async for chunk in answer.aiter_bytes():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > _MAX_BYTES:
                        return Refusal(
                            Trouble.MALFORMED, f"the answer is longer than {_MAX_BYTES:,} bytes; ask about a shorter span"
                        )
                return _status(answer, b"".join(chunks))
        except (TimeoutError, httpx.TimeoutException):
            return Refusal(Trouble.TIMED_OUT, f"no whole answer within {self._within_s:g} s; see to Prometheus")
        except httpx.DecodingError as error:
            return Refusal(Trouble.MALFORMED, f"the answer cannot be unpacked ({error}); ask Prometheus itself")
        except (httpx.HTTPError, OSError) as error:
            kind, what = (Trouble.PARTIAL, "the answer broke off") if begun else (Trouble.UNREACHABLE, "no answer came")
            return Refusal(kind, f"{what} ({str(error) or type(error).__name__}); see to Prometheus at {self._url}")


def _status(answer: httpx.Response, body: bytes) -> bytes | Refusal:
    status = answer.status_code
    if status >= 500:
        return Refusal(Trouble.SERVER_ERROR, f"Prometheus answers {status} {_said(body)}; see to Prometheus")
    if status == httpx.codes.PARTIAL_CONTENT:
        return Refusal(Trouble.PARTIAL, "Prometheus answers 206, a part; ask Prometheus itself")
    if status != httpx.codes.OK:
        return Refusal(Trouble.CLIENT_ERROR, f"Prometheus answers {status} {_said(body)}; correct the address or the query")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return Refusal(Trouble.WRONG_TYPE, f"the answer is {kind or 'of no type'}, not application/json; ask Prometheus itself")
    return body


def _said(body: bytes) -> str:
    return body[:200].decode(errors="replace")
