"""Canary releases: a plan, what Prometheus counted under it, and the gate's decision.

What stands here judges numbers that are already there. A plan is read by `sre.canary.plan`, a Prometheus by `sre.canary.source`.
"""

from sre.canary.counts import judge_counts
from sre.judges.canary.decision import Action, MetricStanding, Standing
from sre.judges.canary.gate import Gate
from sre.judges.canary.observation import Classes, Crashes, Events, Histogram, Interval, Means, Missing, Trouble
from sre.judges.canary.rules import Kind, MetricRule, Model, Objective, Rules, StageRule, Worse

__all__ = [
    "Action",
    "Classes",
    "Crashes",
    "Events",
    "Gate",
    "Histogram",
    "Interval",
    "Kind",
    "Means",
    "MetricRule",
    "MetricStanding",
    "Missing",
    "Model",
    "Objective",
    "Rules",
    "StageRule",
    "Standing",
    "Trouble",
    "Worse",
    "judge_counts",
]
