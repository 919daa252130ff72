"""Rules of every kind of metric, and traffic of two arms with planted defects."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sre.judges.canary.decision import Action, Standing
from sre.judges.canary.gate import Gate
from sre.judges.canary.observation import Classes, Crashes, Events, Histogram, Interval, Means, Observation
from sre.judges.canary.rules import Kind, MetricRule, Model, Objective, Rules, StageRule, Worse

MakeRules = Callable[..., Rules]
Play = Callable[..., list[Standing]]

LABELS = tuple("0123456789")
EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

METRICS = {
    "errors": MetricRule(name="errors", kind=Kind.RATIO, objective=Objective(at_most=0.01)),
    "latency": MetricRule(name="latency", kind=Kind.HISTOGRAM, margin=0.5, objective=Objective(at_most=0.05, edge=0.5)),
    "confidence": MetricRule(name="confidence", kind=Kind.HISTOGRAM, worse=Worse.LOWER, margin=0.5),
    "classes": MetricRule(name="classes", kind=Kind.CLASSES, margin=0.5, labels=LABELS),
    "crashes": MetricRule(name="crashes", kind=Kind.CRASHES),
    "load": MetricRule(name="load", kind=Kind.BOUNDED, margin=0.5),
}
STAGE = StageRule(weight=0.1, share=0.5, at_least_s=10.0, at_most_s=3600.0)


@pytest.fixture(scope="session")
def make_rules() -> MakeRules:
    """Rules with the metrics named (all when none is), all of one model, with fields of every metric or of the gate changed."""

    def make(
        *names: str, model: Model = Model.INDEPENDENT, stages: Any = (STAGE,), of_metrics: Any = None, **fields: Any
    ) -> Rules:
        metrics = tuple(replace(METRICS[name], model=model, **(of_metrics or {})) for name in names or METRICS)
        rates = {"alpha": 0.05, "beta": 0.05, "sample_ratio_alpha": 0.001}
        return Rules(**(rates | fields), metrics=metrics, stages=tuple(stages))

    return make


def observe(kind: str, random: np.random.Generator, arms: tuple[int, int], defect: float) -> Observation:
    """What a look shows of one metric; `defect` is 0 for a canary that is as good as its control and 1 for a bad one."""
    bad = (defect, 0.0)
    match kind:
        case "errors":
            canary, control = (int(random.binomial(n, 0.002 * (1 + 9 * d))) for n, d in zip(arms, bad, strict=True))
            return Events(canary, arms[0], control, arms[1])
        case "latency":
            return Histogram(EDGES, *(_buckets(random.lognormal(-3 + d, 0.5, n), EDGES) for n, d in zip(arms, bad, strict=True)))
        case "confidence":
            return Histogram(SCORES, *(_buckets(random.beta(8 - 5 * d, 2, n), SCORES) for n, d in zip(arms, bad, strict=True)))
        case "classes":
            even = np.full(10, 0.1)
            shifted = np.array([0.3, *([0.7 / 9] * 9)])
            mixes = (even * (1 - d) + shifted * d for d in bad)
            counts = (tuple(map(int, random.multinomial(n, mix))) for n, mix in zip(arms, mixes, strict=True))
            return Classes(LABELS, *counts)
        case "crashes":
            return Crashes(int(defect), 0)
        case _:
            return Means(*(float(random.beta(8 + 40 * d, 12)) for d in bad))


def _buckets(values: Any, edges: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(map(int, np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)))


@pytest.fixture(scope="session")
def play() -> Play:
    """Drive a gate over simulated looks of 2 s until it decides, or to the last look; returns all standings.

    `defects` says how bad each metric is: a number, or a function of the look. A promotion begins the next stage, if any.
    """

    def run(rules: Rules, *, looks: int = 600, seed: int = 1, per_look: int = 400, defects: Any = None) -> list[Standing]:
        random, gate, standings, stage = np.random.default_rng(seed), Gate(rules), [], 0
        for look in range(looks):
            total = int(random.poisson(per_look))
            canary = int(random.binomial(total, rules.stages[stage].share))
            arms = canary, total - canary
            seen = {}
            for rule in rules.metrics:
                defect = (defects or {}).get(rule.name, 0.0)
                seen[rule.name] = observe(rule.name, random, arms, defect(look) if callable(defect) else defect)
            standings.append(gate.look(Interval(2.0 * look, 2.0 * look + 2.0, stage, *arms, seen)))
            if standings[-1].action is Action.ROLLBACK or (
                standings[-1].action is Action.PROMOTE and stage == len(rules.stages) - 1
            ):
                break
            stage += standings[-1].action is Action.PROMOTE
        return standings

    return run


@pytest.fixture(scope="session")
def play_intervals() -> Callable[[Rules], tuple[Gate, Interval]]:
    """A gate after all looks of a healthy canary but the one that promotes it, and that look."""

    def run(rules: Rules) -> tuple[Gate, Interval]:
        random, gate = np.random.default_rng(1), Gate(rules)
        for look in range(600):
            canary, control = (int(n) for n in random.poisson(200, 2))
            seen = {rule.name: observe(rule.name, random, (canary, control), 0.0) for rule in rules.metrics}
            interval = Interval(2.0 * look, 2.0 * look + 2.0, 0, canary, control, seen)
            before = copy.deepcopy(gate)
            if gate.look(interval).action is Action.PROMOTE:
                return before, interval
        raise AssertionError("a healthy canary was not promoted within 600 looks")

    return run
