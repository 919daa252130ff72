"""Where an objective stands: its budget, how fast it goes, which alerts fire, when it will be gone, and what it went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sre.judges.budget import Account, Budget, Burn, Forecast, Incident
from sre.slo.live import Missing, Reading, goal, read
from sre.slo.objective import Objective
from sre.slo.windows import HOUR_S, MINUTE_S, Severity, Window

FORECAST_S = 6 * HOUR_S
INCIDENT_S = HOUR_S
_INCIDENT_FACTOR = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One pair of windows: `on` when its alert fires."""

    window: Window
    long: Burn
    short: Burn
    on: bool

    def line(self) -> str:
        """For people."""
        return (
            f"{self.window.severity}: burn {self.long.rate:.2f} over {self.window.long_s / HOUR_S:g} h and {self.short.rate:.2f} "
            f"over {self.window.short_s / MINUTE_S:g} min, limit {self.window.factor:.4g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an objective stands.

    Attributes:
        objective: which.
        at: seconds since the epoch.
        reading: what everything rests on.
        account: of the reading, for figures of other instants.
        budget, forecast: at the instant.
        alarms: in the order of the objective's windows.
        incidents: of the period, in order.
    """

    objective: Objective
    at: float
    reading: Reading
    account: Account
    budget: Budget
    alarms: tuple[Alarm, ...]
    forecast: Forecast
    incidents: tuple[Incident, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """An objective of which nobody knows where it stands, and why."""

    objective: Objective
    at: float
    why: str


def ask(url: str, objectives: Sequence[Objective], at: float) -> tuple[Standing | Unknown, ...]:
    """Where objectives stand.

    Args:
        url: of Prometheus.
        objectives: in order.
        at: seconds since the epoch.
    """
    return tuple(_ask(url, objective, at) for objective in objectives)


def stand(objective: Objective, reading: Reading, at: float) -> Standing:
    """Where an objective stands by what was read of it."""
    account = Account(reading.counts, goal(objective, at))
    pages = [window.factor for window in objective.windows if window.severity is Severity.PAGE]
    return Standing(
        objective=objective,
        at=at,
        reading=reading,
        account=account,
        budget=account.budget(at),
        alarms=tuple(_alarm(account, window, at) for window in objective.windows),
        forecast=account.forecast(FORECAST_S, at),
        incidents=account.incidents(INCIDENT_S, min(pages, default=_INCIDENT_FACTOR), at),
    )


def _ask(url: str, objective: Objective, at: float) -> Standing | Unknown:
    # The windows of alerts reach back beyond a calendar period that has just begun.
    since = min([goal(objective, at).begin(at), *(at - window.long_s - window.for_s for window in objective.windows)])
    reading = read(url, objective, since, at)
    if isinstance(reading, Missing):
        return Unknown(objective, at, reading.why)
    return stand(objective, reading, at)


def _alarm(account: Account, window: Window, at: float) -> Alarm:
    held = np.append(np.arange(at - window.for_s, at, MINUTE_S), at)
    on = firing(account, window, held)
    return Alarm(window=window, long=account.burn(window.long_s, at), short=account.burn(window.short_s, at), on=bool(on.all()))


def firing(
    account: Account, window: Window, at: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether the condition of an alert holds at each instant, shape (n,): as the generated rules compute it."""
    return account.over(window.long_s, window.factor, at) & (account.rates(window.short_s, at) > window.factor)
