"""The table of `sre slo`: each objective over a window that the caller chooses, and what is left of its budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sre.slo.standing import Standing, Unknown
from sre.units import Comparison, Unit, show, show_bound
from sre.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One objective, as text; `why` is empty unless something is missing."""

    objective: str
    bound: str
    measured: str
    budget_left: str
    outcome: Outcome
    why: str


def row(standing: Standing | Unknown, window: float) -> Row:
    """One objective over the last `window` s. It is broken when more failed than is promised, and not by chance."""
    objective = standing.objective
    bound = f">= {show_bound(objective.target, Unit.RATIO)}"
    if isinstance(standing, Unknown):
        return Row(
            objective=objective.name, bound=bound, measured=show(None, Unit.RATIO), budget_left="",
            outcome=Outcome.INCONCLUSIVE, why=standing.why,
        )  # fmt: skip
    burn = standing.account.burn(window, standing.at)
    outcome, why = Outcome.KEPT, ""
    if not burn.total:
        outcome, why = Outcome.INCONCLUSIVE, "no event in the window"
    elif standing.account.over(window, 1.0, np.array([standing.at]))[0]:
        outcome = Outcome.BROKEN
    elif burn.rate > 1:
        outcome, why = Outcome.INCONCLUSIVE, f"{burn.bad:,.6g} of {burn.total:,.0f} events bad, which may be chance"
    good = 1 - burn.rate * objective.allowed if burn.total else None
    return Row(
        objective=objective.name,
        bound=bound,
        measured=show(good, Unit.RATIO, Comparison.AT_LEAST),
        budget_left=show(standing.budget.left, Unit.RATIO, Comparison.AT_LEAST),
        outcome=outcome,
        why=why,
    )
