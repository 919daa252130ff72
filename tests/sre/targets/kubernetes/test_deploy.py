"""Beginning and ending, as far as no whole system is needed."""

from __future__ import annotations

import base64
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from sre.config import PROJECT
from sre.errors import CannotRun, StepFailed, TargetUnavailable, UsageError
from sre.targets.kubernetes import deploy, off_site
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.place import Place, read
from sre.targets.kubernetes.velero_install import Store
from sre.targets.simulation import VirtualClock
from tests.sre.targets.kubernetes.conftest import Served

JOBS = "/apis/batch/v1/namespaces/{}/jobs"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
MEMBERS = "/apis/apps/v1/namespaces/{}/statefulsets"


def _object(kind: str, name: str, namespace: str = "data") -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace, "generation": 1}}


def _listed(*things: tuple[str, int, int]) -> dict[str, Any]:
    """What the API lists: name, wanted and ready replicas of each; it leaves out the kind."""
    return {
        "items": [
            {
                "metadata": {"name": name, "namespace": "data", "generation": 1},
                "spec": {"replicas": wanted},
                "status": {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready},
            }
            for name, wanted, ready in things
        ]
    }


@pytest.mark.parametrize(("context", "typed"), [("testbed", None), ("eu-Prod-1", "eu-Prod-1"), ("testbed", "other")])
def test_a_context_may_be_changed(context: str, typed: str | None) -> None:
    deploy.check_context(context, typed)


@pytest.mark.parametrize("typed", [None, "prod", "eu-prod-1"])
def test_a_context_that_looks_like_production_wants_its_own_name(typed: str | None) -> None:
    with pytest.raises(UsageError, match="'eu-Prod-1' looks like production; add --yes-i-mean eu-Prod-1"):
        deploy.check_context("eu-Prod-1", typed)


def test_waiting_ends_when_everything_runs_and_tells_of_changes_once(api: Api, served: Served) -> None:
    served.objects |= {
        DEPLOYMENTS.format("data"): [_listed(("mlflow", 1, 0)), _listed(("mlflow", 1, 0)), _listed(("mlflow", 1, 1))],
        MEMBERS.format("data"): [_listed(("postgres", 3, 2), ("other", 9, 0)), _listed(("postgres", 3, 3))],
        JOBS.format("data"): {"items": []},
    }
    objects = [
        _object("Deployment", "mlflow"),
        _object("StatefulSet", "postgres"),
        _object("Job", "buckets"),
        _object("Role", "r"),
    ]
    clock, said = VirtualClock(), list[str]()
    deploy.wait_until_all_run(api, objects, clock, said.append)
    assert said == [
        "Deployment mlflow: 0 of 1 ready, 1 of them as applied",
        "StatefulSet postgres: 2 of 3 ready, 3 of them as applied",
    ]


def test_waiting_has_a_deadline_and_says_what_it_last_saw(api: Api, served: Served) -> None:
    served.objects[DEPLOYMENTS.format("data")] = _listed(("mlflow", 1, 0))
    objects = [_object("Deployment", "mlflow"), _object("Deployment", "gone")]
    with pytest.raises(StepFailed, match=r"within 900 s \(last seen: Deployment gone is not there; Deployment mlflow: 0 of 1"):
        deploy.wait_until_all_run(api, objects, VirtualClock(), lambda _: None)


def test_waiting_ends_at_once_when_a_job_has_given_up(api: Api, served: Served) -> None:
    failed = {"conditions": [{"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}]}
    served.objects[JOBS.format("data")] = {
        "items": [{"metadata": _object("", "migrate")["metadata"], "spec": {}, "status": failed}]
    }
    clock = VirtualClock()
    begin = clock.now()
    with pytest.raises(CannotRun, match="Job migrate failed"):
        deploy.wait_until_all_run(api, [_object("Job", "migrate")], clock, lambda _: None)
    assert clock.now() == begin


def test_images_are_built_one_by_one_by_the_command_that_is_set(tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + chr(10))"
    said = list[str]()
    deploy.build(f'{sys.executable} -c "{script}" {note} {{tag}} {{dockerfile}} {{context}}', said.append)
    lines = [line.split() for line in note.read_text().splitlines()]
    assert {tag for tag, _, _ in lines} >= {"localhost/ml-sre/api:dev", "localhost/ml-sre/postgres:dev"}
    assert all(Path(dockerfile).is_file() and (Path(context) / "k8s").is_dir() for _, dockerfile, context in lines)
    assert said == [f"image {tag}" for tag, _, _ in lines]


@pytest.mark.parametrize(
    ("template", "error", "words"),
    [
        ("false {tag}", CannotRun, "localhost/ml-sre/alertmanager:dev cannot be built"),
        ("/nowhere/builder {tag}", CannotRun, r"cannot be built: .*; correct SRE_IMAGE_BUILD or take --images registry"),
        ("true {image}", UsageError, r"SRE_IMAGE_BUILD is .* it knows \{tag\}, \{dockerfile\}, \{context\}"),
        ("true '{tag}", UsageError, "No closing quotation"),
    ],
)
def test_a_build_that_cannot_be_is_an_error(template: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        deploy.build(template, lambda _: None)


def test_an_unknown_overlay_is_named_before_anything_is_changed(api: Api, tmp_path: Path) -> None:
    where = Place(tmp_path, "config", "testbed", "other")
    with pytest.raises(UsageError, match="overlay 'other' does not exist; there are dev, prod, staging"):
        deploy.up(where, tmp_path, api, lambda _: None)
    assert not where.folder.exists()


def _secret(namespace: str, name: str, **values: str) -> dict[str, Any]:
    data = {
        key.replace("_", "-").replace("ca-crt", "ca.crt"): base64.b64encode(value.encode()).decode()
        for key, value in values.items()
    }
    return {"metadata": {"namespace": namespace, "name": name}, "data": data}


def test_a_system_that_runs_is_joined_and_nothing_of_it_changed(api: Api, served: Served, place: Place) -> None:
    shutil.rmtree(place.folder)
    with pytest.raises(TargetUnavailable, match="has nothing at /api/v1/namespaces/monitoring/secrets/drills"):
        deploy.join(place, api)
    assert not place.folder.exists()
    served.objects |= {
        "/api/v1/namespaces/monitoring/secrets/drills": _secret("monitoring", "drills", api_key="k"),
        "/api/v1/namespaces/monitoring/secrets/authority": _secret("monitoring", "authority", ca_crt="pem"),
    }
    deploy.join(place, api)
    assert (place.api_key_file.read_text(), place.ca_file.read_text()) == ("k", "pem")
    assert place.api_key_file.stat().st_mode & 0o777 == 0o600
    assert read(place.home) == place
    assert any(place.bodies.rglob("*.jpg"))
    assert served.changes == []


def test_a_pod_joins_with_its_own_account(served: Served, tmp_path: Path) -> None:
    text = (PROJECT / "k8s" / "components" / "fault-drills" / "kubeconfig").read_text(encoding="utf-8")
    (tmp_path / "token").write_text("of the pod")
    (tmp_path / "ca.crt").write_text("")
    mounted, file = "/var/run/secrets/kubernetes.io/serviceaccount", tmp_path / "kubeconfig"
    assert text.count(mounted) == 2
    file.write_text(
        text.replace(mounted, str(tmp_path)).replace("https://kubernetes.default.svc", f"http://127.0.0.1:{served.server_port}")
    )
    served.objects["/version"] = {"gitVersion": "v1.36.0"}
    for context in ("staging", "prod"):
        pod = Api(str(file), context)
        assert pod.get("/version") == {"gitVersion": "v1.36.0"}
        assert pod.context == context
    assert served.authorizations == ["Bearer of the pod"] * 2
    with pytest.raises(UsageError, match="add --yes-i-mean prod"):
        deploy.check_context(pod.context, None)


def _postgres() -> dict[str, Any]:
    template = {"metadata": {"annotations": {"kept": "yes"}}, "spec": {}}
    return {**_object("StatefulSet", "postgres"), "spec": {"template": template}}


def test_the_database_gets_a_second_repository_with_the_policy_that_lets_it_out(tmp_path: Path, store: Store) -> None:
    objects, made = [_postgres(), _object("NetworkPolicy", "default-deny")], list[Any]()
    with_it = deploy._with_second_repository(objects, made, [_second()], store)
    assert [one["metadata"]["name"] for one in made] == [off_site.NAME]
    assert [(one["kind"], one["metadata"]["name"]) for one in with_it[2:]] == [("NetworkPolicy", off_site.NAME)]
    annotations = with_it[0]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["kept"] == "yes"
    assert annotations[off_site.DIGEST]
    assert objects[0]["spec"]["template"]["metadata"]["annotations"] == {"kept": "yes"}
    # Without policies everything is open, and one would close the rest.
    assert len(deploy._with_second_repository([_postgres()], [], [_second()], store)) == 1


def test_a_repository_that_is_there_stays_when_nothing_is_said_of_it(store: Store) -> None:
    said = deploy._with_second_repository([_postgres()], [], [off_site.secret(store, [_second()])], store)
    unsaid = deploy._with_second_repository([_postgres()], [], [off_site.secret(store, [_second()])], None)
    assert unsaid == said
    assert deploy._with_second_repository([_postgres()], [], [], None) == [_postgres()]


def test_nothing_is_begun_while_the_store_cannot_be_looked_at(store: Store) -> None:
    with pytest.raises(CannotRun, match="the store outside the cluster cannot be looked at"):
        deploy._with_second_repository([_postgres()], [], [], store)


def _second() -> dict[str, Any]:
    password = base64.b64encode(b"kept").decode()
    return {"metadata": {"namespace": "data", "name": off_site.NAME}, "data": {"PGBACKREST_REPO2_CIPHER_PASS": password}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """At which nobody listens."""
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    return Store("https://127.0.0.1:9", "ml-off-site", keys)
