from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sre.errors import UsageError
from sre.judges.canary.rules import Model, Rules
from sre.judges.canary.statement import statement

MakeRules = Callable[..., Rules]


def test_every_rate_is_stated_with_what_it_covers(make_rules: MakeRules) -> None:
    said = " ".join(statement(make_rules(alpha=0.01, beta=0.05, sample_ratio_alpha=0.001)))
    assert "ever rolled back with a probability of at most 0.01: over all looks, all 1 stages and 5 metrics together" in said
    assert "ever promoted with a probability of at most 0.05" in said
    assert "called wrong with a probability of at most 0.001" in said
    assert "crashes: more than 0 crashes of the canary roll back at once" in said


def test_theorem_and_simulation_are_told_apart(make_rules: MakeRules) -> None:
    rules = make_rules("errors", "latency")
    mixed = replace(rules, metrics=(rules.metrics[0], replace(rules.metrics[1], model=Model.BURSTY)))
    said = statement(mixed)
    assert any(one.startswith("For errors both rates are theorems") for one in said)
    assert any(one.startswith("For latency the rate of wrong rollbacks is a theorem") and "simulated" in one for one in said)
    assert not any("theorem" in one for one in statement(make_rules("errors", model=Model.BURSTY)) if "both rates" in one)


def test_only_what_gates_is_said_to_gate(make_rules: MakeRules) -> None:
    rules = make_rules("errors", "latency")
    aside = replace(rules, metrics=(rules.metrics[0], replace(rules.metrics[1], gates=False)))
    assert "each of errors must show" in " ".join(statement(aside))


def test_contradictory_rules_state_nothing(make_rules: MakeRules) -> None:
    with pytest.raises(UsageError, match="alpha is 0"):
        statement(make_rules(alpha=0.0))
