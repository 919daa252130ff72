"""What a service owes, whatever file it was read from: a share of good events over a period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sre.slo.promql import Count
from sre.slo.windows import Severity, Window

_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_SPANS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Budgeting(StrEnum):
    """What spends the budget.

    OCCURRENCES: every bad event. TIMESLICES: every slice of time whose share of good events is below the slice's target.
    RATIO_TIMESLICES: every slice, by its share of bad events, so that a quiet slice weighs as much as a busy one.
    """

    OCCURRENCES = "Occurrences"
    TIMESLICES = "Timeslices"
    RATIO_TIMESLICES = "RatioTimeslices"


@dataclass(frozen=True, slots=True)
class Calendar:
    """Periods that follow each other from a moment on, as months do.

    Attributes:
        start: the beginning of one of them, with its time zone.
        count, unit: the length: m, h, d, w as everywhere; M, Q, Y are months of the calendar, 3 and 12 of them.
    """

    start: datetime
    count: int
    unit: str

    def period(self, at: datetime) -> tuple[datetime, datetime]:
        """Beginning and end of the period that a moment lies in; the end is the next one's beginning.

        Args:
            at: with a time zone.
        """
        local = at.astimezone(self.start.tzinfo)
        if self.unit in _MONTHS:
            index = ((local.year - self.start.year) * 12 + local.month - self.start.month) // (self.count * _MONTHS[self.unit])
        else:
            index = (at.astimezone(UTC) - self.start.astimezone(UTC)) // (self.count * _SPANS[self.unit])
        # Summer time and short months move boundaries by less than one period.
        while self._boundary(index).timestamp() > at.timestamp():
            index -= 1
        while self._boundary(index + 1).timestamp() <= at.timestamp():
            index += 1
        return self._boundary(index), self._boundary(index + 1)

    def _boundary(self, index: int) -> datetime:
        if self.unit in {"m", "h"}:
            return (self.start.astimezone(UTC) + index * self.count * _SPANS[self.unit]).astimezone(self.start.tzinfo)
        if self.unit not in _MONTHS:
            # The same hour of the day on both sides of a change to summer time.
            return self.start + index * self.count * _SPANS[self.unit]
        month = self.start.month - 1 + index * self.count * _MONTHS[self.unit]
        first = self.start.replace(day=1, year=self.start.year + month // 12, month=month % 12 + 1)
        # A period that begins on the 31st begins on the last day of shorter months.
        last = ((first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day
        return first.replace(day=min(self.start.day, last))


@dataclass(frozen=True, slots=True)
class Alerting:
    """How an objective's alerts are labelled.

    Attributes:
        labels, annotations: of every alert.
        severity_labels: of those of one severity.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    severity_labels: Mapping[Severity, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One objective.

    Attributes:
        name: unique among the objectives of a service; a DNS label.
        service: a DNS label.
        description: a sentence for people.
        target: share of events that must be good, 0 to below 1.
        period_s: of the budget, s; for a calendar the nominal length (a month has 30 days), by which burn factors are computed.
        calendar: None for a period that ends now.
        budgeting: what spends the budget.
        slice_s: length of a slice, s; None for occurrences.
        slice_target: share of good events that makes a slice a good one; None except for `TIMESLICES`.
        bad, total: events in a window. Events of a sampled indicator are samples, and a precomputed ratio counts as that share
            of one.
        sampled: the events are samples of a gauge, one a minute; they depend on each other, so no interval is computed from them.
        edge: for latency objectives whose good events are those of a bucket: its upper edge, in the unit of the metric.
        windows: of the alerts.
        alerting: their labels.
    """

    name: str
    service: str
    description: str
    target: float
    period_s: float
    calendar: Calendar | None = None
    budgeting: Budgeting = Budgeting.OCCURRENCES
    slice_s: float | None = None
    slice_target: float | None = None
    bad: Count
    total: Count
    sampled: bool = False
    edge: float | None = None
    windows: tuple[Window, ...] = ()
    alerting: Alerting = field(default_factory=Alerting)

    @property
    def allowed(self) -> float:
        """Share of events that may be bad."""
        # Twelve digits: 1 - 0.999 is not 0.001.
        return float(f"{1 - self.target:.12g}")

    @property
    def independent(self) -> bool:
        """Whether what spends the budget are single events, so that a number of them has an interval."""
        return self.budgeting is Budgeting.OCCURRENCES and not self.sampled
