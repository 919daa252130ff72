"""What a real cluster says: does it take every object?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.manifests import overlays
from tests.manifests.generated import OVERLAYS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_every_object(cluster: Cluster, overlay: str) -> None:
    objects = overlays.fresh(overlay)
    places = [one for one in objects if one["kind"] == "Namespace"]
    # A dry run in a namespace that is not there fails; that it is there harms nobody.
    cluster.run("apply", "--server-side", "-f", "-", text=_list(places))
    kinds = set(cluster.run("api-resources", "--no-headers", "-o", "name").stdout.split())
    known = [one for one in objects if f"{_plural(one)}" in kinds and one["kind"] != "Namespace"]
    left_out = {one["apiVersion"].partition("/")[0] for one in objects if one not in known} - {"v1"}
    assert left_out <= {"cert-manager.io", "velero.io"}, "the cluster lacks definitions that the test needs"
    done = cluster.run(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", text=_list(known)
    )
    assert len(done.stdout.splitlines()) == len(known)


def _plural(thing: dict[str, Any]) -> str:
    group = thing["apiVersion"].rpartition("/")[0]
    kind = thing["kind"].lower()
    plural = kind[:-1] + "ies" if kind.endswith("y") and not kind.endswith("ay") else kind + ("es" if kind.endswith("s") else "s")
    return f"{plural}.{group}" if group else plural


def _list(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
