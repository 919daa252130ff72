from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sre.judges.canary.histogram import Distribution
from sre.judges.canary.observation import Events, Histogram
from sre.judges.canary.rules import Kind, MetricRule, Model, Objective, StageRule, Worse

AT = math.log(20.0)
EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE = StageRule(weight=0.1, share=0.5, at_least_s=0.0, at_most_s=1.0)


def distribution(**fields: Any) -> Distribution:
    rule: dict[str, Any] = {"name": "latency", "kind": Kind.HISTOGRAM, "model": Model.INDEPENDENT, "margin": 0.5} | fields
    made = Distribution(MetricRule(**rule), beta=0.05)
    made.begin(STAGE)
    return made


def seen(canary: Any, control: Any, edges: tuple[float, ...] = EDGES) -> Histogram:
    counts = (np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) for values in (canary, control))
    return Histogram(edges, *(tuple(map(int, each)) for each in counts))


def requests_until(found: float, draw: Any, **fields: Any) -> list[int]:
    """Requests of the canary until the evidence that it is worse reaches `found`, in 15 rollouts of looks of 50."""
    taken = []
    for seed in range(15):
        random, metric = np.random.default_rng(seed), distribution(**fields)
        looks = 0
        while looks < 100 and metric.judged().standing.log_e_worse < found:
            metric.observe(seen(draw(random, 50), random.lognormal(-3.0, 0.5, 50)))
            looks += 1
        taken.append(50 * looks)
    return taken


def fine(metric: Distribution) -> float:
    log_e = metric.judged().standing.log_e_fine
    assert log_e is not None
    return log_e


def test_a_change_of_the_tail_alone_is_found() -> None:
    # C4: 1 % of the canary's requests take about 1 s.
    def tail(random: np.random.Generator, n: int) -> Any:
        values = random.lognormal(-3.0, 0.5, n)
        return np.where(random.random(n) < 0.01, 1.2, values)

    assert np.median(requests_until(AT, tail, proven=0.0)) <= 1000


def test_a_slower_canary_is_found() -> None:
    # C4: a quarter slower throughout.
    def slower(random: np.random.Generator, n: int) -> Any:
        return 1.25 * random.lognormal(-3.0, 0.5, n)

    assert np.median(requests_until(AT, slower, proven=0.0)) <= 500


@pytest.mark.parametrize(("worse", "scale"), [(Worse.HIGHER, 0.4), (Worse.LOWER, 2.5)])
def test_a_change_for_the_better_is_fine(worse: Worse, scale: float) -> None:
    random, metric = np.random.default_rng(1), distribution(worse=worse)
    for _ in range(40):
        metric.observe(seen(scale * random.lognormal(-3.0, 0.5, 200), random.lognormal(-3.0, 0.5, 200)))
    judged = metric.judged()
    assert judged.standing.log_e_worse < 0.0
    assert fine(metric) >= AT


@pytest.mark.parametrize(("worse", "scale"), [(Worse.HIGHER, 2.5), (Worse.LOWER, 0.4)])
def test_a_change_for_the_worse_is_named_with_the_edge(worse: Worse, scale: float) -> None:
    random, metric = np.random.default_rng(1), distribution(worse=worse)
    metric.observe(seen(scale * random.lognormal(-3.0, 0.5, 400), random.lognormal(-3.0, 0.5, 400)))
    judged = metric.judged()
    assert judged.standing.log_e_worse > AT
    assert ("above" if worse is Worse.HIGHER else "at or below") in judged.standing.why
    assert fine(metric) < 0.0


def test_only_edges_with_enough_of_the_control_gate() -> None:
    # 2 % above 0.5 s: too few to gate, so their excess in the canary does not keep it from being fine; it can still roll back.
    metric = distribution()
    metric.observe(Histogram((0.1, 0.5), (5000, 4800, 200), (5000, 4900, 100)))
    assert fine(metric) >= AT
    rare = distribution()
    rare.observe(Histogram((0.1, 0.5), (5000, 4400, 600), (5000, 4400, 600)))
    assert fine(rare) >= AT
    rare.observe(Histogram((0.1, 0.5), (5000, 3800, 1200), (5000, 4400, 600)))
    assert fine(rare) < AT


def test_without_an_edge_that_gates_only_an_objective_promotes() -> None:
    fast = Histogram((0.1, 0.5), (9000, 0, 0), (9000, 0, 0))
    alone, judged = distribution(), distribution(objective=Objective(0.05, 0.5))
    alone.observe(fast)
    judged.observe(fast)
    assert fine(alone) == 0.0
    assert alone.judged().needs.endswith("no edge has 5% of the control on its worse side; give an objective or finer buckets")
    assert fine(judged) >= AT


def test_the_objective_holds_on_the_canary_alone() -> None:
    metric = distribution(objective=Objective(0.05, 0.5))
    metric.observe(Histogram((0.1, 0.5), (5000, 4400, 600), (5000, 4400, 600)))
    assert fine(metric) < 0.0
    assert metric.judged().needs.endswith("not yet shown to be below the objective of 0.05")


def test_edges_that_gate_are_chosen_by_the_first_observations_of_the_control() -> None:
    metric = distribution()
    metric.observe(Histogram((0.1,), (50, 50), (50, 50)))
    assert metric.judged().needs.endswith("100 of the 200 observations of the control that say which edges gate")
    metric.observe(Histogram((0.1,), (50, 50), (50, 50)))
    assert "at edge 0.1 200 of about 210 events that show a margin of 1.5x" in metric.judged().needs


def test_before_the_first_observation_nothing_is_known() -> None:
    judged = distribution().judged()
    assert (judged.standing.canary, judged.standing.n, judged.standing.log_e_worse, judged.standing.log_e_fine) == (
        None,
        0,
        0.0,
        0.0,
    )
    assert judged.needs == "latency: nothing was observed yet"


def test_medians_are_edges_of_the_stage() -> None:
    metric = distribution()
    metric.observe(Histogram((0.1, 0.5), (60, 30, 10), (40, 30, 30)))
    assert (metric.judged().standing.canary, metric.judged().standing.control) == (0.1, 0.5)
    metric.begin(STAGE)
    assert metric.judged().standing.canary is None
    metric.observe(Histogram((0.1, 0.5), (0, 0, 10), (0, 0, 10)))
    assert metric.judged().standing.canary == 0.5


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (Events(0, 0, 0, 0), "Events was read where a histogram is expected"),
        (Histogram((), (1,), (1,)), "are not finite and ascending"),
        (Histogram((0.5, 0.1), (1, 1, 1), (1, 1, 1)), "are not finite and ascending"),
        (Histogram((0.1, math.inf), (1, 1, 1), (1, 1, 1)), "are not finite and ascending"),
        (Histogram((0.1, 0.5), (1, 1), (1, 1, 1)), "2 edges need 3 buckets"),
        (Histogram((0.1, 0.5), (1, 1, -1), (1, 1, 1)), "a bucket's count is no number"),
        (Histogram((0.1, 0.6), (1, 1, 1), (1, 1, 1)), "were [0.1, 0.5] before"),
    ],
)
def test_what_contradicts_itself_or_the_past_is_not_counted(observation: Any, said: str) -> None:
    metric = distribution()
    assert metric.observe(Histogram((0.1, 0.5), (1, 1, 1), (1, 1, 1))) is None
    before = metric.judged()
    problem = metric.observe(observation)
    assert problem is not None
    assert said in problem
    assert metric.judged() == before


def test_an_objective_at_no_bucket_is_not_counted() -> None:
    problem = distribution(objective=Objective(0.05, 0.3)).observe(Histogram((0.1, 0.5), (1, 1, 1), (1, 1, 1)))
    assert problem == "the objective's edge 0.3 is none of [0.1, 0.5]; give one that is a bucket's"
