"""What of the system's namespaces runs, and how they go."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from sre.errors import UndoIncomplete
from sre.targets.backups import NAMESPACES
from sre.targets.kubernetes import namespaces
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.kubectl import Kubectl
from sre.targets.kubernetes.place import Place
from sre.targets.simulation import VirtualClock
from tests.sre.targets.kubernetes.conftest import Served
from tests.sre.targets.kubernetes.programs import Programs

DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
MEMBERS = "/apis/apps/v1/namespaces/{}/statefulsets"


def _set(name: str, wanted: int, ready: int) -> dict[str, Any]:
    status = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready}
    return {"metadata": {"name": name, "generation": 1}, "spec": {"replicas": wanted}, "status": status}


def test_every_workload_says_what_it_waits_for(api: Api, served: Served) -> None:
    for namespace in NAMESPACES:
        served.objects |= {DEPLOYMENTS.format(namespace): {"items": []}, MEMBERS.format(namespace): {"items": []}}
    served.objects[MEMBERS.format("data")] = {"items": [_set("postgres", 3, 3), _set("minio", 1, 0)]}
    waits = "StatefulSet minio: 0 of 1 ready, 1 of them as applied"
    assert namespaces.workloads(api) == {"data/postgres": "", "data/minio": waits}


def test_they_are_deleted_and_waited_for(api: Api, served: Served, programs: Programs, kubeconfig: str) -> None:
    kubectl, said = Kubectl(programs.folder, kubeconfig, "testbed"), list[str]()
    served.objects["/api/v1/namespaces/data"] = [{}, {}, 404]
    namespaces.delete(kubectl, api, VirtualClock(), said.append)
    assert [one["metadata"]["name"] for one in programs.objects()] == list(NAMESPACES)
    assert said == ["namespace data is going"]


def test_one_that_does_not_go_is_named(api: Api, served: Served, programs: Programs, kubeconfig: str) -> None:
    served.objects["/api/v1/namespaces/data"] = {}
    with pytest.raises(UndoIncomplete, match="namespaces data are not gone within 300 s; see their finalizers"):
        namespaces.delete(Kubectl(programs.folder, kubeconfig, "testbed"), api, VirtualClock(), lambda _: None)


def test_users_get_key_authority_and_images(tmp_path: Path) -> None:
    where = Place(tmp_path, "", "testbed", "dev")
    where.write()
    held = [
        {"metadata": {"namespace": "monitoring", "name": name}, "data": {key: base64.b64encode(value.encode()).decode()}}
        for name, key, value in (("authority", "ca.crt", "pem\n"), ("drills", "api-key", "key"), ("other", "x", "y"))
    ]
    namespaces.hand_out(where, held)
    assert where.ca_file.read_text() == "pem\n"
    assert where.api_key_file.read_text() == "key"
    assert where.api_key_file.stat().st_mode & 0o077 == 0
    assert any(where.bodies.iterdir())
