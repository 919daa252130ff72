from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest

from sre.errors import StepFailed
from sre.targets.keys import KNOWN, UNKNOWN, MemoryKeys, listed, rewritten
from sre.targets.memory import Behaviour, MemoryTarget
from sre.targets.simulation import VirtualClock

OTHER = {"name": "drills", "sha256": "0" * 64, "rate_per_s": 5}
LIST = json.dumps({"keys": [OTHER, {"name": "mine", "sha256": "1" * 64}]})


def test_one_holder_gets_other_keys_and_nobody_else_is_touched() -> None:
    text = rewritten(LIST, "mine", ["a", "b"])
    assert json.loads(text)["keys"][0] == OTHER
    assert [entry["sha256"] for entry in listed(text, "mine")] == [hashlib.sha256(key).hexdigest() for key in (b"a", b"b")]
    assert rewritten(text, "mine", ["a", "b"]) == text
    assert json.loads(rewritten(text, "mine", ()))["keys"] == [OTHER]
    assert listed(LIST, "nobody") == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": [{"sha256": "secret"}]}', '{"keys": "secret"}', '{"keys": [1]}'])
def test_a_damaged_list_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(StepFailed, match="nothing of it was changed") as raised:
        rewritten(text, "mine", ["a"])
    assert "secret" not in str(raised.value)


def test_replicas_follow_one_after_another() -> None:
    target = MemoryTarget(Behaviour(keys_follow_s=30.0))
    target.keys.grant("mine", ["a"])
    target.clock.sleep(20.0)
    assert target.keys.ask("a") == {"serving-1": KNOWN, "serving-2": KNOWN, "serving-3": UNKNOWN}
    target.clock.sleep(10.0)
    target.keys.grant("mine", ["b"])
    assert set(target.keys.ask("a").values()) == {KNOWN}
    target.clock.sleep(30.0)
    assert set(target.keys.ask("a").values()) == {UNKNOWN}
    assert set(target.keys.ask("b").values()) == {KNOWN}


def test_a_replica_that_is_away_answers_nothing() -> None:
    target = MemoryTarget(Behaviour(startup_s=math.inf))
    target.kill("serving-2")
    assert target.keys.ask("a") == {"serving-1": UNKNOWN, "serving-2": 0, "serving-3": UNKNOWN}


def test_the_last_replica_may_never_forget() -> None:
    target = MemoryTarget(Behaviour(keys_follow_s=0.0, keys_forgotten=False))
    target.keys.grant("mine", ["a"])
    target.keys.grant("mine", ())
    assert target.keys.ask("a") == {"serving-1": UNKNOWN, "serving-2": UNKNOWN, "serving-3": KNOWN}


def test_each_request_meets_what_its_replica_knew_then() -> None:
    clock = VirtualClock()
    keys = MemoryKeys(clock, Behaviour(keys_follow_s=3.0), MemoryTarget()._replicas)
    keys.grant("mine", ["a"])
    at = clock.now() + np.array([0.5, 1.5, 1.5, 3.5, 0.0])
    assert keys.known(np.array([0, 0, 1, 2, -1]), "a", at).tolist() == [False, True, False, True, True]
