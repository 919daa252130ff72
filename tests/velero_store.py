"""Velero on the test cluster, with a store on this machine, outside of it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from sre.config import Settings
from sre.errors import SreError
from sre.targets.certificates import Authority
from sre.targets.kubernetes import velero, velero_install
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.velero import KubernetesVolumes
from tests import minio_server
from tests.cluster import Cluster, find_program

BUCKET = "ml-velero"


@pytest.fixture(scope="session")
def velero_on_cluster(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesVolumes]:
    """What is there, where a Velero answers; else one of our own that is taken away again."""
    if find_program("velero") is None:
        pytest.skip("velero is not here: put it on PATH")
    api, tools = Api(str(cluster.kubeconfig), None), Settings().tools
    with contextlib.suppress(SreError):
        there = velero.of(api, tools, str(cluster.kubeconfig))
        if not there.trouble():
            yield there
            return
    folder, authority = tmp_path_factory.mktemp("velero"), Authority()
    with minio_server.serve(folder, authority, _reached_by_nodes(cluster)) as server:
        keys = {"aws_access_key_id": server.user, "aws_secret_access_key": server.password}
        url = f"https://{server.address}"
        server.make_bucket(BUCKET, folder / "ca.pem")
        (folder / "keys").write_text("\n".join(["[default]", *(f"{name} = {value}" for name, value in keys.items()), ""]))
        store = velero_install.Store(url, BUCKET, folder / "keys", folder / "ca.pem")
        try:
            velero_install.install(tools, str(cluster.kubeconfig), api, store, lambda _: None)
            yield velero.of(api, tools, str(cluster.kubeconfig))
        finally:
            velero_install.uninstall(tools, str(cluster.kubeconfig), api, lambda _: None)


def _reached_by_nodes(cluster: Cluster) -> str:
    """The address by which this machine sends to a node, so by which a pod there reaches this machine."""
    addresses = cluster.get("nodes")["items"][0]["status"]["addresses"]
    node = next(one["address"] for one in addresses if one["type"] == "InternalIP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((node, 9))
        return str(probe.getsockname()[0])
