"""Cells about latency, predicted classes, the split of traffic, and many metrics at once (C4, C9, C11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sre.judges.canary.arms import PRIOR_WORSE
from sre.measure.evidence import log_mean
from sre.measure.shares import log_e_above, log_e_shares
from tests.studies.canary.cells import FAST_AT, ROLLBACK_AT, SPLIT_ALPHA, Cell, Scale
from tests.studies.canary.figures import Figure, reached, times
from tests.studies.canary.simulate import Bools, first
from tests.studies.canary.traffic import Categories, Floats, Ints, class_shares, latency_shares

METRICS = 10
_STEP = 25  # canary requests between looks, where requests until detection are counted


def cells() -> list[Cell]:
    """All cells of this module."""
    return [
        *(Cell(f"latency-{name}", _latency(per_canary)) for name, per_canary in (("rest", 9), ("equal", 1))),
        Cell("latency-aa", _latency_aa),
        *(Cell(f"classes-{name}", _classes(per_canary)) for name, per_canary in (("rest", 9), ("equal", 1))),
        Cell("split", _split),
        Cell("split-aa", _split_aa),
        Cell("family", _family),
    ]


class _Mean:
    """Whether the mean of a metric's e-values has reached a threshold."""

    def __init__(self, log_es: Callable[[Ints, Ints], Floats], threshold: float) -> None:
        self._log_es, self._threshold = log_es, threshold
        self._canary: Ints = np.zeros((), dtype=np.int64)
        self._control: Ints = np.zeros((), dtype=np.int64)

    def __call__(self, canary: Ints, control: Ints) -> Bools:
        self._canary, self._control = self._canary + canary, self._control + control
        return np.asarray(log_mean(self._log_es(self._canary, self._control)) >= self._threshold)


def edges(share: float) -> Callable[[Ints, Ints], Floats]:
    """Evidence at every edge of a histogram that more of the canary's requests lie above it."""
    return lambda canary, control: log_e_above(_above(canary), _above(control), share=share, prior=PRIOR_WORSE)


def both_ways(share: float) -> Callable[[Ints, Ints], Floats]:
    """Evidence for every class that the canary predicts it more often, and that it does so less often."""
    return lambda canary, control: np.concatenate(
        [
            log_e_above(canary, control, share=share, prior=PRIOR_WORSE),
            log_e_above(control, canary, share=1.0 - share, prior=PRIOR_WORSE),
        ],
        axis=-1,
    )


def _above(counts: Ints) -> Ints:
    above: Ints = counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
    return above


def _latency(per_canary: int) -> Any:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        found = {}
        for name, changed in (
            ("+25 %", {"slower": 1.25}), ("+10 %", {"slower": 1.1}), ("tail 1 %", {"tail": 0.01}), ("tail 0.5 %", {"tail": 0.005})
        ):  # fmt: skip
            mix = Categories(
                runs=scale.few // 2, looks=400, canary=latency_shares(**changed), control=latency_shares(),
                canary_per_look=_STEP, control_per_look=_STEP * per_canary,
            )  # fmt: skip
            found[f"{name}, canary requests"] = times(first(mix.draw(seed), _Mean(edges(mix.share), FAST_AT)), _STEP)
        return found

    return run


def _latency_aa(scale: Scale, seed: int) -> dict[str, Figure]:
    mix = Categories(
        runs=scale.few, looks=400, canary=latency_shares(), control=latency_shares(), canary_per_look=500, control_per_look=500
    )
    return {"false rollback": reached(first(mix.draw(seed), _Mean(edges(mix.share), ROLLBACK_AT)))}


def _classes(per_canary: int) -> Any:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        mix = Categories(
            runs=scale.few // 2, looks=400, canary=class_shares(shift=0.05), control=class_shares(),
            canary_per_look=_STEP, control_per_look=_STEP * per_canary,
        )  # fmt: skip
        at = first(mix.draw(seed), _Mean(both_ways(mix.share), FAST_AT))
        return {"5 points, canary predictions": times(at, _STEP)}

    return run


class _Split:
    """Whether requests have shown to be split otherwise than planned."""

    def __init__(self, planned: Floats) -> None:
        self._planned = planned
        self._counts: Ints = np.zeros((), dtype=np.int64)

    def __call__(self, canary: Ints, _control: Ints) -> Bools:
        self._counts = self._counts + canary
        return np.asarray(log_e_shares(self._counts, self._planned) >= -np.log(SPLIT_ALPHA))


def _requests(share: float, looks: int, per_look: int, runs: int) -> Categories:
    """Requests by arm, in the place of the canary's categories."""
    split = np.array([share, 1.0 - share])
    return Categories(runs=runs, looks=looks, canary=split, control=split, canary_per_look=per_look, control_per_look=0)


def _split(scale: Scale, seed: int) -> dict[str, Figure]:
    """Weights off by 20 per cent, relative."""
    found = {}
    for planned in (0.1, 0.5):
        mix = _requests(planned * 1.2, 200, 50, scale.few)
        at = first(mix.draw(seed), _Split(np.array([planned, 1.0 - planned])))
        found[f"{planned:.0%} off by a fifth, requests"] = times(at, 50)
        found[f"{planned:.0%} off by a fifth, in 10,000"] = reached(at)
    return found


def _split_aa(scale: Scale, seed: int) -> dict[str, Figure]:
    mix = _requests(0.1, 1440, 6000, scale.runs)
    return {"false alarm": reached(first(mix.draw(seed), _Split(np.array([0.1, 0.9]))))}


def _family(scale: Scale, seed: int) -> dict[str, Figure]:
    """Ten metrics of a canary like its control: their mean, and what it would be to test each by itself."""
    shares = np.full(METRICS + 1, 0.001)
    shares[-1] = 1.0 - METRICS * 0.001
    mix = Categories(runs=scale.few, looks=480, canary=shares, control=shares, canary_per_look=6000, control_per_look=6000)
    alone = np.zeros(mix.runs, dtype=bool)

    def log_es(canary: Ints, control: Ints) -> Floats:
        found = log_e_above(canary[:, :METRICS], control[:, :METRICS], share=0.5, prior=PRIOR_WORSE)
        alone[:] |= (found >= ROLLBACK_AT).any(axis=1)
        return found

    together = first(mix.draw(seed), _Mean(log_es, ROLLBACK_AT))
    return {"false rollback": reached(together), "each by itself": reached(np.where(alone, 1, -1))}
