from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sre.drills import replicas
from sre.drills.base import Case, Context
from sre.errors import FaultWithoutEffect, StepFailed
from sre.verdict import Outcome


def test_an_unknown_replica_is_named_beside_those_that_exist(make_context: Callable[..., Context]) -> None:
    context = make_context("pod-recovery")
    assert replicas.named(context, "serving-2").name == "serving-2"
    with pytest.raises(StepFailed, match=r"'serving-9' does not exist; there are serving-1, serving-2, serving-3"):
        replicas.named(context, "serving-9")


def test_what_still_answers_is_not_gone(make_context: Callable[..., Context]) -> None:
    context = make_context("pod-recovery")
    victim = replicas.named(context, "serving-2").identity
    with pytest.raises(FaultWithoutEffect, match="serving-2 still ready"):
        replicas.prove_gone(context, [victim], "it to be gone")
    context.target.kill("serving-2")
    assert replicas.prove_gone(context, [victim], "it to be gone") == f"no answer from {victim}"


def _case(case: Case, ready: int) -> Case:
    start = case.load()[0].started
    looks = [[start + 0.5 * number, ready] for number in range(40)]
    return replace(case, facts={**case.facts, "looks": looks, "fault_at": start, "replicas": 3, "watched": 19.5})


def test_a_planned_change_is_judged_by_its_failed_requests_and_only_when_it_was_over(make_case: Callable[..., Case]) -> None:
    case = make_case()
    assert replicas.unnoticed(_case(case, 3)).outcome is Outcome.KEPT
    unfinished = replicas.unnoticed(_case(case, 2))
    assert unfinished.outcome is Outcome.INCONCLUSIVE
    assert "the change was not over in 19.5 s" in unfinished.why
    unwatched = replicas.unnoticed(case)
    assert unwatched.outcome is Outcome.INCONCLUSIVE
    assert "nobody watched the change" in unwatched.why


def test_a_failed_request_breaks_it_also_when_it_was_not_over(make_case: Callable[..., Case]) -> None:
    assert replicas.unnoticed(_case(make_case(failing=0.05), 2)).outcome is Outcome.BROKEN


def test_what_users_lost_is_told_with_its_share(make_case: Callable[..., Case]) -> None:
    assert replicas.noticed(_case(make_case(), 3), 5.0) == []
    (words,) = replicas.noticed(_case(make_case(failing=1.0), 3), 5.0)
    assert words.startswith("users lost ")
    assert words.endswith("(100.00%)")
