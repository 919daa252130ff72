"""When a burning budget is worth a page or a ticket: several windows, each long and short at once.

A burn rate of 1 spends the budget exactly in its period. The windows and budget shares are those of "The Site Reliability
Workbook" (Google 2018), chapter 5, table 5-8; the burn factor of another period follows from the same share of its budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
SHORT = 12  # the short window is that part of the long one

# Below it a service that keeps its objective would alert for ever: 0.933 is the least of the workbook's factors, for 28 days.
LEAST_FACTOR = 0.9


class Severity(StrEnum):
    """Whether somebody is woken, or finds it on their desk."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Window:
    """One pair of windows.

    Attributes:
        severity: of the alert.
        long_s: over which the budget must have burned so fast, s.
        short_s: over which it must still do so, s: it makes the alert end soon after the trouble.
        factor: burn rate that both must exceed.
        for_s: how long they must do so, s.
    """

    severity: Severity
    long_s: float
    short_s: float
    factor: float
    for_s: float = 0.0

    def detected_s(self, allowed: float, bad_share: float) -> float | None:
        """How long an outage lasts before the long window notices, s, when nothing failed before it; None: never.

        Args:
            allowed: share of events that may be bad.
            bad_share: of the events of the outage.
        """
        needed = self.factor * allowed / bad_share if bad_share > 0 else math.inf
        return needed * self.long_s + self.for_s if needed < 1 else None


_SHARES = ((Severity.PAGE, HOUR_S, 0.02), (Severity.PAGE, 6 * HOUR_S, 0.05), (Severity.TICKET, DAY_S, 0.1),
           (Severity.TICKET, 3 * DAY_S, 0.1))  # fmt: skip


def workbook(period_s: float) -> tuple[Window, ...]:
    """The four windows for a period: `factor = share of the budget * period / long window`.

    Args:
        period_s: of the budget, s.
    """
    return tuple(Window(severity, long_s, long_s / SHORT, share * period_s / long_s) for severity, long_s, share in _SHARES)


def usable(windows: tuple[Window, ...], allowed: float) -> tuple[Window, ...]:
    """Those windows whose alert a total outage can raise, and an objective that is kept cannot.

    Args:
        windows: of any kind.
        allowed: share of events that may be bad.
    """
    return tuple(window for window in windows if window.factor * allowed < 1 and window.factor >= LEAST_FACTOR)
