from __future__ import annotations

from sre.judges.manifests.difference import paths
from tests.sre.judges.manifests.examples import System


def test_the_same_differs_nowhere() -> None:
    assert paths(System().manifests, System().manifests) == ()


def test_every_value_that_differs_has_its_path() -> None:
    one, other = System(), System()
    other.container["resources"]["requests"]["cpu"] = "200m"
    other.pod["hostPID"] = True
    other.pod["tolerations"].pop()
    assert paths(one.manifests, other.manifests) == (
        "Deployment ml-system/web: spec.template.spec.containers[0].resources.requests.cpu",
        "Deployment ml-system/web: spec.template.spec.hostPID",
        "Deployment ml-system/web: spec.template.spec.tolerations",
    )


def test_an_object_that_only_one_has() -> None:
    one, other = System(), System()
    other.remove("PodDisruptionBudget", "web")
    assert paths(one.manifests, other.manifests) == ("PodDisruptionBudget ml-system/web: only in one",)


def test_a_generated_name_is_no_difference_of_its_own() -> None:
    one, other = System(), System()
    other["ConfigMap", "web-abcdef0123"]["data"]["LEVEL"] = "DEBUG"
    other["ConfigMap", "web-abcdef0123"]["metadata"]["name"] = "web-0123456789"
    other.container["envFrom"][0]["configMapRef"]["name"] = "web-0123456789"
    assert paths(one.manifests, other.manifests) == ("ConfigMap ml-system/web: data.LEVEL",)
