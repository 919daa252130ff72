from __future__ import annotations

import pytest
import yaml

from sre.judges.manifests.objects import Object, name
from tests.manifests import overlays, schemas
from tests.manifests.generated import K8S, OVERLAYS

CHOSEN = [(overlay, thing) for overlay in ("dev", "prod") for thing in overlays.manifests(overlay).objects]
OPTIONAL = [
    ("component", thing)
    for path in sorted(K8S.glob("components/prometheus-operator/[!k]*.yaml"))
    for thing in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
CUSTOM = [(place, thing) for place, thing in (*CHOSEN, *OPTIONAL) if schemas.is_custom(thing)]


@pytest.mark.parametrize("version", schemas.VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_field_is_one_that_kubernetes_knows(overlay: str, version: str) -> None:
    assert schemas.findings(overlays.manifests(overlay), (version,)) == []


@pytest.mark.parametrize(("place", "thing"), CUSTOM, ids=[f"{place}-{thing['kind']}-{name(thing)}" for place, thing in CUSTOM])
def test_every_field_of_a_custom_resource_is_one_that_its_definition_knows(place: str, thing: Object) -> None:
    found = schemas.custom_findings(thing)
    if found is None:
        pytest.skip(f"the definition of {thing['apiVersion']} {thing['kind']} is not at hand")
    assert found == []


def test_a_misspelt_field_of_a_custom_resource_is_found() -> None:
    route = next(thing for _, thing in CUSTOM if thing["kind"] == "HTTPRoute")
    wrong = {**route, "spec": {**route["spec"], "rulez": []}}
    found = schemas.custom_findings(wrong)
    if found is None:
        pytest.skip("the definition of HTTPRoute is not at hand")
    assert any("rulez" in one for one in found)
