"""Cells about failed requests that come one by one: false alarms, false promotions, times, and low traffic (C1 to C5, C7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sre.judges.canary.arms import PRIOR_WORSE
from sre.measure.evidence import Restarting
from sre.measure.shares import Shares, log_e_proportion_below
from tests.studies.canary.cells import FAST_AT, PROMOTE_AT, ROLLBACK_AT, Cell, Scale
from tests.studies.canary.figures import Figure, exact, median, reached, times
from tests.studies.canary.simulate import Above, Below, Bools, Reached, Wald, first
from tests.studies.canary.traffic import Errors, Floats, Ints

EQUAL = {"canary_per_s": 100.0, "control_per_s": 100.0}
REST = {"canary_per_s": 100.0, "control_per_s": 900.0}

# Every one treats both arms alike, and failures come one by one.
CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "diurnal": {"diurnal": 10.0},
    "outages": {"outages": 0.002},
    "resets": {"resets": 0.005},
    "missed": {"missed": 0.1},
    "weight-0.1%": {"canary_per_s": 1.0, "control_per_s": 1.0},
    "weight-50%": {"canary_per_s": 500.0, "control_per_s": 500.0, "base": 0.0002},
    "share-0.1%": {"canary_per_s": 1.0, "control_per_s": 999.0, "base": 0.0002},
    "share-10%": REST,
}


def cells() -> list[Cell]:
    """All cells of this module."""
    return [
        *(Cell(f"aa-every-{every}s", _aa(float(every), {})) for every in (1, 5, 15, 60)),
        *(Cell(f"aa-{name}", _aa(15.0, condition)) for name, condition in CONDITIONS.items()),
        Cell("aa-restarting", _restarting),
        *(Cell(f"boundary-{every}s", _boundary(float(every))) for every in (1, 15)),
        *(Cell(f"boundary-{name}", _boundary(15.0, condition)) for name, condition in CONDITIONS.items()),
        Cell("boundary-objective", _objective),
        Cell("detect-rest", _detect(REST)),
        Cell("detect-equal", _detect(EQUAL)),
        Cell("detect-late", _late),
        *(Cell(f"promote-{margin:g}x", _promote(margin)) for margin in (1.5, 2.0, 3.0)),
        Cell("low-traffic", _low_traffic),
    ]


def day(scale: Scale, every: float, condition: Mapping[str, Any], **changes: Any) -> Errors:
    """A day of two equal arms, looked at every so many s."""
    return replace(Errors(runs=scale.runs, looks=round(scale.day_s / every), every_s=every), **(dict(condition) | changes))


def _aa(every: float, condition: Mapping[str, Any]) -> Any:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        errors = day(scale, every, condition)
        return {"false rollback": reached(first(errors.draw(seed), Above(ROLLBACK_AT, share=errors.share)))}

    return run


def _restarting(scale: Scale, seed: int) -> dict[str, Figure]:
    """As the gate does it: a mixture of restarts. A look a minute, since each costs about 50 evaluations."""
    errors = day(scale, 60.0, {}, runs=scale.few)
    process = Restarting(lambda: Shares(share=errors.share, prior=PRIOR_WORSE))
    return {"false rollback": reached(first(errors.draw(seed), Reached(process, ROLLBACK_AT)))}


def _boundary(every: float, condition: Mapping[str, Any] | None = None) -> Any:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        errors = day(scale, every, condition or {}, ratio=2.0)
        return {"false promotion": reached(first(errors.draw(seed), Below(PROMOTE_AT, share=errors.share, margin=1.0)))}

    return run


class _Objective:
    """Whether the canary's own share of failures has shown to be below a bound."""

    def __init__(self, per_look: int, at_most: float) -> None:
        self._per_look, self._at_most = per_look, at_most
        self._bad: Floats = np.zeros(())
        self._looks = 0

    def __call__(self, canary: Ints, control: Ints) -> Bools:
        self._bad, self._looks = self._bad + canary, self._looks + 1
        log_e = log_e_proportion_below(self._bad, self._looks * self._per_look, at_most=self._at_most)
        return np.asarray(log_e >= PROMOTE_AT)


def _objective(scale: Scale, seed: int) -> dict[str, Figure]:
    """At an objective of 0.1 per cent: a canary that fails exactly so many must not pass, one with a fifth of them must."""
    at = day(scale, 15.0, {}, base=0.001)
    fine = replace(at, runs=scale.few, base=0.0002, looks=min(at.looks, 400))
    return {
        "false promotion": reached(first(at.draw(seed), _Objective(1500, 0.001))),
        "shown, s": times(first(fine.draw(seed + 1), _Objective(1500, 0.001)), 15.0),
    }


def _detect(arms: Mapping[str, float]) -> Any:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        found = {}
        for ratio in (2, 3, 5, 10):
            for every in (1, 15):
                errors = Errors(runs=scale.few, looks=1800 // every, every_s=every, ratio=ratio, **arms)
                at = first(errors.draw(seed + ratio), Above(FAST_AT, share=errors.share))
                found[f"x{ratio} every {every} s, s"] = times(at, every)
                if every == 15:
                    found[f"x{ratio}, scrapes"] = times(at, 1)
                    continue
                wald = times(first(errors.draw(seed + ratio), Wald(FAST_AT, share=errors.share, ratio=ratio)), 1.0)
                found[f"x{ratio}, times Wald's"] = exact(found[f"x{ratio} every 1 s, s"].value / wald.value, errors.runs)
        return found

    return run


def _late(scale: Scale, seed: int) -> dict[str, Figure]:
    """A canary that goes bad (x5) after two hours: evidence that is never begun again, against the gate's."""
    errors = Errors(runs=max(scale.few // 4, 50), looks=480, **EQUAL)
    bad = replace(errors, looks=240, ratio=5.0)
    found = {}
    for name, process in (
        ("once", Shares(share=0.5, prior=PRIOR_WORSE)),
        ("restarting", Restarting(lambda: Shares(share=0.5, prior=PRIOR_WORSE))),
    ):
        for canary, control in errors.draw(seed):
            process.update(canary, control)
        found[f"{name}, s"] = times(first(bad.draw(seed + 1), Reached(process, FAST_AT)), 15.0)
    return found


def _promote(margin: float) -> Any:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        """Look by look of one second, so that the count of events is nearly that of the last one needed."""
        at, events = _promoted(Errors(runs=scale.few, looks=7200, every_s=1.0), seed, margin - 1.0)
        return {"events": median(events), "s": times(at, 1.0), "ever": reached(at)}

    return run


def _promoted(errors: Errors, seed: int, margin: float) -> tuple[Ints, Floats]:
    """The look at which each run is promoted, and its events of both arms by then; infinite where it is not."""
    test = Below(PROMOTE_AT, share=errors.share, margin=margin)
    events = np.full(errors.runs, math.inf)

    def counted(canary: Ints, control: Ints) -> Bools:
        hit = test(canary, control)
        now = hit & np.isinf(events)
        events[now] = test.n[now]
        return hit

    return first(errors.draw(seed), counted), events


def _low_traffic(scale: Scale, seed: int) -> dict[str, Figure]:
    """20 requests a minute of the canary, four times the errors (2 per cent), half an hour of looks."""
    found = {}
    for name, control in (("rest", 180.0), ("equal", 20.0)):
        errors = Errors(runs=scale.few, looks=120, canary_per_s=20 / 60, control_per_s=control / 60, base=0.005, ratio=4.0)
        at = first(errors.draw(seed), Above(FAST_AT, share=errors.share))
        found[f"found, {name}"] = reached(at)
        found[f"{name}, s"] = times(at, 15.0)
        at, events = _promoted(replace(errors, ratio=1.0, looks=960), seed + 1, margin=1.0)
        found[f"promoted in 4 h, {name}"] = reached(at)
        found[f"fewest events, {name}"] = exact(float(events.min()), errors.runs)
    return found
