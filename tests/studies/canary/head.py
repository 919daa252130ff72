"""Head to head on the same traffic: our gate and the replicas of Kayenta, Flagger and Argo Rollouts (C13).

Everyone sees the same minutes. Kayenta judges shares of failures per minute at the end, a baseline beside it; Flagger and Argo
compare each minute with a fixed bound, once as loose as their own examples (1 per cent, 5 per cent), once tuned to twice the
usual share of failures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from sre.judges.canary.decision import Action
from tests.studies.canary.cells import Cell, Scale
from tests.studies.canary.figures import Figure, share
from tests.studies.canary.references import Argo, Class, Flagger, Kayenta, Phase
from tests.studies.canary.traffic import Errors, Floats
from tests.studies.canary.whole import decide

MINUTES = 30
_PER_MINUTE = 4  # looks of ours

# Failing shares and rates of the comparison; `equal` arms but for the quiet canary, whose control gets nine times as much.
SCENARIOS: Mapping[str, Errors] = {
    "same": Errors(runs=1, looks=MINUTES * _PER_MINUTE),
    "x2": Errors(runs=1, looks=MINUTES * _PER_MINUTE, ratio=2.0),
    "x3": Errors(runs=1, looks=MINUTES * _PER_MINUTE, ratio=3.0),
    "x10": Errors(runs=1, looks=MINUTES * _PER_MINUTE, ratio=10.0),
    "outages, same": Errors(runs=1, looks=MINUTES * _PER_MINUTE, outages=0.01),
    "quiet, same": Errors(runs=1, looks=MINUTES * _PER_MINUTE, canary_per_s=1 / 3, control_per_s=3.0, base=0.005),
    "quiet, x4": Errors(runs=1, looks=MINUTES * _PER_MINUTE, canary_per_s=1 / 3, control_per_s=3.0, base=0.005, ratio=4.0),
    "quiet, x10": Errors(runs=1, looks=MINUTES * _PER_MINUTE, canary_per_s=1 / 3, control_per_s=3.0, base=0.005, ratio=10.0),
}
JUDGES = ("ours", "Kayenta", "Flagger, 1 %", "Flagger, tuned", "Argo, 5 %", "Argo, tuned")


def cells() -> list[Cell]:
    """All cells of this module."""
    return [Cell(f"head-{name}", _head(errors)) for name, errors in SCENARIOS.items()]


def kayenta(canary: Floats, control: Floats) -> Action:
    """One metric; its score is 0 or 100."""
    found = Kayenta().classify(list(canary), list(control))
    return {Class.PASS: Action.PROMOTE, Class.NODATA: Action.HOLD}.get(found, Action.ROLLBACK)


def flagger(bound: float) -> Callable[[Floats, Floats], Action]:
    """As its tutorial has it: a check a minute, 10 failed ones roll back, 10 passed ones promote."""

    def judge(canary: Floats, _control: Floats) -> Action:
        end = Flagger(high=bound, threshold=10, steps=10).run([[] if np.isnan(value) else [float(value)] for value in canary])
        return {"promoted": Action.PROMOTE, "rolled-back": Action.ROLLBACK}.get(end.state, Action.HOLD)

    return judge


def argo(bound: float) -> Callable[[Floats, Floats], Action]:
    """As its documentation has it: `result[0] <= bound`, 3 failures allowed; here 10 measurements, one a minute."""

    def judge(canary: Floats, _control: Floats) -> Action:
        phase, _ = Argo(success=lambda result: result[0] <= bound, failure_limit=3).run(
            [[] if np.isnan(value) else [float(value)] for value in canary]
        )
        return {Phase.SUCCESSFUL: Action.PROMOTE, Phase.FAILED: Action.ROLLBACK}.get(phase, Action.HOLD)

    return judge


def _head(scenario: Errors) -> Callable[[Scale, int], dict[str, Figure]]:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        errors = replace(scenario, runs=scale.few // 2)
        minutes = _minutes(errors, seed)
        judges: dict[str, Callable[[Floats, Floats], Action]] = {
            "Kayenta": kayenta,
            "Flagger, 1 %": flagger(0.01),
            "Flagger, tuned": flagger(2 * errors.base),
            "Argo, 5 %": argo(0.05),
            "Argo, tuned": argo(2 * errors.base),
        }
        actions = {"ours": Counter(decide(errors, seed, at_least_s=300.0).actions)}
        for name, judge in judges.items():
            actions[name] = Counter(judge(minutes[:, 0, column], minutes[:, 1, column]) for column in range(errors.runs))
        found = {
            f"{name}: {action.lower()}": share(actions[name][action], errors.runs)
            for name in JUDGES
            for action in (Action.ROLLBACK, Action.PROMOTE, Action.HOLD)
        }
        ours, theirs = found["ours: rollback"], found["Kayenta: rollback"]
        lead = Figure(ours.value - theirs.value, ours.low - theirs.high, ours.high - theirs.low, errors.runs)
        return found | {"lead over Kayenta": lead}

    return run


def _minutes(errors: Errors, seed: int) -> Floats:
    """Shares of failures per minute, shape (minutes, 2, runs)."""
    looks = np.array([np.stack(look) for look in errors.draw(seed)])
    counts = looks.reshape(MINUTES, _PER_MINUTE, 2, errors.runs).sum(axis=1)
    requests = 60.0 * np.array([errors.canary_per_s, errors.control_per_s])
    shares: Floats = counts / requests[:, None]
    return shares
