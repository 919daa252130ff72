"""How good the alerts are: false pages and outages at low traffic, and precision, recall, detection and reset on busy months.

The terms are those of "The Site Reliability Workbook" (Google 2018), chapter 5. An event is significant for an alert when,
without chance, it would spend more of the budget within the alert's windows than the alert allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sre.judges.budget import Account, Counts, Floats
from sre.slo.standing import firing
from sre.slo.windows import DAY_S, HOUR_S, MINUTE_S, Severity, Window, usable, workbook
from tests.studies.slo import traffic

WINDOWS = usable(workbook(traffic.PERIOD_S), traffic.ALLOWED)
PAGES = tuple(window for window in WINDOWS if window.severity is Severity.PAGE)
EVERY_S = MINUTE_S  # between two evaluations
LOW_A_SECOND = 10 / HOUR_S
_DAYS = 30
_WARM_DAYS = 3  # before anything is judged: the longest window is then full
_STEP_S = 15.0
_BUSY_A_SECOND = 200.0
_INCIDENTS = 6

Flags = npt.NDArray[np.bool_]


def quiet_month(seed: int) -> dict[str, Any]:
    """Ten requests an hour that fail as often as the objective allows, and then a total outage.

    Returns:
        `pages`: how often one began in the month. `naive`: the same without the test for chance. `found_s`: from the beginning of
        an outage after the month to its page, s; None when there was none within six hours.
    """
    steps = int((_DAYS + _WARM_DAYS) * DAY_S / _STEP_S) + int(6 * HOUR_S / _STEP_S)
    ends = traffic.ends(steps, _STEP_S)
    begins = (_DAYS + _WARM_DAYS) * DAY_S
    failing = np.where(ends > begins, 1.0, traffic.ALLOWED)
    account = Account(traffic.counts(seed, np.full(steps, LOW_A_SECOND), failing, _STEP_S), traffic.GOAL)
    month = np.arange(_WARM_DAYS * DAY_S, begins + 1, EVERY_S)
    outage = np.arange(begins + EVERY_S, ends[-1] + 1, EVERY_S)
    page = _any([firing(account, window, month) for window in PAGES])
    naive = _any([
        (account.rates(window.long_s, month) > window.factor) & (account.rates(window.short_s, month) > window.factor)
        for window in PAGES
    ])  # fmt: skip
    found = outage[_any([firing(account, window, outage) for window in PAGES])]
    return {
        "pages": len(_spans(page)), "naive": len(_spans(naive)), "found_s": float(found[0]) - begins if len(found) else None,
    }  # fmt: skip


def busy_month(seed: int) -> dict[str, Any]:
    """A busy service with incidents of all sizes: for each alert, what it found, missed and invented.

    Returns:
        By window, in the order of WINDOWS: `significant`, `found`, `fired`, `right` (of those fired, at a significant event),
        `detection_s` and `reset_s`, one number each per event found.
    """
    steps = int((_DAYS + _WARM_DAYS) * DAY_S / _STEP_S)
    ends = traffic.ends(steps, _STEP_S)
    happened = traffic.incidents(seed, _DAYS + _WARM_DAYS, _INCIDENTS)
    rate, failing = traffic.daily(ends, _BUSY_A_SECOND, 3.0), traffic.share(ends, traffic.ALLOWED / 4, happened)
    account = Account(traffic.counts(seed, rate, failing, _STEP_S), traffic.GOAL)
    # The same month without chance: its counts are their expectations.
    certain = Account(Counts(0.0, ends, rate * failing * _STEP_S, rate * _STEP_S), traffic.GOAL)
    at = np.arange(_WARM_DAYS * DAY_S, ends[-1] + 1, EVERY_S)
    return {"windows": [_quality(account, certain, window, at, happened) for window in WINDOWS]}


def constant_outage(window: Window, bad_share: float, a_second: float) -> tuple[float, float]:
    """Seconds until an alert fires in an outage of steady traffic, `a_second` requests, and what the formula says."""
    said = window.detected_s(traffic.ALLOWED, bad_share)
    if said is None:
        raise ValueError(f"{bad_share:g} of all requests never fire {window.long_s:g} s")
    begins = 2 * window.long_s
    steps = int((begins + window.long_s) / _STEP_S)
    ends = traffic.ends(steps, _STEP_S)
    total = np.full(steps, a_second * _STEP_S)
    account = Account(Counts(0.0, ends, np.where(ends > begins, bad_share, 0.0) * total, total), traffic.GOAL)
    at = np.arange(begins, ends[-1] + 1, _STEP_S)
    return float(at[firing(account, window, at)][0]) - begins, said


def _quality(
    account: Account, certain: Account, window: Window, at: Floats, happened: Sequence[traffic.Incident]
) -> dict[str, Any]:
    fired, due = firing(account, window, at), _due(certain, window, at)
    fires, events = _spans(fired), _spans(due)
    # One evaluation of grace: an event at the very limit fires one earlier or later, or is seen by chance alone.
    found = [next((one for one in fires if one[1] >= first - 1 and one[0] <= last + 1), None) for first, last in events]
    right = [any(one[1] >= first - 1 and one[0] <= last + 1 for first, last in events) for one in fires]
    detection, reset = [], []
    for event, fire in zip(events, found, strict=True):
        causes = [one for one in happened if one.start <= at[event[1]] and one.end >= at[event[0]] - window.long_s]
        if fire is None or len(causes) != 1:
            continue  # of two incidents at once nobody can say which was found
        detection.append(max(0.0, float(at[fire[0]]) - causes[0].start))
        if fire[1] < len(at) - 1:
            reset.append(max(0.0, float(at[fire[1]]) + EVERY_S - causes[0].end))
    return {
        "significant": len(events), "found": sum(one is not None for one in found), "fired": len(fires), "right": sum(right),
        "detection_s": detection, "reset_s": reset,
    }  # fmt: skip


def _due(certain: Account, window: Window, at: Floats) -> Flags:
    return (certain.rates(window.long_s, at) > window.factor) & (certain.rates(window.short_s, at) > window.factor)


def _any(flags: Sequence[Flags]) -> Flags:
    return np.asarray(np.any(flags, axis=0))


def _spans(flags: Flags) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]
