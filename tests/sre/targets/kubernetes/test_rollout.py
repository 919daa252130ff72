"""What objects wait for."""

from __future__ import annotations

from typing import Any

import pytest

from sre.errors import CannotRun
from sre.targets.kubernetes.rollout import missing


def _deployment(wanted: int = 3, *, observed: int = 2, **status: int) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "ml-api", "generation": 2},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": observed, **status},
    }


def _job(**status: Any) -> dict[str, Any]:
    return {"kind": "Job", "metadata": {"name": "migrate", "generation": 1}, "spec": {}, "status": status}


def test_a_whole_deployment_waits_for_nothing() -> None:
    assert missing(_deployment(replicas=3, updatedReplicas=3, readyReplicas=3)) == ""
    assert missing(_deployment(0)) == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({}, "Deployment ml-api: 0 of 3 ready, 0 of them as applied"),
        ({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 2}, "Deployment ml-api: 2 of 3 ready, 3 of them as applied"),
        ({"replicas": 3, "updatedReplicas": 1, "readyReplicas": 3}, "Deployment ml-api: 3 of 3 ready, 1 of them as applied"),
        ({"replicas": 4, "updatedReplicas": 3, "readyReplicas": 3}, "Deployment ml-api: 3 of 3 ready, 3 of them as applied"),
        ({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "observed": 1}, "Deployment ml-api is not looked at yet"),
    ],
)
def test_a_deployment_under_way_says_what_is_missing(status: dict[str, int], words: str) -> None:
    assert missing(_deployment(**status)) == words


def test_a_job_is_over_when_it_has_succeeded_and_only_then() -> None:
    assert missing(_job(succeeded=1)) == ""
    assert missing(_job()) == "Job migrate: 0 of 1 completed, 0 failed"
    assert missing(_job(active=1, failed=2)) == "Job migrate: 0 of 1 completed, 2 failed"


def test_a_job_that_gave_up_ends_the_waiting() -> None:
    given_up = _job(failed=4, conditions=[{"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}])
    with pytest.raises(CannotRun, match="Job migrate failed: BackoffLimitExceeded; see"):
        missing(given_up)
    assert missing(_job(conditions=[{"type": "Failed", "status": "False"}])) == "Job migrate: 0 of 1 completed, 0 failed"
