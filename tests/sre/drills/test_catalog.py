from __future__ import annotations

import pytest

from sre.drills.catalog import DRILLS, GAME_DAY, drill
from sre.drills.pod_recovery import PodRecovery
from sre.errors import UsageError
from sre.promises import PROMISES


def test_every_promise_has_a_drill_that_judges_it_and_every_drill_its_promises() -> None:
    promised = {(name, promise.id) for promise in PROMISES for name in promise.drills}
    assert promised == {(name, promise) for name, kind in DRILLS.items() for promise in kind.promises}


def test_the_copy_of_everything_is_taken_last() -> None:
    order = list(DRILLS)
    assert order[:4] == ["training", "peak-load", "pod-recovery", "alerting"]
    kinds = ["pod"] * 2 + ["zone", "scale", "rolling", "network", "secrets"] + ["node"] * 4 + ["database"] * 11 + ["canary"] * 7
    assert [name.partition("-")[0] for name in order[4:-3]] == kinds
    assert order[-3:] == ["restore", "velero-restore", "cluster-rebuild"]


def test_a_game_day_judges_every_promise_in_the_order_of_the_catalogue_but_those_that_need_a_store_elsewhere_or_patience() -> (
    None
):
    judged = [promise for kind in GAME_DAY for promise in kind.promises]
    elsewhere = {"velero-restore", "cluster-rebuild", "secrets-rotation"}
    assert set(judged) == {promise.id for promise in PROMISES if not elsewhere >= set(promise.drills)}
    order = list(DRILLS.values())
    assert list(GAME_DAY) == sorted(GAME_DAY, key=order.index)


def test_a_drill_is_made_anew_each_time() -> None:
    assert isinstance(drill("pod-recovery"), PodRecovery)
    assert drill("pod-recovery") is not drill("pod-recovery")


def test_an_unknown_drill_is_named_beside_those_that_exist() -> None:
    with pytest.raises(UsageError, match="drill 'peak' does not exist; there are training, peak-load, "):
        drill("peak")
