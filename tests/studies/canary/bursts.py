"""Cells about failures that come several at once: arms of equal size, whole intervals compared (C2, C3, C4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sre.measure.evidence import Restarting
from sre.measure.exchangeable import Exchangeable
from tests.studies.canary.cells import FAST_AT, PROMOTE_AT, ROLLBACK_AT, Cell, Scale
from tests.studies.canary.counting import EQUAL, day
from tests.studies.canary.figures import Figure, reached, times
from tests.studies.canary.simulate import Above, Reached, first
from tests.studies.canary.traffic import Errors, Ints

CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "clusters of 2": {"cluster": 2.0},
    "clusters of 5": {"cluster": 5.0},
    "clusters of 20": {"cluster": 20.0},
    "a bad node": {"bad_node": 0.002},
    "clusters of 5, diurnal": {"cluster": 5.0, "diurnal": 10.0},
    "clusters of 5, outages": {"cluster": 5.0, "outages": 0.002},
    "clusters of 5, resets": {"cluster": 5.0, "resets": 0.005},
    "clusters of 5, missed": {"cluster": 5.0, "missed": 0.1},
    "clusters of 5, weight-0.1%": {"cluster": 5.0, "canary_per_s": 1.0, "control_per_s": 1.0},
}
# Times the usual runs: these rates come so close to what is stated that 10,000 cannot tell them from more.
MANY = 4
BOUNDARIES = ("clusters of 2", "clusters of 5", "clusters of 20", "a bad node")


def cells() -> list[Cell]:
    """All cells of this module."""
    return [
        *(Cell(f"bursts-aa-{name}", _aa(condition)) for name, condition in CONDITIONS.items()),
        *(Cell(f"bursts-aa-every-{every}s", _aa(CONDITIONS["clusters of 5"], every)) for every in (5, 60)),
        Cell("bursts-aa-restarting", _restarting),
        *(Cell(f"bursts-boundary-{name}", _boundary(CONDITIONS[name])) for name in BOUNDARIES),
        Cell("bursts-detect", _detect),
        Cell("bursts-promote", _promote),
    ]


def _aa(condition: Mapping[str, Any], every: float = 15.0) -> Callable[[Scale, int], dict[str, Figure]]:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        errors = day(scale, every, condition, runs=MANY * scale.runs)
        few = replace(errors, runs=min(errors.runs, 1000))
        return {
            "false rollback": reached(first(errors.draw(seed), Reached(Exchangeable(), ROLLBACK_AT))),
            # What comes of comparing counts as if they came one by one.
            "counts alone": reached(first(few.draw(seed), Above(ROLLBACK_AT, share=0.5))),
        }

    return run


def _restarting(scale: Scale, seed: int) -> dict[str, Figure]:
    errors = day(scale, 60.0, CONDITIONS["clusters of 5"], runs=scale.few)
    return {"false rollback": reached(first(errors.draw(seed), Reached(Restarting(Exchangeable), ROLLBACK_AT)))}


def _boundary(condition: Mapping[str, Any]) -> Callable[[Scale, int], dict[str, Figure]]:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        process = Exchangeable(margin=1.0)
        looks = _doubled(day(scale, 15.0, condition), seed)
        return {"false promotion": reached(first(looks, Reached(process, PROMOTE_AT, lambda: process.log_e_fine)))}

    return run


def _doubled(errors: Errors, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """The canary gets what two arms would, bursts and all."""
    for (canary, control), (more, _) in zip(errors.draw(seed), errors.draw(seed + 1), strict=True):
        yield canary + more, control


def _detect(scale: Scale, seed: int) -> dict[str, Figure]:
    found = {}
    for ratio in (2, 5, 10):
        for every in (5, 15):
            errors = Errors(
                runs=scale.few,
                looks=7200 // every if ratio == 2 else 1800 // every,
                every_s=every,
                ratio=ratio,
                cluster=5.0,
                **EQUAL,
            )
            at = first(errors.draw(seed + ratio), Reached(Exchangeable(), FAST_AT))
            found[f"x{ratio} every {every} s, s"] = times(at, every)
    return found


def _promote(scale: Scale, seed: int) -> dict[str, Figure]:
    """How long a healthy canary takes at margin 2x."""
    found = {}
    for cluster in (1, 5, 20):
        errors = Errors(runs=scale.few, looks=14_400 // 15, cluster=cluster, **EQUAL)
        found[f"clusters of {cluster}, s"] = times(_promoted(errors, seed), 15.0)
    return found


def _promoted(errors: Errors, seed: int) -> Ints:
    process = Exchangeable(margin=1.0)
    return first(errors.draw(seed), Reached(process, PROMOTE_AT, lambda: process.log_e_fine))
