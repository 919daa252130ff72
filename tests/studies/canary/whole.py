"""Runs through the whole gate, one at a time, and the same through the vectorised functions: both must say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sre.judges.canary.arms import PRIOR_WORSE
from sre.judges.canary.decision import Action, Standing
from sre.judges.canary.gate import Gate
from sre.judges.canary.observation import Events, Interval, Missing
from sre.judges.canary.rules import Kind, MetricRule, Model, Rules, StageRule
from sre.measure.evidence import Restarting
from sre.measure.shares import Shares
from tests.studies.canary.cells import ALPHA, BETA, PROMOTE_AT, ROLLBACK_AT, SPLIT_ALPHA, Cell, Scale
from tests.studies.canary.figures import Figure, exact
from tests.studies.canary.simulate import NEVER, Below, Reached, first
from tests.studies.canary.traffic import Errors, Ints

ERRORS = MetricRule(name="errors", kind=Kind.RATIO, model=Model.INDEPENDENT, margin=1.0, proven=0.0)
_LOOKS = 60


def cells() -> list[Cell]:
    """All cells of this module."""
    return [Cell("gate-agrees", _agrees)]


def rules(metric: MetricRule = ERRORS, *, arm: float = 0.5, at_least_s: float = 0.0) -> Rules:
    """One metric and one stage; `arm` is the canary's share of what the two arms get together."""
    stage = StageRule(weight=0.1, share=arm, at_least_s=at_least_s, at_most_s=1e9)
    return Rules(alpha=ALPHA, beta=BETA, sample_ratio_alpha=SPLIT_ALPHA, metrics=(metric,), stages=(stage,))


@dataclass(frozen=True, slots=True)
class Look:
    """What a look finds: failures and requests of the canary, of the control; or that there is no data."""

    canary: int
    canary_of: int
    control: int
    control_of: int
    missing: tuple[Missing, ...] = ()


def drive(by: Rules, looks: Iterable[Look], every_s: float = 15.0) -> list[Standing]:
    """Feed a gate until it promotes or rolls back."""
    gate = Gate(by)
    standings: list[Standing] = []
    for number, look in enumerate(looks):
        events = Events(look.canary, look.canary_of, look.control, look.control_of)
        gone = {missing.metric for missing in look.missing}
        interval = Interval(
            start=number * every_s, end=(number + 1) * every_s, stage=0,
            canary_requests=look.canary_of, control_requests=look.control_of,
            observations={} if "errors" in gone else {"errors": events}, missing=look.missing,
        )  # fmt: skip
        standings.append(gate.look(interval))
        if standings[-1].action is not Action.HOLD:
            break
    return standings


@dataclass(frozen=True, slots=True)
class Decided:
    """What the gate decides per run, and at which look (from 1)."""

    actions: Sequence[Action]
    looks: Ints


def decide(errors: Errors, seed: int, *, at_least_s: float = 0.0, rollback_margin: float = 0.0) -> Decided:
    """What the gate with one independent metric would decide, for all runs at once."""
    process = Restarting(lambda: Shares(share=errors.share, margin=rollback_margin, prior=PRIOR_WORSE))
    bad = first(errors.draw(seed), Reached(process, ROLLBACK_AT))
    below = Below(PROMOTE_AT, share=errors.share, margin=1.0)
    asked = 0

    def fine(canary: Ints, control: Ints) -> np.typing.NDArray[np.bool_]:
        nonlocal asked
        asked += 1
        return below(canary, control) & (asked * errors.every_s >= at_least_s)

    good = first(errors.draw(seed), fine)
    never = errors.looks + 1
    bad_at, good_at = (np.where(at == NEVER, never, at) for at in (bad, good))
    actions = np.where(bad_at <= good_at, Action.ROLLBACK, Action.PROMOTE)
    actions = np.where(np.minimum(bad_at, good_at) == never, Action.HOLD, actions)
    return Decided([Action(action) for action in actions], np.minimum(np.minimum(bad_at, good_at), errors.looks))


def _agrees(scale: Scale, seed: int) -> dict[str, Figure]:
    """Healthy, bad and doubtful canaries, a few runs each."""
    other = runs = 0
    for ratio in (1.0, 1.7, 3.0):
        errors = Errors(runs=max(scale.few // 100, 3), looks=_LOOKS, ratio=ratio)
        counts = list(errors.draw(seed))
        decided = decide(errors, seed, at_least_s=300.0)
        per_look = int(errors.canary_per_s * errors.every_s)
        for run in range(errors.runs):
            looks = (Look(int(canary[run]), per_look, int(control[run]), per_look) for canary, control in counts)
            standings = drive(rules(at_least_s=300.0), looks)
            other += (standings[-1].action, len(standings)) != (decided.actions[run], decided.looks[run])
            runs += 1
    return {"other decisions": exact(float(other), runs)}
