"""Asking an API server."""

from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import StepFailed, TargetUnavailable
from sre.targets.kubernetes.client import Api, Ended
from tests.cluster import Cluster
from tests.sre.targets.kubernetes.conftest import Served

PATH = "/api/v1/nodes"
_DNS = "/api/v1/namespaces/kube-system/services/kube-dns"


def test_an_object_is_a_plain_dict_and_none_where_there_is_none(api: Api, served: Served) -> None:
    served.objects[PATH] = {"items": [{"metadata": {"name": "node1"}}]}
    assert api.find(PATH) == api.get(PATH) == served.objects[PATH]
    assert api.find("/api/v1/other") is None
    with pytest.raises(TargetUnavailable, match="cluster testbed has nothing at /api/v1/other; run `sre up --target kubernetes`"):
        api.get("/api/v1/other")


def test_a_refusal_is_not_an_absence(api: Api, served: Served) -> None:
    served.objects[PATH] = 403
    with pytest.raises(TargetUnavailable, match="cluster testbed refused GET /api/v1/nodes: 403"):
        api.find(PATH)


def test_an_object_is_changed_in_part_or_deleted(api: Api, served: Served) -> None:
    served.objects[PATH] = {}
    api.patch(PATH, {"metadata": {"finalizers": ["a/b"]}})
    api.delete(f"{PATH}?gracePeriodSeconds=0")
    assert served.changes == [
        ("PATCH", PATH, "application/strategic-merge-patch+json", {"metadata": {"finalizers": ["a/b"]}}),
        ("DELETE", f"{PATH}?gracePeriodSeconds=0", None, None),
    ]


def test_what_is_not_there_counts_as_deleted_and_cannot_be_changed(api: Api, served: Served) -> None:
    api.delete(PATH)
    with pytest.raises(StepFailed, match="cluster testbed refused PATCH /api/v1/nodes: 404"):
        api.patch(PATH, {"metadata": {}})
    served.objects[PATH] = 409
    for change in (api.delete, lambda path: api.patch(path, {"metadata": {}})):
        with pytest.raises(StepFailed, match=r"cluster testbed refused [A-Z]+ /api/v1/nodes: 409"):
            change(PATH)


def test_a_server_that_is_gone_is_named(api: Api, served: Served) -> None:
    served.shutdown()
    served.server_close()
    with pytest.raises(TargetUnavailable, match="cluster testbed did not answer GET /api/v1/nodes"):
        api.find(PATH)
    with pytest.raises(TargetUnavailable, match="cluster testbed did not answer DELETE /api/v1/nodes"):
        api.delete(PATH)
    with pytest.raises(StepFailed, match="sh cannot be run in api of pod a:"):
        api.run("ml-system", "a", "api", ["sh"])
    with pytest.raises(ConnectionError):
        api.connect("ml-system", "a", 5000)


def test_the_context_is_the_current_one_or_the_one_that_is_named(kubeconfig: str) -> None:
    assert Api(kubeconfig, None).context == "testbed"
    assert Api(kubeconfig, "eu-Prod-1").context == "eu-Prod-1"


@pytest.mark.parametrize("text", [None, "", "{", "kind: Config"])
def test_a_file_that_names_no_cluster_says_what_to_set(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config").write_text(text)
    with pytest.raises(TargetUnavailable, match=r"config names no cluster .*; set SRE_KUBECONFIG and SRE_CONTEXT"):
        Api(str(tmp_path / "config"), None)


def test_an_unknown_context_is_named(kubeconfig: str) -> None:
    with pytest.raises(TargetUnavailable, match=r"names no cluster .*other"):
        Api(kubeconfig, "other")


def test_what_the_file_names_now_is_asked(kubeconfig: str, served: Served) -> None:
    api = Api(kubeconfig, None)
    served.objects[PATH] = {"items": []}
    text = Path(kubeconfig).read_text()
    Path(kubeconfig).write_text(text.replace(str(served.server_address[1]), "9"))
    assert api.get(PATH) == {"items": []}
    api.reload()
    assert api.server == "http://127.0.0.1:9"
    with pytest.raises(TargetUnavailable, match="did not answer"):
        api.get(PATH)
    Path(kubeconfig).write_text(text)
    api.reload()
    assert api.get(PATH) == {"items": []}


def test_a_cluster_that_may_be_gone_answers_once_there_is_another(kubeconfig: str, served: Served) -> None:
    file = Path(kubeconfig)
    text = file.read_text()
    file.unlink()
    api = Api(kubeconfig, "testbed", lost=True)
    with pytest.raises(TargetUnavailable, match="cluster testbed did not answer"):
        api.find(PATH)
    with pytest.raises(TargetUnavailable, match="names no cluster"):
        api.reload()
    file.write_text(text)
    served.objects[PATH] = {"items": []}
    api.reload()
    assert api.get(PATH) == {"items": []}


@pytest.mark.cluster
def test_a_command_on_the_real_cluster_ends_with_its_own_status(cluster: Cluster, stand_in: str) -> None:
    api = Api(str(cluster.kubeconfig), None)
    pod = api.get(f"/api/v1/namespaces/{stand_in}/pods")["items"][0]["metadata"]["name"]
    assert api.run(stand_in, pod, "api", ["sh", "-c", "echo seen; exit 0"]) == Ended(0, "seen\n")
    assert api.run(stand_in, pod, "api", ["sh", "-c", "echo why >&2; exit 3"]) == Ended(3, "why\n")
    with pytest.raises(StepFailed, match="sh cannot be run in api of pod none"):
        api.run(stand_in, "none", "api", ["sh"])
