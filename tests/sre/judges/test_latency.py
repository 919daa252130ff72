from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.judges.latency import latency
from sre.measure.samples import Failure, Recording, Samples
from sre.promises import promise
from sre.verdict import Outcome, Verdict

MakeRecording = Callable[..., tuple[Recording, Samples]]
P95 = promise("latency-p95")
RANK = {Outcome.BROKEN: 0, Outcome.INCONCLUSIVE: 1, Outcome.KEPT: 2}


def judge(recording: Recording, samples: Samples, warm_up: float = 0.0) -> Verdict:
    return latency(P95, recording, samples, quantile=0.95, warm_up=warm_up)


def test_a_fast_load_keeps_the_promise(make_recording: MakeRecording) -> None:
    judged = judge(*make_recording(wait=0.02125))
    assert (judged.outcome, judged.n) == (Outcome.KEPT, 6000)
    assert judged.measured == pytest.approx(0.02125)
    assert judged.why == "95 % of 6,000 requests had their prediction within 21.3 ms of the planned send"


def test_a_stall_of_a_tenth_of_the_load_breaks_it_though_all_else_was_fast(make_recording: MakeRecording) -> None:
    # Nobody is answered from second 20 to 26: whoever planned to come then waited until its end.
    since = np.arange(6000) / 100
    wait = np.where((since >= 20) & (since < 26), 26 - since, 0.0) + 0.02
    assert judge(*make_recording(wait=wait)).outcome is Outcome.BROKEN


def test_failures_above_five_per_cent_break_it_however_fast_the_rest(make_recording: MakeRecording) -> None:
    judged = judge(*make_recording(failed=range(0, 6000, 15)))
    assert (judged.outcome, judged.measured) == (Outcome.BROKEN, math.inf)
    assert "never" in judged.why


def test_one_slow_block_in_sixty_makes_a_narrow_result_inconclusive(make_recording: MakeRecording) -> None:
    wait = np.where(np.arange(6000) < 290, 5.0, 0.02)
    judged = judge(*make_recording(wait=wait))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "its 95 % interval reaches" in judged.why


def test_a_record_that_is_missing_is_never_kept(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    judged = judge(recording, samples[:-1])
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "5,999 of 6,000" in judged.why


def test_nothing_planned_and_nothing_recorded_is_never_kept(make_recording: MakeRecording) -> None:
    recording, samples = make_recording()
    assert judge(replace(recording, planned=0), samples[:0]).outcome is Outcome.INCONCLUSIVE


def test_too_few_samples_are_inconclusive(make_recording: MakeRecording) -> None:
    assert judge(*make_recording(rate=10.0)).outcome is Outcome.INCONCLUSIVE


def test_a_load_of_a_few_seconds_is_inconclusive(make_recording: MakeRecording) -> None:
    judged = judge(*make_recording(rate=1000.0, seconds=5.0))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "too short" in judged.why


def test_the_warm_up_does_not_count(make_recording: MakeRecording) -> None:
    recording, samples = make_recording(wait=np.where(np.arange(6000) < 1000, 5.0, 0.02))
    assert judge(recording, samples).outcome is Outcome.BROKEN
    judged = judge(recording, samples, warm_up=10.0)
    assert (judged.outcome, judged.n) == (Outcome.KEPT, 5000)


def test_a_warm_up_as_long_as_the_load_leaves_nothing_to_judge(make_recording: MakeRecording) -> None:
    assert judge(*make_recording(), warm_up=60.0).outcome is Outcome.INCONCLUSIVE


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), index=st.integers(0, 1199), extra=st.floats(0.0, 5.0), share=st.floats(0.0, 0.1))
def test_a_worse_sample_never_improves_the_verdict(
    make_recording: MakeRecording, seed: int, index: int, extra: float, share: float
) -> None:
    random = np.random.default_rng(seed)
    wait = np.where(random.random(1200) < share, 0.6, 0.1)
    recording, samples = make_recording(rate=20.0, wait=wait)
    before = RANK[judge(recording, samples).outcome]
    samples["done"][index] += extra
    slower = RANK[judge(recording, samples).outcome]
    samples["failure"][index] = Failure.TIMEOUT
    assert RANK[judge(recording, samples).outcome] <= slower <= before
