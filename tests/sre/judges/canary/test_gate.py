from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.errors import UsageError
from sre.judges.canary.decision import Action, Standing
from sre.judges.canary.gate import Gate
from sre.judges.canary.observation import Classes, Crashes, Events, Interval, Means, Missing, Observation, Trouble
from sre.judges.canary.rules import Kind, MetricRule, Model, Rules, StageRule

MakeRules = Callable[..., Rules]
Play = Callable[..., list[Standing]]

STAGES = (
    StageRule(weight=0.1, share=0.5, at_least_s=10.0, at_most_s=3600.0),
    StageRule(weight=0.5, share=0.5, at_least_s=10.0, at_most_s=3600.0),
)
KINDS = ("errors", "latency", "confidence", "classes", "crashes", "load")


def errors(look: int, canary: int, control: int, *, of: int = 1000, stage: int = 0, **fields: Any) -> Interval:
    """A look of 2 s in which each arm answered `of` requests."""
    seen = {"errors": Events(canary, of, control, of)}
    return replace(Interval(2.0 * look, 2.0 * look + 2.0, stage, of, of, seen), **fields)


@pytest.fixture(scope="module")
def ready(make_rules: MakeRules, play_intervals: Callable[[Rules], tuple[Gate, Interval]]) -> tuple[Gate, Interval]:
    """A gate that has seen a healthy canary with every kind of metric, and the look that would promote it."""
    return play_intervals(make_rules())


def test_a_healthy_canary_promotes(ready: tuple[Gate, Interval]) -> None:
    standing = copy.deepcopy(ready[0]).look(ready[1])
    assert standing.action is Action.PROMOTE
    assert all(one.log_e_fine is None or one.log_e_fine >= standing.promote_at for one in standing.metrics)
    assert len(standing.reasons) == len(KINDS) - 1  # a sentence on each but the crashes, which gate nothing


@pytest.mark.parametrize(("trouble", "metric"), list(itertools.product(Trouble, (*KINDS, "requests"))))
def test_no_data_of_any_kind_holds_and_counts_nothing(ready: tuple[Gate, Interval], trouble: Trouble, metric: str) -> None:
    gate, interval = copy.deepcopy(ready[0]), ready[1]
    missing = Missing(metric, trouble, f"{metric}: a sentence of its own")
    kept = {name: seen for name, seen in interval.observations.items() if name != metric}
    blind = gate.look(replace(interval, observations=kept, missing=(missing,)))
    assert blind.action is Action.HOLD
    assert f"{metric}: a sentence of its own" in blind.reasons
    later = gate.look(replace(interval, start=interval.end, end=interval.end + 2.0))
    assert later.action is Action.PROMOTE  # it was the lack of data that held, and the gate goes on


@pytest.mark.parametrize("metric", KINDS)
def test_a_metric_that_nobody_mentions_is_missing(ready: tuple[Gate, Interval], metric: str) -> None:
    kept = {name: seen for name, seen in ready[1].observations.items() if name != metric}
    standing = copy.deepcopy(ready[0]).look(replace(ready[1], observations=kept))
    assert standing.action is Action.HOLD
    assert any(reason.startswith(f"{metric}: the look holds nothing") for reason in standing.reasons)


@pytest.mark.parametrize("metric", KINDS)
def test_an_observation_of_another_kind_is_missing(ready: tuple[Gate, Interval], metric: str) -> None:
    wrong = Means(0.5, 0.5) if metric != "load" else Crashes(0, 0)
    standing = copy.deepcopy(ready[0]).look(replace(ready[1], observations={**ready[1].observations, metric: wrong}))
    assert standing.action is Action.HOLD
    assert any(reason.startswith(f"{metric}: ") and "where" in reason for reason in standing.reasons)


@pytest.mark.parametrize("requests", [(-1, 100), (100, -1)])
def test_requests_below_none_are_missing(ready: tuple[Gate, Interval], requests: tuple[int, int]) -> None:
    standing = copy.deepcopy(ready[0]).look(replace(ready[1], canary_requests=requests[0], control_requests=requests[1]))
    assert standing.action is Action.HOLD
    assert any(reason.startswith("requests: ") for reason in standing.reasons)


@given(
    looks=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 2000), st.integers(0, 2000), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_no_history_promotes_on_a_look_without_data(make_rules: MakeRules, looks: list[tuple[int, int, int, int, bool]]) -> None:
    gate = Gate(make_rules("errors", "crashes", stages=[replace(STAGES[0], at_least_s=0.0)], beta=0.6))
    for look, (canary, control, of, of_control, gone) in enumerate(looks):
        seen: dict[str, Observation] = {
            "errors": Events(canary, canary + of, control, control + of_control),
            "crashes": Crashes(0, 0),
        }
        missing: tuple[Missing, ...] = ()
        if gone:
            del seen["errors"]
            missing = (Missing("errors", Trouble.STALE, "errors: stale"),)
        standing = gate.look(Interval(look, look + 1.0, 0, canary + of, control + of_control, seen, missing))
        assert standing.reasons
        if gone:
            assert standing.action is not Action.PROMOTE


@given(
    counts=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=20),
    more=st.lists(st.integers(0, 6), min_size=20, max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_more_errors_of_the_canary_never_help_it(make_rules: MakeRules, counts: list[tuple[int, int]], more: list[int]) -> None:
    rules = make_rules("errors", of_metrics={"objective": None}, stages=[replace(STAGES[0], at_least_s=0.0)])
    order = {Action.ROLLBACK: 0, Action.HOLD: 1, Action.PROMOTE: 2}
    gate, other = Gate(rules), Gate(rules)
    for look, (canary, control) in enumerate(counts):
        as_it_is = gate.look(errors(look, canary, control))
        worse = other.look(errors(look, canary + more[look], control))
    assert order[worse.action] <= order[as_it_is.action]
    assert worse.metrics[0].log_e_worse >= as_it_is.metrics[0].log_e_worse - 1e-9
    fine = worse.metrics[0].log_e_fine, as_it_is.metrics[0].log_e_fine
    assert fine[0] is not None
    assert fine[1] is not None
    assert fine[0] <= fine[1] + 1e-9


def test_the_same_looks_give_the_same_standings_to_the_last_bit(make_rules: MakeRules, play: Play) -> None:
    rules = make_rules(stages=STAGES)
    once, again = (play(rules, seed=5, looks=60, defects={"errors": 0.2}) for _ in range(2))
    assert list(map(asdict, once)) == list(map(asdict, again))
    assert repr(once) == repr(again)


@pytest.mark.parametrize("metric", [*KINDS])
def test_a_defect_in_any_metric_rolls_back_and_is_named(make_rules: MakeRules, play: Play, metric: str) -> None:
    standings = play(make_rules(), defects={metric: 1.0})
    assert standings[-1].action is Action.ROLLBACK
    assert any(reason.startswith(f"{metric}: ") for reason in standings[-1].reasons)
    assert all(standing.action is Action.HOLD for standing in standings[:-1])


def test_a_defect_that_begins_in_the_second_stage_rolls_back_there(make_rules: MakeRules, play: Play) -> None:
    def late(look: int) -> float:
        return 1.0 if look >= 150 else 0.0

    rules = make_rules("errors", stages=[STAGES[0], replace(STAGES[1], at_least_s=600.0)])
    standings = play(rules, defects={"errors": late})
    assert [standing.stage for standing in standings if standing.action is Action.PROMOTE] == [0]
    assert standings[-1].action is Action.ROLLBACK
    assert standings[-1].stage == 1
    assert len(standings) < 150 + 30


def test_a_rollback_is_final(make_rules: MakeRules) -> None:
    gate = Gate(make_rules("errors"))
    down = gate.look(errors(0, 300, 1))
    assert down.action is Action.ROLLBACK
    for look in range(1, 200):
        again = gate.look(errors(look, 0, 20))
        assert again.action is Action.ROLLBACK
        assert again.reasons == down.reasons
    assert again.log_e_rollback < again.rollback_at  # the evidence itself has gone since


def test_both_thresholds_at_once_roll_back(make_rules: MakeRules) -> None:
    # A canary at 1.5 times its control, when 2 times is tolerated and any excess proved rolls back.
    gate = Gate(make_rules("errors", of_metrics={"proven": 0.0, "objective": None}, stages=[replace(STAGES[0], at_least_s=0.0)]))
    standing = gate.look(errors(0, 3000, 2000, of=1_000_000))
    assert standing.metrics[0].log_e_fine is not None
    assert standing.metrics[0].log_e_fine >= standing.promote_at
    assert standing.action is Action.ROLLBACK


def test_crashes_beyond_the_limit_roll_back_whatever_else(make_rules: MakeRules) -> None:
    gate = Gate(make_rules("errors", "crashes", of_metrics={"limit": 1}))
    crash = {"crashes": Crashes(1, 0)}
    blind = (Missing("errors", Trouble.TARGET_DOWN, "errors: the canary is down"),)
    assert gate.look(errors(0, 0, 0, observations=crash, missing=blind)).action is Action.HOLD
    standing = gate.look(errors(1, 0, 0, of=0, canary_requests=0, control_requests=9000, observations=crash, missing=blind))
    assert standing.action is Action.ROLLBACK
    assert standing.reasons == (
        "crashes: the canary's processes ended 2 times, 1 allowed; the control's 0 times; that is a bound, not a test",
    )


def test_a_canary_with_too_many_requests_is_neither_promoted_nor_rolled_back(make_rules: MakeRules) -> None:
    gate = Gate(make_rules("errors"))
    for look in range(20):
        seen = {"errors": Events(30, 1500, 2, 1000)}
        standing = gate.look(errors(look, 0, 0, canary_requests=1500, control_requests=1000, observations=seen))
    assert standing.log_e_rollback > standing.rollback_at
    assert standing.action is Action.HOLD
    assert standing.reasons[0] == (
        "traffic is split 60.0%:40.0% (canary:control, 50,000 requests), planned 50.0%:50.0%; look at router and retries"
    )


def test_a_canary_with_too_few_requests_is_rolled_back_but_not_promoted(make_rules: MakeRules) -> None:
    # What it fails is asked again of the control, which thus gets more.
    failing, healthy = Gate(make_rules("errors")), Gate(make_rules("errors"))
    for look in range(40):
        split = {"canary_requests": 1000, "control_requests": 1300}
        bad = failing.look(errors(look, 0, 0, observations={"errors": Events(300, 1000, 2, 1300)}, **split))
        fine = healthy.look(errors(look, 0, 0, observations={"errors": Events(2, 1000, 2, 1300)}, **split))
    assert bad.action is Action.ROLLBACK
    assert fine.action is Action.HOLD
    assert fine.metrics[0].log_e_fine is not None
    assert fine.metrics[0].log_e_fine >= fine.promote_at


def test_a_mix_of_classes_shows_nothing_under_a_wrong_split(make_rules: MakeRules) -> None:
    gate = Gate(make_rules("errors", "classes"))
    seen = {"errors": Events(5, 2000, 5, 4000), "classes": Classes(tuple("0123456789"), (200,) * 10, (400,) * 10)}
    for look in range(5):
        standing = gate.look(errors(look, 0, 0, observations=seen, canary_requests=2000, control_requests=4000))
    assert standing.metrics[1].log_e_worse > standing.rollback_at  # each class is half of the control's
    assert standing.action is Action.HOLD


def test_a_split_a_fifth_off_is_found_within_ten_thousand_requests(make_rules: MakeRules) -> None:
    # C9: 50:50 planned, the canary gets 20 % less than its share: 40:60.
    random, found = np.random.default_rng(9), []
    for _ in range(50):
        gate = Gate(make_rules("crashes", "errors"))
        for look in range(100):
            canary = int(random.binomial(100, 0.4))
            seen = {"crashes": Crashes(0, 0), "errors": Events(0, canary, 0, 100 - canary)}
            split = {"canary_requests": canary, "control_requests": 100 - canary}
            if any("split" in reason for reason in gate.look(errors(look, 0, 0, observations=seen, **split)).reasons):
                found.append(100 * (look + 1))
                break
    assert len(found) == 50
    assert max(found) <= 10_000


def test_a_stage_lasts_its_least_time_and_says_so(make_rules: MakeRules) -> None:
    gate = Gate(make_rules("errors", stages=[replace(STAGES[0], at_least_s=100.0)]))
    actions = [gate.look(errors(look, 20, 20, of=10_000)) for look in range(50)]
    assert [standing.action for standing in actions] == [Action.HOLD] * 49 + [Action.PROMOTE]
    assert actions[48].reasons == ("the stage lasts at least 100 s and has lasted 98 s",)


def test_a_deadline_holds_and_says_what_was_missing(make_rules: MakeRules) -> None:
    gate = Gate(make_rules("errors", stages=[replace(STAGES[0], at_most_s=60.0)]))
    standings = [gate.look(errors(look, look % 2, (look + 1) % 2, of=10_000)) for look in range(30)]
    assert not any("deadline" in reason for standing in standings[:-1] for reason in standing.reasons)
    assert standings[-1].action is Action.HOLD
    assert standings[-1].reasons[0] == "deadline: no decision within 60 s"
    assert "30 of about 66 events" in standings[-1].reasons[1]


def test_evidence_of_earlier_stages_is_carried_but_cannot_outvote_this_one(make_rules: MakeRules) -> None:
    rules = make_rules("errors", stages=[STAGES[0], replace(STAGES[1], share=0.4)], of_metrics={"objective": None})
    gate = Gate(rules)
    for look in range(10):
        first = gate.look(errors(look, 30, 30))
    assert first.action is Action.PROMOTE
    carried = first.metrics[0].log_e_fine
    assert carried is not None
    second = gate.look(errors(10, 0, 0, stage=1, canary_requests=800, control_requests=1200))
    assert second.metrics[0].log_e_fine == pytest.approx(carried)
    doubtful = gate.look(errors(11, 8, 3, stage=1, canary_requests=800, control_requests=1200))
    assert doubtful.metrics[0].log_e_fine is not None
    assert doubtful.metrics[0].log_e_fine < 0.0 < carried


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (errors(0, 0, 0), "cannot follow one that ended at 4"),
        (errors(2, 0, 0, end=4.0), "cannot follow"),
        (errors(2, 0, 0, end=math.nan), "cannot follow"),
        (errors(2, 0, 0, stage=2), "stage 2 cannot follow stage 1 of 2"),
        (errors(2, 0, 0, stage=0), "stage 0 cannot follow stage 1 of 2"),
        (errors(2, 0, 0, stage=-1), "stage -1 cannot follow"),
    ],
)
def test_looks_out_of_order_are_refused(make_rules: MakeRules, interval: Interval, said: str) -> None:
    gate = Gate(make_rules("errors", stages=STAGES))
    gate.look(errors(1, 0, 0, stage=1))
    with pytest.raises(UsageError, match=said):
        gate.look(interval)


def test_a_gate_of_contradictory_rules_is_refused(make_rules: MakeRules) -> None:
    with pytest.raises(UsageError, match="errors: no evidence shows that two rates are equal"):
        Gate(make_rules("errors", of_metrics={"margin": 0.0}))


def test_bursts_where_none_were_expected_neither_promote_nor_roll_back(make_rules: MakeRules) -> None:
    random, gate = np.random.default_rng(6), Gate(make_rules("errors"))
    for look in range(300):
        canary, control = (int(random.geometric(0.2, random.poisson(0.4)).sum()) for _ in range(2))
        gate.look(errors(look, canary, control))
    for look in range(300, 330):
        canary = int(random.geometric(0.2, random.poisson(4.0)).sum())
        standing = gate.look(errors(look, canary, 0))
    assert standing.metrics[0].log_e_worse > standing.rollback_at
    assert standing.action is Action.HOLD
    assert "set `model: bursty`" in standing.reasons[0]


@pytest.mark.parametrize("metric", ["errors", "latency", "confidence", "classes"])
def test_bursty_metrics_promote_the_healthy_and_roll_back_the_bad(make_rules: MakeRules, play: Play, metric: str) -> None:
    rules = make_rules(metric, model=Model.BURSTY)
    assert play(rules)[-1].action is Action.PROMOTE
    assert play(rules, defects={metric: 1.0})[-1].action is Action.ROLLBACK


def test_error_rates_at_the_margin_hold(make_rules: MakeRules) -> None:
    # Canaries that are exactly twice as bad as their control, at a tolerated margin of exactly 2: each outcome is an error in
    # one of the two senses, and each may happen with a probability of 10 % at most, over all looks.
    rules = make_rules("errors", of_metrics={"objective": None}, alpha=0.1, beta=0.1, stages=[replace(STAGES[0], at_least_s=0.0)])
    random, ends = np.random.default_rng(77), []
    for _ in range(150):
        gate = Gate(rules)
        for look in range(30):
            standing = gate.look(errors(look, int(random.poisson(8.0)), int(random.poisson(4.0))))
            if standing.action is not Action.HOLD:
                break
        ends.append(standing.action)
    allowed = 0.1 * 150 + 3 * math.sqrt(0.1 * 0.9 * 150)
    assert 0 < ends.count(Action.PROMOTE) <= allowed
    assert 0 < ends.count(Action.ROLLBACK) <= allowed


def test_metrics_without_a_gate_roll_back_and_promote_nothing() -> None:
    gates = MetricRule(name="errors", kind=Kind.RATIO, model=Model.INDEPENDENT)
    metrics = (gates, replace(gates, name="aside", gates=False))
    rules = Rules(alpha=0.05, beta=0.05, sample_ratio_alpha=0.001, metrics=metrics, stages=STAGES)
    gate = Gate(rules)
    fine = {"errors": Events(60, 9000, 60, 9000), "aside": Events(0, 9000, 0, 9000)}
    assert gate.look(errors(0, 0, 0, end=20.0, observations=fine)).action is Action.PROMOTE
    bad = {"errors": Events(60, 9000, 60, 9000), "aside": Events(200, 9000, 1, 9000)}
    standing = gate.look(errors(10, 0, 0, stage=1, observations=bad))
    assert standing.action is Action.ROLLBACK
    assert standing.reasons[0].startswith("aside: 200 of 9,000 requests")
