from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sre.drills import loaded
from sre.drills.base import Case
from sre.errors import StepFailed
from sre.judges.ruling import verdict
from sre.promises import promise
from sre.verdict import Outcome, Verdict

MakeCase = Callable[..., Case]

KEPT = verdict(promise("latency-p95"), Outcome.KEPT, 0.1, (0.1, 0.1), 1000, "users")
BROKEN = replace(KEPT, outcome=Outcome.BROKEN, measured=0.9)
WATCHED = verdict(promise("alerting"), Outcome.KEPT, 13.0, None, 1, "watchers")


def outcomes(verdicts: tuple[Verdict, ...]) -> list[Outcome]:
    return [item.outcome for item in verdicts]


def test_two_sources_that_agree_leave_the_verdicts_as_they_are(make_case: MakeCase) -> None:
    judged = loaded.judgement(make_case(), [KEPT, BROKEN], [WATCHED])
    assert judged.verdicts == (WATCHED, KEPT, BROKEN)
    assert judged.findings == ()


@pytest.mark.parametrize("behaviour", [{"counted": 0.5}, {"counted": 1.5}, {"metric": False}])
def test_sources_that_disagree_overturn_all_that_was_kept_and_no_breach(make_case: MakeCase, behaviour: dict[str, Any]) -> None:
    judged = loaded.judgement(make_case(**behaviour), [KEPT, BROKEN], [WATCHED])
    assert outcomes(judged.verdicts) == [Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE, Outcome.BROKEN]
    assert len(judged.findings) == 1


def test_counters_that_began_again_are_a_stated_error_not_a_disagreement(make_case: MakeCase) -> None:
    case = make_case(counted=0.5)
    counts = case.facts["server_counts"]
    lost = {**counts, "resets": 6}
    assert loaded.judgement(Case({**case.facts, "server_counts": lost}, case.recording, case.samples), [KEPT]).findings == ()


@pytest.mark.parametrize("behaviour", [{"late_s": 0.1}, {"cpu": 0.9}])
def test_a_saturated_generator_overturns_what_users_were_promised(make_case: MakeCase, behaviour: dict[str, Any]) -> None:
    judged = loaded.judgement(make_case(**behaviour), [KEPT, BROKEN], [WATCHED])
    assert outcomes(judged.verdicts) == [Outcome.KEPT, Outcome.INCONCLUSIVE, Outcome.BROKEN]
    assert "load generator" in judged.verdicts[1].why or "ms late" in judged.verdicts[1].why


def test_a_load_cut_short_counts_only_where_the_drill_may_stop_it(make_case: MakeCase) -> None:
    case = make_case(stop_after=12.0)
    assert loaded.judgement(case, [KEPT], may_stop=True).verdicts == (KEPT,)
    assert outcomes(loaded.judgement(case, [KEPT]).verdicts) == [Outcome.INCONCLUSIVE]


def test_facts_without_the_scrape_interval_and_a_case_without_counters(make_case: MakeCase) -> None:
    case = make_case()
    judged = loaded.judgement(Case({}, case.recording, case.samples), [KEPT])
    assert outcomes(judged.verdicts) == [Outcome.INCONCLUSIVE]


def test_a_case_without_a_load_cannot_be_judged() -> None:
    with pytest.raises(StepFailed, match="there are no samples"):
        loaded.judgement(Case({}, None, None), [KEPT])


def test_a_generator_that_could_not_send_cannot_show_a_lack_of_throughput(make_case: MakeCase) -> None:
    missed = verdict(promise("throughput"), Outcome.BROKEN, 700.0, (690.0, 710.0), 42_000, "users")
    judged = loaded.judgement(make_case(cpu=0.95), [missed])
    assert outcomes(judged.verdicts) == [Outcome.INCONCLUSIVE]
