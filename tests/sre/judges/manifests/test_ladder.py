from __future__ import annotations

from sre.judges.manifests import ladder
from sre.judges.manifests.flows import Flow
from sre.judges.manifests.objects import Finding, parsed
from tests.sre.judges.manifests.examples import System


def test_a_good_system_climbs_it() -> None:
    assert ladder.climb(System().manifests, frozenset()) == ()


def test_nothing_is_not_good() -> None:
    assert ladder.climb(parsed([]), frozenset()) == (Finding("renders", "manifests", "hold no object"),)


def test_a_way_that_should_be_open_and_is_not() -> None:
    way = Flow("ml-system/fill", "ml-system/web", 5000)
    assert ladder.climb(System().manifests, frozenset({way})) == (
        Finding("flows", "ml-system/fill", "is not let in to ml-system/web at 5000"),
        Finding("flows", "ml-system/fill", "is not let out to ml-system/web at 5000"),
    )


def test_a_way_that_one_end_leaves_open_and_should_not() -> None:
    system = System()
    system["NetworkPolicy", "web"]["spec"]["ingress"][0]["from"].append({"podSelector": {"matchLabels": {"app": "fill"}}})
    assert ladder.climb(system.manifests, frozenset()) == (
        Finding("flows", "ml-system/fill", "is let in to ml-system/web at 5000, and should not be"),
    )


def test_findings_are_sorted_and_told_once() -> None:
    system = System()
    system.pod.pop("tolerations")
    system.container.pop("readinessProbe")
    found = ladder.climb(system.manifests, frozenset())
    assert list(found) == sorted(set(found))
    assert {finding.rule for finding in found} == {
        "no-readiness-probe",
        "no-node-loss-toleration",
        "node-recovery",
        "pod-recovery",
    }
