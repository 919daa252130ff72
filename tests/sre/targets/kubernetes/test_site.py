"""A cluster as a whole, over plain API objects and stand-in programs."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sre.errors import StepFailed, TargetUnavailable
from sre.targets.backups import NAMESPACES
from sre.targets.kubernetes import off_site
from sre.targets.kubernetes.place import Place
from sre.targets.kubernetes.site import KubernetesSite, Means
from sre.targets.kubernetes.velero_install import Store
from sre.targets.objects import S3
from tests.sre.targets.kubernetes.conftest import Served
from tests.sre.targets.kubernetes.programs import Programs
from tests.sre.targets.kubernetes.test_off_site import BUCKET, outside
from tests.sre.targets.kubernetes.test_pgbackrest import PRIMARY, Asked, info

__all__ = ["outside"]

SYSTEM = "/api/v1/namespaces/kube-system"
LOCATION = "/apis/velero.io/v1/namespaces/velero/backupstoragelocations/default"
SECRET = "/api/v1/namespaces/data/secrets/off-site"
WRITE = "import sys; open(sys.argv[1], 'a').write('x')"
READY = {"metadata": {"name": "node1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@contextmanager
def no_objects() -> Iterator[S3]:
    yield _nothing()


def _nothing() -> S3:
    raise StepFailed("no object store here")


@pytest.fixture
def asked(kubeconfig: str, served: Served) -> Asked:
    served.objects |= {
        PRIMARY: {"items": [{"metadata": {"name": "postgres-1"}}]},
        SYSTEM: {"metadata": {"uid": "first"}},
        "/api/v1/nodes": {"items": [READY]},
        "/api/v1/services": {"items": []},
        "/api/v1/pods": {"items": []},
    }
    api = Asked(kubeconfig, None)
    api.answer = lambda *_: (0, info((2, "b")))
    return api


@pytest.fixture
def site(asked: Asked, place: Place, programs: Programs, tmp_path: Path) -> KubernetesSite:
    create = f'{sys.executable} -c "{WRITE}" {tmp_path / "created"}'
    return KubernetesSite(asked, place, programs.folder, Means("false", create), no_objects)


@pytest.fixture
def whole(asked: Asked, place: Place, programs: Programs, served: Served, outside: Store) -> KubernetesSite:
    """One whose backups all go outside."""
    served.objects[LOCATION] = {"spec": {"config": {"s3Url": outside.url}, "objectStorage": {"bucket": BUCKET}}}
    served.objects[SECRET] = off_site.secret(outside, [])
    return KubernetesSite(asked, place, programs.folder, Means("true", "true", outside, BUCKET), no_objects)


def test_a_cluster_whose_backups_go_outside_can_be_made_again(whole: KubernetesSite) -> None:
    assert whole.trouble() == ""


def service(**status: Any) -> Any:
    return {"metadata": {"namespace": "data", "name": "minio"}, "spec": {"clusterIPs": ["127.0.0.1"]}, "status": status}


LOCAL = {"podIPs": [{"ip": "127.0.0.1"}]}
SABOTAGE: list[tuple[str, dict[str, Any], str]] = [
    (
        "a Service has its address",
        {"/api/v1/services": {"items": [service()]}},
        "has the address of Service data/minio",
    ),
    (
        "a load balancer has it",
        {"/api/v1/services": {"items": [{**service(loadBalancer={"ingress": [{"ip": "127.0.0.1"}]}), "spec": {}}]}},
        "has the address of Service data/minio",
    ),
    (
        "it is on a node",
        {"/api/v1/nodes": {"items": [{**READY, "status": {"addresses": [{"address": "127.0.0.1"}]}}]}},
        "has the address of node node1, and is lost with the cluster",
    ),
    (
        "it is a pod",
        {"/api/v1/pods": {"items": [{"metadata": {"namespace": "x", "name": "y"}, "status": LOCAL}]}},
        "has the address of pod x/y",
    ),
    (
        "Velero's backups go elsewhere",
        {LOCATION: {"spec": {"config": {"s3Url": "https://minio.data.svc:9000"}, "objectStorage": {"bucket": BUCKET}}}},
        "Velero's backups go to https://minio.data.svc:9000/ml-off-site, and SRE_VELERO_URL names",
    ),
    ("the database knows no second repository", {SECRET: 404}, "go to bucket None, and SRE_OFF_SITE_BUCKET names ml-off-site"),
    ("there is no Velero", {LOCATION: 404}, "has nothing at /apis/velero.io"),
]


@pytest.mark.parametrize(("objects", "words"), [row[1:] for row in SABOTAGE], ids=[row[0] for row in SABOTAGE])
def test_what_would_be_missing_afterwards_is_named(
    whole: KubernetesSite, served: Served, objects: dict[str, Any], words: str
) -> None:
    served.objects |= objects
    assert words in whole.trouble()


@pytest.mark.parametrize(("codes", "words"), [({1: 0}, "knows no repository 2"), ({1: 0, 2: 99}, "m n")])
def test_a_repository_that_takes_no_backup_is_named(
    whole: KubernetesSite, asked: Asked, codes: dict[int, int], words: str
) -> None:
    asked.answer = lambda *_: (0, info(codes=codes))
    assert words in whole.trouble()


def test_without_commands_or_store_it_cannot_be_made_again(
    site: KubernetesSite, asked: Asked, place: Place, programs: Programs, tmp_path: Path
) -> None:
    assert "there is no store outside the cluster; set SRE_VELERO_URL and SRE_OFF_SITE_BUCKET" in site.trouble()
    bare = KubernetesSite(asked, place, programs.folder, Means("true"), no_objects)
    assert bare.trouble().endswith("set SRE_CLUSTER_DESTROY, SRE_CLUSTER_CREATE")
    store = Store("https://minio.data.svc:9000", BUCKET, tmp_path / "keys")
    inside = KubernetesSite(asked, place, programs.folder, Means("true", "true", store, BUCKET), no_objects)
    assert inside.trouble() == "the store minio.data.svc is a Service of the cluster, and is lost with it"
    nowhere = Means("true", "true", replace(store, url="https://store.invalid"), BUCKET)
    assert (
        "the store's host store.invalid is not known"
        in KubernetesSite(asked, place, programs.folder, nowhere, no_objects).trouble()
    )


def test_its_doors_are_those_of_the_api_server_and_the_edge(
    asked: Asked, place: Place, programs: Programs, served: Served
) -> None:
    means = Means(ingress="https://10.80.0.64")
    site = KubernetesSite(asked, place, programs.folder, means, no_objects)
    assert site.doors() == (f"http://127.0.0.1:{served.server_address[1]}/version", "https://10.80.0.64/health/ready")


def test_only_the_cluster_itself_answers(site: KubernetesSite, served: Served) -> None:
    door, nobody = f"http://127.0.0.1:{served.server_address[1]}/version", "http://127.0.0.1:9/version"
    served.objects["/version"] = {"gitVersion": "v1.36.0"}
    assert site.answering([door, nobody]) == door
    # Somebody listens there and knows nothing of it, as a proxy does that takes every connection.
    del served.objects["/version"]
    assert site.answering([door, nobody]) == ""
    assert site.answering([door.replace("http:", "https:")]) == ""


def test_its_identity_is_that_of_a_namespace_that_every_cluster_has(site: KubernetesSite, served: Served) -> None:
    assert site.identity() == "first"
    served.objects[SYSTEM] = 404
    assert site.identity() == ""
    served.objects[SYSTEM] = 503
    assert site.identity() == ""


def test_one_that_answers_is_not_made_again_and_nodes_are_waited_for(
    site: KubernetesSite, served: Served, tmp_path: Path
) -> None:
    waiting = {**READY, "status": {"conditions": []}}
    served.objects["/api/v1/nodes"] = [{"items": []}, {"items": [waiting]}, {"items": [READY]}]
    site.create()
    assert not (tmp_path / "created").exists()
    served.objects[SYSTEM] = [404, {"metadata": {"uid": "second"}}]
    site.create()
    assert (tmp_path / "created").read_text() == "x"
    assert site.identity() == "second"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (None, "no command is known for it; set SRE_CLUSTER_DESTROY"),
        ("/bin/false", "`/bin/false` exited with 1"),
        ("/no/such/program", "cannot be run"),
        ("'unclosed", "cannot be run: No closing quotation; correct SRE_CLUSTER_DESTROY"),
    ],
)
def test_a_command_that_fails_is_told(asked: Asked, place: Place, programs: Programs, command: str | None, words: str) -> None:
    with pytest.raises(StepFailed, match=words):
        KubernetesSite(asked, place, programs.folder, Means(command), no_objects).destroy()


def test_a_backup_outside_is_made_only_where_there_is_none(site: KubernetesSite, asked: Asked) -> None:
    assert site.archive() == "b"
    listed: list[tuple[int, str]] = [(1, "a")]

    def answer(_: str, script: str) -> tuple[int, str]:
        if "--repo=2" in script:
            listed.append((2, "new"))
        return 0, info(*listed)

    asked.answer = answer
    assert site.archive() == "new"


def test_nothing_is_a_backup_while_wal_does_not_arrive(site: KubernetesSite, asked: Asked) -> None:
    asked.answer = lambda _, script: (82, "WAL segment was not archived") if " check" in script else (0, info((2, "b")))
    with pytest.raises(StepFailed, match=r"check` beside postgres-1 ended with 82: WAL segment was not archived"):
        site.archive()


def test_it_holds_what_is_there(site: KubernetesSite, served: Served) -> None:
    assert site.holds() == ""
    served.objects["/api/v1/namespaces/data"] = {}
    assert site.holds() == "data"


def test_what_runs_and_has_an_address_is_not_waited_for(site: KubernetesSite, served: Served) -> None:
    lists = [f"/apis/apps/v1/namespaces/{name}/{kind}" for name in NAMESPACES for kind in ("deployments", "statefulsets")]
    served.objects |= {path: {"items": []} for path in lists}
    assert site.missing() == "no workload is there"
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    minio = {"metadata": {"name": "minio", "generation": 1}, "spec": {"replicas": 1}, "status": status}
    served.objects[lists[3]] = {"items": [{**minio, "status": {}}]}
    assert site.missing() == "StatefulSet minio is not looked at yet"
    served.objects[lists[3]] = {"items": [minio]}
    assert "has nothing at /apis/gateway.networking.k8s.io" in site.missing()
    served.objects["/apis/gateway.networking.k8s.io/v1/namespaces/ml-system/httproutes/ml-api"] = {
        "metadata": {"namespace": "ml-system"}, "spec": {"parentRefs": [{"name": "edge"}]},
    }  # fmt: skip
    served.objects["/apis/gateway.networking.k8s.io/v1/namespaces/ml-system/gateways/edge"] = {
        "spec": {"listeners": [{"protocol": "HTTP", "port": 80}]}, "status": {"addresses": [{"value": "10.80.0.64"}]},
    }  # fmt: skip
    assert site.missing() == ""
    served.objects[lists[0]] = 503
    assert "refused" in site.missing()


def test_keys_of_another_system_do_not_fit_and_a_new_folder_gets_them(site: KubernetesSite, place: Place, served: Served) -> None:
    def encoded(name: str, key: str, value: str) -> Any:
        metadata = {"namespace": "monitoring", "name": name}
        return {"metadata": metadata, "data": {key: base64.b64encode(value.encode()).decode()}}

    held = [encoded("authority", "ca.crt", "pem\n"), encoded("drills", "api-key", "key")]
    served.objects |= {f"/api/v1/namespaces/{place}/secrets": {"items": []} for place in NAMESPACES}
    served.objects["/api/v1/namespaces/monitoring/secrets"] = {"items": held}
    assert site.misfits() == ""
    assert place.api_key_file.read_text() == "key"
    place.ca_file.write_text("other\n")
    assert site.misfits() == "the certificate authority is another one"
    served.objects["/api/v1/namespaces/monitoring/secrets"] = {"items": []}
    assert site.misfits() == "the certificate authority is another one and the API key is another one"


def test_velero_comes_with_the_store_that_has_the_backups(whole: KubernetesSite, programs: Programs, outside: Store) -> None:
    whole.install(lambda _: None)
    assert f"s3Url={outside.url}" in programs.calls("velero")[0]


def test_a_store_that_nobody_names_is_nothing_to_come_back_from(site: KubernetesSite) -> None:
    with pytest.raises(Exception, match="there is no store to bring anything back from; set SRE_VELERO_URL"):
        site.install(lambda _: None)


def test_objects_are_those_of_the_systems_store(site: KubernetesSite) -> None:
    with pytest.raises(StepFailed, match="no object store here"):
        site.contents()


def test_a_cluster_that_is_gone_is_no_empty_one(site: KubernetesSite, served: Served) -> None:
    served.shutdown()
    served.server_close()
    assert site.identity() == ""
    with pytest.raises(TargetUnavailable):
        site.holds()
