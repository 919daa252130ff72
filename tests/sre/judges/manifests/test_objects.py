from __future__ import annotations

import pytest

from sre.judges.manifests.objects import matches, parsed, subject
from tests.sre.judges.manifests.examples import System

LABELS = {"app": "web", "track": "stable"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "track": "canary"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "other", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors(selector: dict[str, object], *, expected: bool) -> None:
    assert matches(LABELS, selector) is expected


def test_an_operator_that_nobody_knows_is_said() -> None:
    with pytest.raises(ValueError, match="'Gt'"):
        matches(LABELS, {"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["1"]}]})


def test_a_workload_knows_its_pods_and_ports() -> None:
    web = System().manifests.workloads[0]
    assert (web.subject, web.serves, web.ports) == ("Deployment ml-system/web", True, {"http": 5000, 5000: 5000})
    assert web.labels["app"] == "web"


def test_pods_of_a_cronjob_are_found_where_it_keeps_them() -> None:
    pod = {"containers": [{"name": "one", "image": "one:1"}]}
    template = {"metadata": {"labels": {"app": "nightly"}}, "spec": pod}
    cronjob = {"kind": "CronJob", "metadata": {"name": "n", "namespace": "data"}}
    (found,) = parsed([None, {**cronjob, "spec": {"jobTemplate": {"spec": {"template": template}}}}]).workloads
    assert (found.pod, found.labels, found.serves) == (pod, {"app": "nightly"}, False)


def test_an_autoscaler_says_how_many_replicas_there_are() -> None:
    system = System()
    web = system.manifests.workloads[0]
    assert system.manifests.replicas(web) == 3
    system.remove("HorizontalPodAutoscaler", "web")
    system.deployment["replicas"] = 2
    assert system.manifests.replicas(system.manifests.workloads[0]) == 2


def test_a_subject_without_a_namespace() -> None:
    assert subject(System()["Namespace", "data"]) == "Namespace data"
