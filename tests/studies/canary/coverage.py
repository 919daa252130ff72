"""Cells about what is foretold: confidence sequences that must cover at all looks (C12), and the planner's durations (C5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import expit, roots_hermitenorm

from sre.judges.canary.observation import Events
from sre.judges.canary.planner import Traffic, foresee
from sre.measure.confseq import bounded_mean, log_e_proportion, log_rate_ratio
from tests.studies.canary.cells import PROMOTE_AT, Cell, Scale
from tests.studies.canary.figures import Figure, exact, share, times
from tests.studies.canary.simulate import Below, first
from tests.studies.canary.traffic import Errors, Floats, latency_shares
from tests.studies.canary.whole import rules

MISS = 0.05
_LOOKS = 200

Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]


def cells() -> list[Cell]:
    """All cells of this module."""
    return [
        *(Cell(f"cover-binomial-{p:g}", _binomial(p)) for p in (0.001, 0.3)),
        Cell("cover-poisson", _poisson),
        *(Cell(f"cover-{name}", _bounded(draw, mean)) for name, (draw, mean) in BOUNDED.items()),
        Cell("planner", _planner),
    ]


def _binomial(p: float) -> Callable[[Scale, int], dict[str, Figure]]:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        good = np.random.default_rng(seed).binomial(100, p, (_LOOKS, scale.few)).cumsum(axis=0)
        n = np.linspace(100.0, 100.0 * _LOOKS, _LOOKS)[:, None]
        # The interval is what has less than 1/alpha of evidence against it, so the truth is outside when it has more.
        outside = log_e_proportion(good.astype(np.float64), n, p, sharpest_at=5000.0, alpha=MISS) >= -math.log(MISS)
        return {"missed": share(int(outside.any(axis=0).sum()), scale.few)}

    return run


def _poisson(scale: Scale, seed: int) -> dict[str, Figure]:
    """Rates that swing, the canary's 1.5 times the control's throughout."""
    rng = np.random.default_rng(seed)
    rate = 2.0 + 1.5 * np.sin(np.arange(60) / 5.0)
    arms = np.stack([rng.poisson(rate[:, None] * ratio, (60, scale.few)) for ratio in (1.5, 1.0)]).cumsum(axis=1)
    low, high = log_rate_ratio(arms[0], arms[1], share=0.5, alpha=MISS)
    outside = (low > math.log(1.5)) | (high < math.log(1.5))
    return {"missed": share(int(outside.any(axis=0).sum()), scale.few)}


def _bounded(draw: Draw, mean: float) -> Callable[[Scale, int], dict[str, Figure]]:
    def run(scale: Scale, seed: int) -> dict[str, Figure]:
        low, high = bounded_mean(draw(np.random.default_rng(seed), (500, scale.few)), alpha=MISS)
        return {"missed": share(int(((low > mean) | (high < mean)).any(axis=0).sum()), scale.few)}

    return run


def _buckets(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    shares = latency_shares()
    return rng.choice(len(shares), size, p=shares) / (len(shares) - 1.0)


_NODES, _WEIGHTS = roots_hermitenorm(64)
# Values in 0..1 and their exact means: x / (1 + x) of a lognormal and of a Pareto variable without variance, and bucket numbers.
BOUNDED: Mapping[str, tuple[Draw, float]] = {
    "lognormal": (
        lambda rng, size: np.asarray(expit(rng.normal(-2.0, 1.0, size))),
        float((expit(_NODES - 2.0) * _WEIGHTS).sum() / _WEIGHTS.sum()),
    ),
    "heavy-tail": (lambda rng, size: 1.0 - rng.random(size) ** (1 / 1.1), 1.0 - 1.0 / (1.0 + 1 / 1.1)),
    "bucketed": (_buckets, float((latency_shares() * np.arange(12)).sum() / 11.0)),
}


def _planner(scale: Scale, seed: int) -> dict[str, Figure]:
    """The planner's median against that of simulated rollouts: 100 requests a second in either arm, 0.1 per cent bad."""
    traffic = Traffic(
        requests_per_s=1000.0, requests=10**6, observations={"errors": Events(0, 0, 1000, 10**6)}, dispersion={"errors": 1.0}
    )
    told = foresee(rules(), traffic)[0]
    errors = Errors(runs=scale.few, looks=3600, every_s=2.0)
    at = first(errors.draw(seed), Below(PROMOTE_AT, share=0.5, margin=1.0))
    simulated = times(at, 2.0)
    in_time = (at > 0) & (at * 2.0 <= told.ninety_s)
    return {
        "median over simulated": exact(told.median_s / simulated.value, scale.few),
        "promoted within the 90 % time": share(int(in_time.sum()), scale.few),
        "median, s": simulated,
    }
