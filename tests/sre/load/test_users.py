"""The real generator against a real HTTPS server. Nothing here asserts how fast the machine is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sre.load.schedule import arrivals
from sre.measure import samples
from sre.measure.samples import Failure
from sre.readings import LoadPlan
from sre.targets.base import Load

CAP_SYS_NICE = 23  # of capability.h
Launch = Callable[..., Load]
PLAN = LoadPlan(rate=200.0, seconds=2.0, seed=7)


def failures(folder: Path) -> dict[Failure, int]:
    _, records = samples.read(folder)
    kinds, counts = np.unique(records["failure"], return_counts=True)
    return {Failure(int(kind)): int(count) for kind, count in zip(kinds, counts, strict=True)}


def test_each_planned_arrival_leaves_one_record(server: Any, launch: Launch, folder: Path) -> None:
    answers, port = server
    load = launch(port, PLAN, pin_cpu=min(os.sched_getaffinity(0)))
    load.wait()
    recording, records = samples.read(folder)
    expected = arrivals(PLAN.rate, PLAN.seconds, PLAN.seed)
    assert not load.running()
    assert (recording.planned, recording.stopped, len(records)) == (len(expected), False, len(expected))
    np.testing.assert_allclose(records["planned"] - recording.started, expected, atol=1e-6)
    assert np.all(records["planned"] <= records["sent"])
    assert np.all(records["sent"] <= records["done"])
    assert set(records["status"].tolist()) == {200}
    assert failures(folder) == {Failure.NONE: len(expected)}
    assert recording.cpu_seconds > 0
    assert load.progress() == f"{len(expected):,} requests, 0 failed"
    assert set(answers.seen) == {("key-of-the-load-tests", "image/jpeg", 900), ("key-of-the-load-tests", "image/png", 1200)}
    assert "key-of-the-load-tests" not in "".join(path.read_text(errors="replace") for path in folder.iterdir())


def test_the_generator_goes_first_where_it_may(server: Any, launch: Launch) -> None:
    _, port = server
    launch(port, PLAN, niceness=-10)
    main = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    (generator,) = [int(one) for one in main if b"locust" in Path(f"/proc/{one}/cmdline").read_bytes()]
    rights = int(re.findall(r"^CapEff:\s+(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)[0], 16)
    wanted = -10 if rights >> CAP_SYS_NICE & 1 else os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, generator) == wanted


def test_a_stall_counts_for_everyone_who_planned_to_come_in_it(server: Any, launch: Launch, folder: Path) -> None:
    answers, port = server
    answers.stall_after, answers.stall_for = 0.5, 1.0
    launch(port, LoadPlan(rate=100.0, seconds=2.0, seed=1)).wait()
    recording, records = samples.read(folder)
    begin = answers.first + answers.stall_after
    end = begin + answers.stall_for
    inside = records[(records["sent"] > begin + 0.05) & (records["planned"] < end - 0.05)]
    # An open schedule: about as many left during the stall as in any other second, and each waited until its end.
    assert len(inside) == pytest.approx(90, rel=0.4)
    assert np.all(inside["done"] >= end - 0.001)
    assert np.all(inside["done"] - inside["planned"] >= end - inside["planned"] - 0.001)
    assert len(records) == recording.planned


@pytest.mark.parametrize(
    "case",
    [
        (503, b'{"label":"7"}', Failure.STATUS),
        (200, b'{"error":"x"}', Failure.WRONG_ANSWER),
        (200, b"<html>", Failure.WRONG_ANSWER),
    ],
)
def test_an_answer_that_is_no_prediction_is_a_failure(
    case: tuple[int, bytes, Failure], server: Any, launch: Launch, folder: Path
) -> None:
    answers, port = server
    answers.status, answers.body, failure = case
    launch(port, LoadPlan(100.0, 0.3, 1)).wait()
    assert set(failures(folder)) == {failure}


def test_a_server_that_our_authority_did_not_sign_is_a_tls_failure(
    server: Any, launch: Launch, stranger: Any, folder: Path
) -> None:
    _, port = server
    launch(port, LoadPlan(100.0, 0.3, 1), ca_file=stranger.ca_file).wait()
    assert set(failures(folder)) == {Failure.TLS}


def test_no_server_is_a_failure_to_connect(launch: Launch, closed_port: int, folder: Path) -> None:
    launch(closed_port, LoadPlan(100.0, 0.3, 1)).wait()
    assert set(failures(folder)) == {Failure.CONNECT}
