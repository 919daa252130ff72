from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sre.errors import CannotRun, StepFailed, UsageError
from sre.targets.kubernetes import velero_install
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.velero_install import Store
from tests.sre.targets.kubernetes.conftest import Served
from tests.sre.targets.kubernetes.programs import Programs

Install = Callable[[Store], list[str]]

PLACE = "/api/v1/namespaces/velero"
URL = "https://10.77.0.1:9000"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "keys").write_text("[default]\n")
    (tmp_path / "ca.pem").write_text("pem")
    return Store(URL, "ml-velero", tmp_path / "keys", tmp_path / "ca.pem")


@pytest.fixture
def install(programs: Programs, api: Api) -> Install:
    def installed(store: Store) -> list[str]:
        said = list[str]()
        velero_install.install(programs.folder, "", api, store, said.append)
        return said

    return installed


@pytest.fixture
def uninstall(programs: Programs, api: Api) -> Callable[[], None]:
    return lambda: velero_install.uninstall(programs.folder, "", api, lambda _: None)


def test_velero_gets_a_store_outside_the_cluster_and_less_than_every_right(
    install: Install, programs: Programs, store: Store
) -> None:
    assert install(store) == [f"velero: velero/velero:v1.18.3 with store {URL}/ml-velero"]
    (call,) = programs.calls("velero")
    for part in (
        " install --provider=aws ", "--bucket=ml-velero", f"--secret-file={store.credentials}", f"--cacert={store.authority}",
        "--service-account-name=velero", "--use-node-agent", "--node-agent-configmap=node-agents", "--use-volume-snapshots=false",
        "--apply --wait",
        f"--backup-location-config=region=minio,s3ForcePathStyle=true,s3Url={URL},checksumAlgorithm=",
        "--plugins=velero/velero-plugin-for-aws:v1.14.3",
    ):  # fmt: skip
        assert part in call
    kinds = [one["kind"] for one in programs.objects()]
    assert kinds == ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", *["Schedule"] * 3]
    agents = json.loads(programs.objects()[4]["data"]["agents.json"])
    assert (agents["loadConcurrency"], agents["podResources"]["cpuLimit"]) == ({"globalConfig": 1}, "500m")
    (rule,) = programs.objects()[2]["rules"]
    assert not {"escalate", "bind", "impersonate", "*"} & set(rule["verbs"])


def test_a_store_of_a_known_authority_needs_no_file_for_it(install: Install, programs: Programs, store: Store) -> None:
    install(Store(URL, "b", store.credentials))
    assert "--cacert" not in programs.calls("velero")[0]


def test_a_file_that_is_not_there_is_named_before_anything_is_changed(install: Install, programs: Programs, store: Store) -> None:
    store.credentials.unlink()
    with pytest.raises(UsageError, match="keys does not exist; see SRE_VELERO_CREDENTIALS"):
        install(store)
    assert programs.calls("velero") == programs.calls("kubectl") == []


def test_no_schedule_is_made_where_velero_is_not(install: Install, programs: Programs, store: Store) -> None:
    programs.answer("install", "no image", code=1)
    with pytest.raises(StepFailed, match="velero install failed: no image"):
        install(store)
    assert "Schedule" not in {one["kind"] for one in programs.objects()}


def test_the_schedules_are_those_of_the_manifests() -> None:
    assert [one["metadata"]["name"] for one in velero_install.schedules()] == ["ml-daily", "ml-weekly", "ml-monthly"]


def test_a_velero_of_somebody_else_is_neither_changed_nor_taken_away(
    install: Install, uninstall: Callable[[], None], programs: Programs, store: Store, served: Served
) -> None:
    served.objects[PLACE] = {"metadata": {"name": "velero", "labels": {"component": "velero"}}}
    with pytest.raises(CannotRun, match="namespace velero is somebody else's; unset SRE_VELERO_URL"):
        install(store)
    uninstall()
    assert programs.calls("velero") == programs.calls("kubectl") == []


def test_what_was_installed_is_taken_away_and_where_it_is_gone_nothing(
    install: Install, uninstall: Callable[[], None], programs: Programs, store: Store, served: Served
) -> None:
    install(store)
    served.objects[PLACE] = programs.objects()[0]
    install(store)
    made = len(programs.objects())
    uninstall()
    assert programs.calls("velero")[-1].endswith("uninstall --force --wait")
    assert [one["kind"] for one in programs.objects()[made:]] == [
        "Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding",
    ]  # fmt: skip
    del served.objects[PLACE]
    called = len(programs.calls("velero"))
    uninstall()
    assert len(programs.calls("velero")) == called
