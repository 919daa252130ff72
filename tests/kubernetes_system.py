"""The system on the real cluster, for tests that need one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sre.config import Settings
from sre.targets.kubernetes import deploy
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.place import Place
from sre.targets.kubernetes.target import KubernetesTarget
from tests.cluster import Cluster
from tests.manifests import overlays

IMAGES = sorted(set(re.findall(r"localhost/ml-sre/[a-z]+:dev", overlays.text("dev"))))


@pytest.fixture(scope="session")
def system_on_cluster(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesTarget]:
    """The overlay `dev` on the test cluster, left there: applying it again changes nothing."""
    images = {name for node in cluster.get("nodes")["items"] for one in node["status"]["images"] for name in one.get("names", ())}
    if absent := [image for image in IMAGES if image not in images]:
        pytest.skip(f"no node holds {', '.join(absent)}: run `sre up --target kubernetes` with SRE_IMAGE_BUILD first")
    api = Api(str(cluster.kubeconfig), None)
    where = Place(tmp_path_factory.mktemp("home"), str(cluster.kubeconfig), api.context, "dev")
    system = deploy.up(where, Settings().tools, api, lambda _: None)
    yield system
    system.close()
