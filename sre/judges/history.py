"""The history of writes: is everything there that was acknowledged, nothing that was not, and how long was nothing taken?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sre.errors import EvidenceDamaged
from sre.judges.recovery import recovery
from sre.judges.ruling import verdict
from sre.promises import Promise
from sre.verdict import Outcome, Verdict

SHORTEST_OUTAGE_SECONDS = 1.0
_STEADY_GAPS = 2.0  # a pause in the acknowledgements is an outage when it is this many times the longest one before the fault
_STEADY_SHARE = 0.9

Floats = npt.NDArray[np.float64]


class Fate(StrEnum):
    """What the writer knows about an attempt.

    ACKED: COMMIT came back, and no warning with it. FAILED: surely not committed. UNKNOWN: anything else.
    """

    ACKED = "acked"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Key(NamedTuple):
    """Names one attempt, and the row that it left. Never used twice."""

    run: str
    writer: int
    seq: int


class Row(NamedTuple):
    """One row as the database holds it; `payload` in hexadecimal."""

    key: Key
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to write one row, in a transaction of its own.

    Attributes:
        key: of the row.
        payload: what was to be written, hexadecimal.
        sent: when the attempt began, a connection included, monotonic s.
        sent_wall: the same instant, s since the epoch.
        done: when its fate was known, monotonic s; None when the writer itself was killed before.
        done_wall: the same instant, s since the epoch.
        fate: what became of it.
        server: port of the server that was asked, as that server knows it; None when none was reached.
        error: what the server or the connection said; empty when it said nothing.
    """

    key: Key
    payload: str
    sent: float
    sent_wall: float
    done: float | None = None
    done_wall: float | None = None
    fate: Fate = Fate.UNKNOWN
    server: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryCheck:
    """Attempts compared with the rows that were found afterwards.

    Attributes:
        attempts, acked, failed: counts.
        unknown_found, unknown_absent: of the attempts whose fate was unknown; both are allowed.
        lost: acknowledged and not found.
        invented: found, although surely not committed or never attempted.
        doubled: found more than once.
        altered: found with another payload.
    """

    attempts: int
    acked: int
    failed: int
    unknown_found: int
    unknown_absent: int
    lost: tuple[Key, ...]
    invented: tuple[Key, ...]
    doubled: tuple[Key, ...]
    altered: tuple[Key, ...]

    @property
    def differences(self) -> int:
        """How many rows are not as they must be."""
        return len(self.lost) + len(self.invented) + len(self.doubled) + len(self.altered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the writers noticed of a fault; times in s from the fault, None for what was not seen.

    Attributes:
        steady_rate: acknowledged writes per second before the fault, all writers together; 0.0 when there were none.
        longest_gap: between two acknowledgements, or before the end, from the first acknowledgement on, s.
        first_ack: the first acknowledgement of a write sent after the fault.
        first_write: the same once the outage is over. Writes that slip through before the fault bites do not count.
        full_service: from when on every writer is acknowledged, at 90 % of the steady rate, with no outage.
        watched: to the last thing that a writer noted.
        failed, unknown: attempts under way at the fault or sent later, by fate.
    """

    steady_rate: float
    longest_gap: float
    first_ack: float | None
    first_write: float | None
    full_service: float | None
    watched: float
    failed: int
    unknown: int


def check(attempts: Iterable[Attempt], rows: Iterable[Row]) -> HistoryCheck:
    """Compare what was attempted with what is there.

    Args:
        attempts: of all runs that `rows` may hold.
        rows: all rows of those runs, in any order.

    Raises:
        EvidenceDamaged: two attempts have the same key, so nobody can say what became of each.
    """
    tried: dict[Key, Attempt] = {}
    for attempt in attempts:
        if attempt.key in tried:
            raise EvidenceDamaged(f"the history holds two attempts {_name(attempt.key)}; each must have a number of its own")
        tried[attempt.key] = attempt
    found: dict[Key, str] = {}
    doubled: dict[Key, None] = {}
    altered: dict[Key, None] = {}
    for key, payload in rows:
        if key in found:
            doubled[key] = None
        if key in tried and payload != tried[key].payload:
            altered[key] = None
        found[key] = payload
    fates = Counter(attempt.fate for attempt in tried.values())
    unknown_found = sum(key in found for key, attempt in tried.items() if attempt.fate is Fate.UNKNOWN)
    return HistoryCheck(
        attempts=len(tried),
        acked=fates[Fate.ACKED],
        failed=fates[Fate.FAILED],
        unknown_found=unknown_found,
        unknown_absent=fates[Fate.UNKNOWN] - unknown_found,
        lost=tuple(sorted(key for key, attempt in tried.items() if attempt.fate is Fate.ACKED and key not in found)),
        invented=tuple(sorted(key for key in found if key not in tried or tried[key].fate is Fate.FAILED)),
        doubled=tuple(sorted(doubled)),
        altered=tuple(sorted(altered)),
    )


def service(attempts: Sequence[Attempt], *, fault: float, bites: float, held: float) -> Service:
    """What the writers noticed of a fault.

    An outage is a pause in the acknowledgements of at least SHORTEST_OUTAGE_SECONDS, and of twice the longest one before the
    fault. After the fault only writes count that were sent after it: one that hung meanwhile is no new service.

    Args:
        attempts: of all writers, in any order.
        fault: monotonic s.
        bites: an outage that begins later than this after the fault is not the fault's, s. A lost quorum is felt late.
        held: how long full service must last to be one, s.
    """
    acks = [
        (attempt.sent, attempt.done, attempt.key)
        for attempt in attempts
        if attempt.fate is Fate.ACKED and attempt.done is not None
    ]
    acks.sort(key=lambda ack: ack[1])
    end = max((attempt.sent if attempt.done is None else attempt.done for attempt in attempts), default=fault)
    all_done = np.array([done for _, done, _ in acks])
    steady = all_done[all_done < fault]
    after = [(done, key) for sent, done, key in acks if sent >= fault]
    done = np.array([moment for moment, _ in after])
    outage = max(SHORTEST_OUTAGE_SECONDS, _STEADY_GAPS * _longest(np.append(steady, fault)))
    steady_rate = len(steady) / (fault - steady[0]) if len(steady) else 0.0
    first = _first_after_outage(done, outage, fault, bites, end)
    writers = {(attempt.key.run, attempt.key.writer) for attempt in attempts}
    full = None
    if first is not None and steady_rate:
        who = [(key.run, key.writer) for _, key in after]
        full = _full_service(done[first:], who[first:], len(writers), _STEADY_SHARE * steady_rate * held, outage, held, end)
    touched = Counter(attempt.fate for attempt in attempts if attempt.done is None or attempt.done >= fault)
    return Service(
        steady_rate=float(steady_rate),
        longest_gap=_longest(np.append(all_done, end)) if len(all_done) else 0.0,
        first_ack=float(done[0]) - fault if len(done) else None,
        first_write=float(done[first]) - fault if first is not None else None,
        full_service=full - fault if full is not None else None,
        watched=max(0.0, end - fault),
        failed=touched[Fate.FAILED],
        unknown=touched[Fate.UNKNOWN],
    )


def no_acknowledged_loss(promise: Promise, checked: HistoryCheck) -> Verdict:
    """Judge a history: the measured value is the number of rows that are not as they must be.

    A loss is a loss however few writes there were; that there is none takes `promise.least` acknowledged writes.

    Args:
        promise: bound as a count.
        checked: from `check`.
    """
    if not checked.acked:
        why = f"no write was acknowledged in {checked.attempts:,} attempts"
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, why)
    kinds = {"lost": checked.lost, "invented": checked.invented, "doubled": checked.doubled, "altered": checked.altered}
    found = [f"{len(keys):,} rows {kind}, first {_name(keys[0])}" for kind, keys in kinds.items() if keys]
    unknown = checked.unknown_found + checked.unknown_absent
    why = "; ".join(found) or f"all {checked.acked:,} acknowledged writes are there, of {checked.attempts:,} attempts"
    why += f"; {unknown:,} of unknown fate, {checked.unknown_found:,} of them there"
    if not promise.comparison.holds(checked.differences, promise.bound):
        return verdict(promise, Outcome.BROKEN, float(checked.differences), None, checked.acked, why)
    if checked.acked < promise.least:
        why = f"{why}; {checked.acked:,} of at least {promise.least:,} acknowledged writes"
        return verdict(promise, Outcome.INCONCLUSIVE, float(checked.differences), None, checked.acked, why)
    return verdict(promise, Outcome.KEPT, float(checked.differences), None, checked.acked, why)


def first_write(promise: Promise, noticed: Service) -> Verdict:
    """Judge the time to the first acknowledged write, in s. Without writes before the fault nothing was interrupted."""
    return _recovered(promise, noticed, noticed.first_write, "the first acknowledged write")


def full_service(promise: Promise, noticed: Service) -> Verdict:
    """Judge the time until every writer is served at the steady rate again, in s."""
    return _recovered(promise, noticed, noticed.full_service, "full service for every writer")


def _recovered(promise: Promise, noticed: Service, seconds: float | None, event: str) -> Verdict:
    if not noticed.steady_rate:
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, "no write was acknowledged before the fault")
    return recovery(promise, seconds, watched=noticed.watched, event=event)


def _longest(moments: Floats) -> float:
    return float(np.diff(moments).max(initial=0.0))


def _first_after_outage(done: Floats, outage: float, fault: float, bites: float, end: float) -> int | None:
    # Index of the acknowledgement that ends the first outage; without an outage, of the first one.
    moments = np.concatenate([[fault], done, [end]])
    outages = np.flatnonzero((np.diff(moments) >= outage) & (moments[:-1] <= fault + bites))
    first = int(outages[0]) if len(outages) else 0
    return first if first < len(done) else None


def _full_service(  # noqa: PLR0913, PLR0917 - numbers of one sum
    done: Floats, who: Sequence[tuple[str, int]], writers: int, least: float, outage: float, held: float, end: float
) -> float | None:
    # A window of `held` s slides from acknowledgement to acknowledgement.
    pauses = np.append(0, np.cumsum(np.diff(done) >= outage))  # before each acknowledgement
    seen: Counter[tuple[str, int]] = Counter()
    stop = 0
    for start, begun in enumerate(done.tolist()):
        if begun + held > end:
            return None
        while stop < len(done) and done[stop] <= begun + held:
            seen[who[stop]] += 1
            stop += 1
        unbroken = pauses[stop - 1] == pauses[start] and begun + held - done[stop - 1] < outage
        if unbroken and stop - start >= least and len(+seen) == writers:
            return float(begun)
        seen[who[start]] -= 1
    return None


def _name(key: Key) -> str:
    return f"{key.run}/{key.writer}/{key.seq}"
