"""Looks at a canary: whatever is not a whole and fresh answer of Prometheus becomes a reading with a trouble, and no number.

A look asks for `up` first and for everything else afterwards, at the same instant: a scrape that the first answer shows is
whole in the others, because Prometheus commits a scrape at once.
"""

from __future__ import annotations

import asyncio
import math

from sre.canary.plan import TRACKS, Plan
from sre.canary.promql import labels, of_track
from sre.canary.reading import Look, Reading, read, refuse
from sre.clock import Clock, SystemClock
from sre.judges.canary.observation import Trouble
from sre.probes import answers
from sre.probes.answers import Api, Gap

WITHIN_S = 5.0


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
        self._plan = plan
        self._tracks = tracks
        self._api = Api(url, within_s)
        self._clock = clock or SystemClock()

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
        skew = await self._skew()
        ups = [of_track(self._plan.up(), track) for track in self._tracks]
        found = await asyncio.gather(*(self._raw(selector, since, at) for selector in ups))
        selectors = [of_track(selector, track) for selector in self._plan.raw() for track in self._tracks]
        values = [of_track(value, track) for value in self._plan.values() for track in self._tracks]
        found += await asyncio.gather(
            *(self._raw(selector, since, at) for selector in selectors), *(self._value(value, since, at) for value in values)
        )
        if skew is not None:
            found = [one if one.trouble else refuse(one, skew) for one in found]
        return Look(at, stage, tuple(found))

    async def _raw(self, selector: str, since: float, at: float) -> Reading:
        asked = Reading(selector, f"{selector}[{math.ceil(round((at - since) * 1000, 3))}ms]", at)
        return await self._read("query", asked, labels(selector), time=f"{at:.3f}")

    async def _value(self, expression: str, since: float, at: float) -> Reading:
        step = self._plan.scrape
        start = at - math.floor((at - since) / step) * step
        grid = {"start": f"{start:.3f}", "end": f"{at:.3f}", "step": f"{step:.3f}"}
        return await self._read("query_range", Reading(expression, expression, at), {}, **grid)

    async def _read(self, path: str, asked: Reading, carried: dict[str, str], **parameters: str) -> Reading:
        try:
            return read(await self._api.ask(path, asked.expression, **parameters), asked, carried)
        except Gap as gap:
            return refuse(asked, gap)

    async def _skew(self) -> Gap | None:
        """What is wrong with Prometheus' clock, compared with this machine's."""
        sent = self._clock.wall()
        try:
            body = await self._api.ask("query", "time()")
            received = self._clock.wall()
            said = answers.scalar(body)
        except Gap as gap:
            return gap
        # The answer was made at some moment between the two.
        skew = max(sent - said, said - received, 0.0)
        if not skew <= self._plan.scrape:
            return Gap(Trouble.CLOCK_SKEW, f"Prometheus' clock and this machine's differ by {skew:.3f} s; set the clocks right")
        return None
