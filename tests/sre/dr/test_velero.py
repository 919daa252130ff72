"""A backup and a restore as facts, on the simulated Velero."""

from __future__ import annotations

from typing import Any

import pytest

from sre.dr import velero
from sre.dr.velero import Watch
from sre.errors import StepFailed, TargetUnavailable
from sre.targets.memory import Behaviour, MemoryTarget
from tests.sre.judges.velero_objects import backup

SOURCE, COPY = "source", "copy"


def watch(said: list[str] | None = None, **behaviour: Any) -> Watch:
    target = MemoryTarget(Behaviour(**behaviour))
    return Watch(target.volumes, target.clock, 60.0, (said if said is not None else []).append)


def test_waiting_tells_each_change_once_and_ends_when_nothing_is_waited_for() -> None:
    said = list[str]()
    seen = iter(["a", "a", "b", ""])
    assert watch(said).until(lambda: next(seen), "c") == ""
    assert said == ["waiting for c: a", "waiting for c: b"]


def test_waiting_has_a_deadline_and_says_what_it_last_saw() -> None:
    waiting = watch()
    began = waiting.clock.now()
    assert waiting.until(lambda: "2 of 3", "pods") == "pods not within 60 s (last seen: 2 of 3)"
    assert 60 <= waiting.clock.now() - began <= 61


def test_a_look_that_nobody_answered_is_taken_again() -> None:
    said = list[str]()
    seen = iter([TargetUnavailable("no answer"), None])

    def look() -> str:
        if error := next(seen):
            raise error
        return ""

    assert watch(said).until(look, "pods") == ""
    assert said == ["waiting for pods: no answer"]


def test_a_sample_runs_and_is_filled() -> None:
    files = velero.sample(watch(), SOURCE)
    assert sorted(files) == ["data-keeper-0", "data-keeper-1"]
    assert all(files.values())


def test_pods_that_are_missing_or_not_ready_are_named() -> None:
    waiting = watch()
    assert velero.not_ready(waiting.volumes, [SOURCE], ()) == "no pod"
    waiting.volumes.begin(SOURCE)
    assert velero.not_ready(waiting.volumes, [SOURCE], ["x"]) == "x is not there, keeper-0 is Pending, keeper-1 is Pending"
    waiting.clock.sleep(5)
    assert velero.not_ready(waiting.volumes, [SOURCE], ["keeper-0"]) == ""


def test_a_backup_tells_what_lived_what_was_made_and_what_lies_in_the_store() -> None:
    waiting = watch()
    velero.sample(waiting, SOURCE)
    taken = velero.back_up(waiting, "b", [SOURCE])
    assert (taken["backup"]["status"]["phase"], taken["late"], taken["words"]) == ("Completed", "", {})
    assert [one["status"]["phase"] for one in taken["made"]] == ["Completed", "Completed"]
    assert taken["before"]["items"] == taken["after"]["items"] == taken["archived"]


def test_a_backup_that_fails_or_hangs_is_a_fact_and_no_error() -> None:
    failed = watch(backup_phase="Failed")
    velero.sample(failed, SOURCE)
    taken = velero.back_up(failed, "b", [SOURCE])
    assert taken["backup"]["status"]["phase"] == "Failed"
    assert taken["archived"] == {"trouble": "the archive of backup b cannot be read: it is not in the store"}
    hung = watch(backup_phase="InProgress")
    velero.sample(hung, SOURCE)
    late = velero.back_up(hung, "b", [SOURCE])["late"]
    assert late == "the end of backup b not within 60 s (last seen: InProgress, 0 of 0 items)"


def test_a_restore_waits_for_its_pods_and_has_its_warnings_in_words() -> None:
    waiting = watch()
    files = velero.sample(waiting, SOURCE)
    velero.back_up(waiting, "b", [SOURCE])
    brought = velero.bring_back(waiting, "r", "b", {SOURCE: COPY}, {"keeper-0": "node1", "keeper-1": "node2"})
    assert (brought["restore"]["status"]["phase"], brought["late"]) == ("Completed", "")
    assert brought["words"]["warnings"][0].startswith("could not restore, ConfigMap:kube-root-ca.crt")
    assert [one["spec"]["pod"]["namespace"] for one in brought["brought"]] == [COPY, COPY]
    assert {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in brought["after"]["pods"]} == {
        "keeper-0": "node2",
        "keeper-1": "node1",
    }
    assert waiting.volumes.files(COPY) == files


def test_a_restore_that_hangs_says_how_far_it_came() -> None:
    waiting = watch(restore_s=1e6)
    velero.sample(waiting, SOURCE)
    velero.back_up(waiting, "b", [SOURCE])
    brought = velero.bring_back(waiting, "r", "b", {SOURCE: COPY}, {})
    assert brought["late"] == "the end of restore r not within 60 s (last seen: InProgress, 0 of 5 items)"


def test_pods_that_do_not_run_fail_a_sample() -> None:
    short = Watch(watch().volumes, watch().clock, 1.0, lambda _: None)
    with pytest.raises(StepFailed, match=r"pods to run not within 1 s \(last seen: keeper-0 is Pending, keeper-1 is Pending\)"):
        velero.sample(short, SOURCE)


def test_of_scheduled_backups_the_newest_complete_one_is_looked_at_without_younger_claims() -> None:
    waiting = watch()
    velero.sample(waiting, "data")
    claims = waiting.volumes.living(["data"]).claims
    schedules = waiting.volumes.records("schedules")
    later = {"startTimestamp": "2100-01-01T00:00:00Z"}
    made = [backup("old", "ml-daily", at="2026-01-01T00:00:00Z", **later), backup("new", "ml-daily", **later)]
    (found,) = velero.scheduled(waiting.volumes, schedules, [*made, backup("x", "ml-weekly", phase="Failed")])
    assert (found["backup"], found["made"], len(found["living"]["claims"])) == ("new", [], len(claims))
    early = backup("new", "ml-daily", startTimestamp="2000-01-01T00:00:00Z")
    (found,) = velero.scheduled(waiting.volumes, schedules, [early])
    assert found["living"]["claims"] == []
    assert velero.scheduled(waiting.volumes, [], made) == []
