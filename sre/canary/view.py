"""Where a rollout stands, as people see it: one snapshot from which terminal, page and messages are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sre.canary.judge import Judged
from sre.judges.canary.decision import Action, MetricStanding, Standing
from sre.units import Unit, show, show_bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where a rollout stands after a look.

    Attributes:
        run: id.
        title: what is rolled out, in words.
        stage: of the stages, as in `2 of 3`.
        canary, control: shares of all traffic.
        elapsed_s: since the rollout began.
        left_s: until the stage's deadline; None when it has none.
        standing: None before the first look of a stage with a control.
        question: that people are asked just now; empty when none.
        last: the newest reason.
        judged: all looks with a control until now.
    """

    run: str
    title: str
    stage: str
    canary: float
    control: float
    elapsed_s: float
    left_s: float | None
    standing: Standing | None
    question: str
    last: str
    judged: Sequence[Judged] = ()


class View(Protocol):
    """Who shows people how a rollout goes."""

    def show(self, snapshot: Snapshot) -> None:
        """It stands here now."""
        ...

    def change(self, line: str) -> None:
        """Something has changed."""
        ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence against its threshold: the share of the way, 0 to 1 on the logarithms, and both as e-values in words."""

    share: float
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: what the two arms show, the evidence that it is worse and that it is fine, and why."""

    metric: str
    canary: str
    control: str
    n: str
    worse: Evidence
    fine: Evidence | None
    why: str


def rows(standing: Standing) -> list[Row]:
    """The metrics of a standing; before them, under `together`, the evidence that rolls back."""
    most = evidence(standing.log_e_rollback, standing.rollback_at)
    together = Row("together", "", "", "", most, None, "mean of the evidence of all metrics; at its threshold it rolls back")
    return [together, *(_row(metric, standing) for metric in standing.metrics)]


def evidence(log_e: float, threshold: float) -> Evidence:
    """An e-value against its threshold, both as natural logarithms.

    An e-value below 1 speaks against, so its share of the way is 0.
    """
    share = min(max(log_e / threshold, 0.0), 1.0)
    return Evidence(share, f"{e_value(log_e)} of {e_value(threshold)}")


def e_value(log_e: float) -> str:
    """An e-value from its natural logarithm, rounded down: `0.31`, `17`, `1e12`."""
    tens = log_e / math.log(10.0)
    if tens >= 5:
        return f"1e{math.floor(tens + 1e-9)}"
    value = math.exp(log_e) if log_e > -50 else 0.0
    step = 10.0 ** (1 - max(math.floor(math.log10(value) + 1e-9), -1)) if value >= 0.01 else 100.0
    return f"{math.floor(value * step * (1 + 1e-12)) / step:,.10g}"


def status_line(snapshot: Snapshot) -> str:
    """Where it stands, in one line."""
    parts = [f"stage {snapshot.stage}", f"canary {percent(snapshot.canary)}, control {percent(snapshot.control)}"]
    if snapshot.standing is not None:
        standing = snapshot.standing
        parts.append(f"rollback evidence {evidence(standing.log_e_rollback, standing.rollback_at).text}")
        if fine := [metric.log_e_fine for metric in standing.metrics if metric.log_e_fine is not None]:
            parts.append(f"least promotion evidence {evidence(min(fine), standing.promote_at).text}")
    if snapshot.left_s is not None:
        parts.append(f"{duration(max(snapshot.left_s, 0.0))} left")
    return "; ".join([*parts, snapshot.question or snapshot.last])


def percent(share: float) -> str:
    """A share as people write it: `10 %`."""
    return show_bound(share, Unit.RATIO)


def duration(seconds: float) -> str:
    """A duration, rounded up: `45 s`, `10 min`."""
    return show(float(math.ceil(seconds)), Unit.SECONDS) if seconds >= 1 else "0 s"


def style(action: Action) -> str:
    """The colour of an action for rich; its word always stands beside it."""
    return {Action.PROMOTE: "bold green", Action.ROLLBACK: "bold red", Action.HOLD: "bold yellow"}[action]


def _row(metric: MetricStanding, standing: Standing) -> Row:
    return Row(
        metric.name,
        _measured(metric.canary, metric.unit),
        _measured(metric.control, metric.unit),
        f"{metric.n:,}",
        evidence(metric.log_e_worse, standing.rollback_at),
        None if metric.log_e_fine is None else evidence(metric.log_e_fine, standing.promote_at),
        metric.why,
    )


def _measured(value: float | None, unit: str) -> str:
    if value is None or unit.startswith("share"):
        return show(value, Unit.RATIO)
    return f"{value:.4g}"
