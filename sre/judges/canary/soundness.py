"""Can these rules be judged by at all? What contradicts itself is refused before the first look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from sre.errors import UsageError
from sre.judges.canary.rules import Kind, MetricRule, Model, Rules, StageRule


def check(rules: Rules) -> None:
    """Refuse rules that cannot be judged by.

    Raises:
        UsageError: with every contradiction and its remedy.
    """
    found = [*_of_rates(rules), *_of_names(rules), *_of_stages(rules.stages)]
    for metric in rules.metrics:
        found += [
            f"{metric.name}: {why}" for why in (*_of_metric(metric), *_of_objective(metric), *_of_arms(metric, rules.stages))
        ]
    if found:
        raise UsageError("this plan cannot be judged by: " + "; ".join(found))


def _of_rates(rules: Rules) -> Iterator[str]:
    for name, value in (("alpha", rules.alpha), ("beta", rules.beta), ("sample_ratio_alpha", rules.sample_ratio_alpha)):
        if not 0.0 < value < 1.0:
            yield f"{name} is {value:g}; an error rate lies strictly between 0 and 1"


def _of_names(rules: Rules) -> Iterator[str]:
    if not any(metric.gates and metric.kind is not Kind.CRASHES for metric in rules.metrics):
        yield "no metric gates a promotion; let at least one that is not a bound"
    for name, count in Counter(metric.name for metric in rules.metrics).items():
        if count > 1 or name in {"", "requests"}:
            yield f"the name {name!r} stands {count} times; names are unique, and `requests` is taken"


def _of_stages(stages: tuple[StageRule, ...]) -> Iterator[str]:
    if not stages:
        yield "there is no stage with a control; give at least one"
    for before, after in pairwise(stages):
        if after.weight <= before.weight:
            yield f"weight {after.weight:.0%} follows {before.weight:.0%}; each stage gets more than the one before"
    for stage in stages:
        if not (0.0 < stage.weight < 1.0 and 0.0 < stage.share < 1.0):
            yield f"a stage of weight {stage.weight:.0%} leaves no control; only the last may, and it is not judged here"
        if not 0.0 <= stage.at_least_s < stage.at_most_s:
            yield f"a stage lasts at least {stage.at_least_s:g} s and at most {stage.at_most_s:g} s; the latter must be longer"


def _of_metric(rule: MetricRule) -> Iterator[str]:
    if rule.kind is Kind.CRASHES:
        return
    if rule.margin < 0.0 or rule.rollback_margin < 0.0:
        yield f"margins {rule.margin:g} and {rule.rollback_margin:g} are negative; 0 tolerates nothing"
    if rule.gates and rule.margin == 0.0:
        yield "no evidence shows that two rates are equal; give a margin above 1x, or let it not gate"
    if rule.rollback_margin > rule.margin:
        yield f"a rollback proves {1 + rule.rollback_margin:g}x, beyond the margin of {1 + rule.margin:g}x; lower the former"
    if rule.kind is Kind.CLASSES and len(rule.labels) < 2:
        yield f"{len(rule.labels)} labels make no mix; name all classes"


def _of_objective(rule: MetricRule) -> Iterator[str]:
    if rule.negligible and (rule.kind is not Kind.RATIO or not 0.0 < rule.negligible < 1.0):
        yield f"negligible is {rule.negligible:g}; it is a share of requests, for ratios only"
    if rule.objective is None:
        return
    if rule.kind not in {Kind.RATIO, Kind.HISTOGRAM} or (rule.kind is Kind.HISTOGRAM) != (rule.objective.edge is not None):
        yield "an objective is for ratios, without an edge, or for histograms, with one"
    if not 0.0 < rule.objective.at_most < 1.0:
        yield f"the objective is at most {rule.objective.at_most:g}; it lies strictly between 0 and 1"


def _of_arms(rule: MetricRule, stages: tuple[StageRule, ...]) -> Iterator[str]:
    if rule.model is not Model.BURSTY or rule.kind in {Kind.CRASHES, Kind.BOUNDED}:
        return
    for stage in stages:
        if stage.share != 0.5:
            yield (
                f"bursts are compared between arms of equal size, but at weight {stage.weight:.0%} the canary gets"
                f" {stage.share:.0%} of both; choose a weight of at most 50%, or `model: independent`"
            )
