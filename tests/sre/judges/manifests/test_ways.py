from __future__ import annotations

import pytest

from sre.judges.manifests import ways
from sre.judges.manifests.flows import Flow


def test_who_is_not_there_may_nothing_and_guests_come_in_where_they_are_listed() -> None:
    assert ways.allowed([]) == frozenset()
    assert ways.allowed(["data/buckets", "velero/guest", ways.STRANGER, "monitoring/alertmanager"]) == {
        Flow("data/buckets", "data/minio", 9000),
        Flow("velero/guest", "data/minio", 9000),
    }


@pytest.mark.parametrize(
    ("way", "may"),
    [
        (Flow("data/mlflow", "data/postgres", 5432), True),
        (Flow("data/mlflow", "data/postgres", 8008), False),
        (Flow("projectcontour/guest", "ml-system/ml-api", 5000), True),
        (Flow("default/guest", "ml-system/ml-api", 5000), False),
        (Flow("monitoring/alertmanager", ways.DNS, 53), True),
        (Flow("data/postgres", ways.API_SERVER, 6443), True),
        (Flow("ml-system/ml-api", ways.API_SERVER, 443), False),
        (Flow("data/postgres", ways.METADATA, 80), False),
        (Flow("data/postgres", ways.NODE, 10250), False),
        (Flow("ml-system/ml-api", ways.ELSEWHERE, 8080), False),
    ],
)
def test_a_way_is_open_when_it_is_listed(way: Flow, may: bool) -> None:  # noqa: FBT001
    assert ways.may(way, ways.allowed([way.source])) is may
