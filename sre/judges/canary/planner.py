"""How long a healthy canary will take at today's traffic, and which plans cannot come to a decision at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import invgauss

from sre.errors import UsageError
from sre.judges.canary.classes import GATING_SHARE as CLASSES
from sre.judges.canary.histogram import GATING_SHARE as EDGES
from sre.judges.canary.needed import events_needed
from sre.judges.canary.observation import Classes, Events, Histogram, Observation
from sre.judges.canary.rules import Kind, MetricRule, Rules, StageRule, Worse
from sre.judges.canary.soundness import check
from sre.measure.evidence import log_mean
from sre.measure.shares import log_e_below, log_e_proportion_below

Floats = npt.NDArray[np.float64]

_PRIOR_COST = 1.5  # of log evidence, that a mixture over all alternatives costs against the right one; simulated
_TIMES = np.geomspace(1.0, 1e8, 4000)  # s; steps of half a per cent


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the version in production did lately.

    Attributes:
        requests_per_s: of all replicas.
        requests: that the observations rest on.
        observations: by metric; only the control's side is read. Metrics without one cannot be foreseen.
        dispersion: by metric, events that come at once; 1 where not named.
    """

    requests_per_s: float
    requests: int
    observations: Mapping[str, Observation]
    dispersion: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """How long one stage will last with a canary that is as good as its control.

    Attributes:
        weight: share of all traffic.
        median_s, ninety_s: half and 90 % of all rollouts need no longer; infinite when they need longer than three years.
        decides: the metric that takes longest; None when the least duration does.
        why: one sentence.
    """

    weight: float
    median_s: float
    ninety_s: float
    decides: str | None
    why: str


@dataclass(frozen=True, slots=True)
class _Test:
    """One thing that a promotion must show.

    Attributes:
        metric: its name.
        what: that is counted, for people.
        share: of requests, in the control.
        margin: tolerated excess; None for an objective.
        at_most: bound on the canary's own share; None when there is none.
        burst: events that come at once.
    """

    metric: str
    what: str
    share: float
    margin: float | None
    at_most: float | None
    burst: float

    def log_e(self, stage: StageRule, requests_per_s: float) -> Floats:
        """Evidence of a stage alone at each of `_TIMES`, when events come as often as expected."""
        requests = _TIMES * requests_per_s * stage.weight / self.burst
        parts = []
        if self.margin is not None:
            canary, control = self.share * requests, self.share * requests * (1.0 / stage.share - 1.0)
            parts.append(log_e_below(canary, control, share=stage.share, margin=self.margin))
        if self.at_most is not None:
            parts.append(log_e_proportion_below(self.share * requests, requests, at_most=self.at_most))
        return log_mean(np.stack(parts), axis=0)


def foresee(rules: Rules, traffic: Traffic) -> tuple[StageForecast, ...]:
    """Expected duration of each stage.

    The evidence of each metric is followed along its expected path. When it grows in steps of either sign, the time at which it
    reaches a threshold is spread about that of its path as an inverse Gaussian variable (Wald 1947): at beta 5 % half of all
    rollouts need three quarters of it, and 90 % no more than twice.

    Args:
        rules: of the canary.
        traffic: of the version in production.

    Raises:
        UsageError: half of all healthy rollouts would not be decided within a stage's longest duration, with the numbers; or the
            rules contradict themselves.
    """
    check(rules)
    if not traffic.requests_per_s > 0.0 or not traffic.requests > 0:
        raise UsageError("there was no traffic lately, so nothing can be foreseen and nothing decided; send requests first")
    at = math.log(1.0 / rules.beta)
    tests = [test for rule in rules.metrics if rule.gates for test in _tests(rule, traffic)]
    carried = [0.0] * len(tests)
    forecasts, refusals = [], []
    for stage in rules.stages:
        paths = [test.log_e(stage, traffic.requests_per_s) for test in tests]
        times = [_when(before + path, at) for before, path in zip(carried, paths, strict=True)]
        medians = [time * _spread(0.5, at, test) for time, test in zip(times, tests, strict=True)]
        ninety = max((time * _spread(0.9, at, test) for time, test in zip(times, tests, strict=True)), default=0.0)
        last = int(np.argmax(medians)) if tests else None
        decides = tests[last] if last is not None and medians[last] > stage.at_least_s else None
        median = max([stage.at_least_s, *medians])
        over = np.searchsorted(_TIMES, min(median, _TIMES[-1]))
        carried = [max(at, before + float(path[over])) for before, path in zip(carried, paths, strict=True)]
        refusals += [
            _refusal(test, time, stage, rules, traffic)
            for test, time in zip(tests, medians, strict=True)
            if time > stage.at_most_s
        ]
        forecasts.append(
            StageForecast(
                weight=stage.weight,
                median_s=median,
                ninety_s=max(stage.at_least_s, ninety),
                decides=decides.metric if decides else None,
                why=f"{decides.metric}: {decides.what}" if decides else f"the stage lasts at least {stage.at_least_s:g} s",
            )
        )
    if refusals:
        raise UsageError("this plan cannot come to a decision: " + "; ".join(refusals))
    return tuple(forecasts)


def _when(path: Floats, at: float) -> float:
    """The first of `_TIMES` at which a path of evidence has reached a threshold; 0 when it began there."""
    if path[0] >= at:
        return 0.0
    reached = path >= at
    return float(_TIMES[int(np.argmax(reached))]) if reached.any() else math.inf


def _spread(quantile: float, at: float, test: _Test) -> float:
    """Quantile of the time to a threshold over that of the expected path; 1 for what never happens, which has no chance in it."""
    if not test.share:
        return 1.0
    shape = (at + _PRIOR_COST) / 2.0  # the variance of what each event adds is about twice its mean
    return float(invgauss.ppf(quantile, 1.0 / shape, scale=shape))


def unforeseen(rules: Rules, traffic: Traffic) -> tuple[str, ...]:
    """Metrics that gate and of which nothing is known yet."""
    return tuple(
        rule.name for rule in rules.metrics if rule.gates and rule.kind is not Kind.CRASHES and not list(_tests(rule, traffic))
    )


def _tests(rule: MetricRule, traffic: Traffic) -> Iterator[_Test]:
    """What a promotion must show of one metric."""
    observed = traffic.observations.get(rule.name)
    shares: list[tuple[str, float]] = []
    bad: float | None = None
    match observed:
        case Events(control=events, control_of=of) if of:
            bad = events / of
            shares = [(f"{bad:.3%} of requests are bad", bad)]
        case Histogram() if sum(observed.control):
            beyond = _beyond(observed, rule.worse)
            shares = [(f"{share:.1%} are beyond {edge:g}", share) for edge, share in beyond.items() if share >= EDGES]
            bad = beyond.get(rule.objective.edge or math.nan) if rule.objective else None
        case Classes(labels=labels, control=counts) if sum(counts):
            each = dict(zip(labels, (count / sum(counts) for count in counts), strict=True))
            shares = [(f"class {label} is {share:.1%}", share) for label, share in each.items() if share >= CLASSES / len(each)]
        case _:
            return
    burst = traffic.dispersion.get(rule.name, 1.0)
    for what, share in shares:
        yield _Test(rule.name, what, share, margin=rule.margin, at_most=rule.negligible or None, burst=burst)
    if rule.objective and bad is not None:
        what = f"an objective of {rule.objective.at_most:.3%}"
        yield _Test(rule.name, what, bad, margin=None, at_most=rule.objective.at_most, burst=burst)


def _beyond(observed: Histogram, worse: Worse) -> dict[float, float]:
    """Share of the control's observations on the worse side of each edge."""
    up_to = np.cumsum(observed.control)[:-1] / sum(observed.control)
    return dict(zip(observed.edges, (1.0 - up_to if worse is Worse.HIGHER else up_to).tolist(), strict=True))


def _refusal(test: _Test, takes_s: float, stage: StageRule, rules: Rules, traffic: Traffic) -> str:
    requests = traffic.requests_per_s * stage.weight * stage.at_most_s
    if test.margin is None:
        return (
            f"{test.metric}: {test.what} with {test.share:.3%} bad today takes {_duration(takes_s)} at weight"
            f" {stage.weight:.0%}, longer than {stage.at_most_s:g} s ({requests:,.0f} requests of the canary); loosen the"
            " objective or lengthen the stage"
        )
    needed = events_needed(test.margin, stage.share, rules.beta) * test.burst
    expected = requests / stage.share * test.share
    return (
        f"{test.metric}: a margin of {1 + test.margin:g}x takes about {needed:,.0f} events of both arms, but {test.what}, so that"
        f" {expected:,.0f} are expected within {stage.at_most_s:g} s at weight {stage.weight:.0%} ({_duration(takes_s)} would be"
        " needed); widen the margin, lengthen the stage, say what is negligible, or let this metric not gate"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if math.isfinite(seconds) else "forever"
