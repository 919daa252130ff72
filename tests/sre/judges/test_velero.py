"""Each kind of sabotage is found and named; what is whole is not called damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from sre.judges import velero
from sre.judges.manifests.objects import Finding
from sre.judges.ruling import told
from tests.sre.judges.velero_objects import (
    LONG_AGO,
    NOW,
    backup,
    claim,
    location,
    moved,
    of_claim,
    pod,
    restore,
    schedule,
    scheduled,
    schedules,
)

INTO = {"data": "copy"}
PODS = [pod("db-0", of_claim("data-db-0"), {"name": "tmp", "emptyDir": {}}, {"name": "s", "secret": {}}), pod("web-1")]
CLAIMS = [claim("data-db-0")]
VOLUMES: list[Any] = [{"metadata": {"name": "pv"}, "spec": {}}]
MADE = [moved("db-0", claim="data-db-0")]
BROUGHT = [moved("db-0", place="copy", snapshotID="")]
ITEMS = {"configmaps/data/a": "1", "pods/data/db-0": "2", "services/data/db": "3"}
LIVING = {"configmaps/copy/a": "1", "pods/copy/db-0": "other", "services/copy/db": "other", "events/copy/new": "4"}
FILES = {"data-db-0": {"./rows": "file 600 aa", "./b": "file 600 bb"}}
ENDED = "resource: /pods name: /migrate message: /Skip pod volume tmp error: /name=migrate, phase={}: pod is not running"
WARNING = "could not restore, ConfigMap:kube-root-ca.crt already exists. Warning: the in-cluster version is different"


def rules(found: Iterable[Finding]) -> list[str]:
    return [finding.rule for finding in found]


def changed(name: str, **spec: Any) -> list[Any]:
    there = schedules()
    there[name]["spec"] |= spec
    return list(there.values())


def templated(name: str, **template: Any) -> list[Any]:
    there = schedules()
    there[name]["spec"]["template"] |= template
    return list(there.values())


def without(name: str) -> list[Any]:
    return [one for one in schedules().values() if one["metadata"]["name"] != name]


def of_schedules(found: list[Any], backups: list[Any] | None = None) -> Callable[[], Iterable[Finding]]:
    return lambda: velero.schedules(found, scheduled() if backups is None else backups, NOW)


def stale(name: str) -> list[Any]:
    return [*(one for one in scheduled() if not one["metadata"]["name"].startswith(name)), backup(f"{name}-1", name, at=LONG_AGO)]


def of_volumes(pods: list[Any] = PODS, claims: list[Any] = CLAIMS, volumes: list[Any] = VOLUMES, made: list[Any] = MADE) -> Any:
    return lambda: velero.volumes(pods, claims, volumes, made)


def of_items(before: Any = ITEMS, after: Any = ITEMS, archived: Any = ITEMS) -> Any:
    return lambda: velero.items(before, after, archived)


def of_restore(found: Any, brought: list[Any] = BROUGHT, words: Any = None) -> Any:
    return lambda: velero.restore(found, words or {}, MADE, brought, INTO)


def of_content(after: Any) -> Any:
    return lambda: velero.content(FILES, after)


SABOTAGE: list[tuple[str, Callable[[], Iterable[Finding]], str]] = [
    ("location-missing", lambda: velero.location([]), "install Velero with one"),
    (
        "location-unavailable",
        lambda: velero.location([location("Unavailable", message="InvalidAccessKeyId")]),
        "InvalidAccessKeyId",
    ),
    ("location-unavailable", lambda: velero.location([location("")]), "is not validated yet"),
    ("location-read-only", lambda: velero.location([{**location(), "spec": {"accessMode": "ReadOnly"}}]), "default is read-only"),
    ("schedule-missing", of_schedules(without("ml-weekly")), "ml-weekly does not exist; 4 backups are promised"),
    ("schedule-missing", of_schedules([*without("ml-daily"), schedule("other-daily", "168h")]), "ml-daily does not exist"),
    ("schedule-paused", of_schedules(changed("ml-daily", paused=True)), "ml-daily is paused"),
    ("schedule-ttl", of_schedules(templated("ml-daily", ttl="24h")), "ml-daily keeps its backups for 24 h; 7 of them take 168 h"),
    ("schedule-ttl", of_schedules(templated("ml-monthly", ttl="for ever")), "keeps its backups for 0 h"),
    ("schedule-volumes", of_schedules(templated("ml-daily", defaultVolumesToFsBackup=False)), "leaves the volumes out"),
    (
        "schedule-invalid",
        of_schedules([*without("ml-daily"), {**schedules()["ml-daily"], "status": {"phase": "FailedValidation"}}]),
        "ml-daily is FailedValidation",
    ),
    (
        "backup-stale",
        of_schedules(list(schedules().values()), stale("ml-daily")),
        "ml-daily-1 is the newest of ml-daily and 9,104 h",
    ),
    ("backup-stale", of_schedules(list(schedules().values()), scheduled()[1:]), "ml-daily made no backup in 9,104 h"),
    (
        "backup-phase",
        of_schedules(list(schedules().values()), [*scheduled()[1:], backup("ml-daily-9", "ml-daily", phase="PartiallyFailed")]),
        "ml-daily-9 is PartiallyFailed, and it is the newest of ml-daily",
    ),
    ("backup-missing", lambda: velero.backup(None, {}), "there is none"),
    ("backup-phase", lambda: velero.backup(backup(phase="PartiallyFailed"), {}), "b is PartiallyFailed"),
    ("backup-phase", lambda: velero.backup(backup(phase="Failed", failureReason="no space"), {}), "no space"),
    ("backup-phase", lambda: velero.backup(backup(phase="InProgress"), {}), "b is InProgress"),
    ("backup-errors", lambda: velero.backup(backup(errors=2), {"errors": ["x", "y"]}), "has 2 errors: x; y"),
    ("backup-errors", lambda: velero.backup(backup(errors=2), {}), "has 2 errors: not told"),
    ("backup-warnings", lambda: velero.backup(backup(warnings=1), {}), "has 1 warnings"),
    (
        "backup-items",
        lambda: velero.backup(backup(progress={"itemsBackedUp": 29, "totalItems": 30}), {}),
        "counts 29 of 30 items",
    ),
    ("backup-items", lambda: velero.backup(backup(progress={}), {}), "counts 0 of 0 items"),
    ("backup-hooks", lambda: velero.backup(backup(hookStatus={"hooksFailed": 1}), {}), "1 failed hooks"),
    ("volume-missing", of_volumes(made=[]), "data/data-db-0 has no pod volume backup, though pod db-0 mounts it"),
    ("volume-missing", of_volumes(pods=[*PODS, pod("n", {"name": "v", "nfs": {}})]), "data/n v has no pod volume backup"),
    (
        "volume-missing",
        of_volumes([pod("e", {"name": "v", "ephemeral": {}})], [claim("e-v")], made=[]),
        "data/e-v has no pod volume",
    ),
    (
        "volume-failed",
        of_volumes(made=[moved("db-0", claim="data-db-0", phase="Failed", message="oops")]),
        "data/db-0 data is Failed: oops",
    ),
    ("volume-failed", of_volumes(made=[moved("db-0", claim="data-db-0", snapshotID="")]), "completed without a snapshot"),
    (
        "volume-failed",
        of_volumes(made=[moved("db-0", claim="data-db-0", progress={"bytesDone": 4, "totalBytes": 5})]),
        "moved 4 of 5 bytes",
    ),
    (
        "volume-on-host",
        of_volumes(pods=[*PODS, pod("h", {"name": "v", "hostPath": {"path": "/srv"}})]),
        "data/h v is hostPath /srv",
    ),
    (
        "volume-on-host",
        of_volumes(volumes=[{"metadata": {"name": "pv"}, "spec": {"hostPath": {"path": "/srv"}}}], made=[]),
        "data/data-db-0 lies on a hostPath volume",
    ),
    ("volume-not-mounted", of_volumes(pods=[], made=[]), "is mounted by no pod that runs"),
    (
        "volume-not-mounted",
        of_volumes(pods=[pod("db-0", of_claim("data-db-0"), phase="Pending")], made=[]),
        "by no pod that runs",
    ),
    (
        "item-missing",
        of_items(archived={key: ITEMS[key] for key in list(ITEMS)[1:]}),
        "configmaps/data/a lives and is not in the",
    ),
    ("item-extra", of_items(archived={**ITEMS, "secrets/data/x": "9"}), "secrets/data/x is in the archive and never lived"),
    (
        "item-altered",
        of_items(archived={**ITEMS, "configmaps/data/a": "9"}),
        "configmaps/data/a is not in the archive as it lives",
    ),
    ("restore-missing", of_restore(None), "there is none"),
    ("restore-phase", of_restore(restore("PartiallyFailed")), "r is PartiallyFailed"),
    ("restore-phase", of_restore(restore("FailedValidation", validationErrors=["no backup"])), "FailedValidation: no backup"),
    ("restore-errors", of_restore(restore(errors=1)), "has 1 errors"),
    ("restore-warnings", of_restore(restore(warnings=1)), "r has 1 warnings: not told"),
    ("restore-warnings", of_restore(restore(warnings=2), words={"warnings": [WARNING]}), "has 2 warnings"),
    ("restore-warnings", of_restore(restore(warnings=2), words={"warnings": [WARNING, "Secret x"]}), "has 2 warnings: Secret x"),
    ("restore-items", of_restore(restore(progress={"itemsRestored": 17, "totalItems": 18})), "counts 17 of 18 items"),
    ("restore-volume-missing", of_restore(restore(), []), "data/db-0 data has no pod volume restore"),
    ("restore-volume-failed", of_restore(restore(), [moved("db-0", place="copy", phase="Failed")]), "data/db-0 data is Failed"),
    (
        "item-not-restored",
        lambda: velero.returned(ITEMS, dict(list(LIVING.items())[1:]), INTO),
        "configmaps/copy/a is in the archive",
    ),
    ("item-invented", lambda: velero.returned(ITEMS, {**LIVING, "secrets/copy/x": "1"}, INTO), "secrets/copy/x is there and not"),
    (
        "item-restored-altered",
        lambda: velero.returned(ITEMS, {**LIVING, "configmaps/copy/a": "2"}, INTO),
        "configmaps/copy/a is not",
    ),
    ("volume-empty", of_content({"data-db-0": {}}), "data-db-0 is empty; it held 2 files"),
    ("claim-lost", of_content({}), "data-db-0 holds 2 files"),
    ("claim-invented", of_content({**FILES, "other": {}}), "other holds 0 files"),
    (
        "file-altered",
        of_content({"data-db-0": {**FILES["data-db-0"], "./b": "file 600 bc"}}),
        "./b was file 600 bb, is file 600 bc",
    ),
    ("file-altered", of_content({"data-db-0": {**FILES["data-db-0"], "./b": "file 644 bb"}}), "is file 644 bb"),
    ("file-lost", of_content({"data-db-0": {"./rows": "file 600 aa"}}), "data-db-0 ./b was file 600 bb, is not there"),
    ("file-invented", of_content({"data-db-0": {**FILES["data-db-0"], "./c": "x"}}), "./c was not there, is x"),
    ("pod-same-node", lambda: velero.placement(PODS, PODS), "db-0 came back on node1, where its volume was"),
    ("pod-not-placed", lambda: velero.placement(PODS, []), "db-0 came back on no node"),
]


@pytest.mark.parametrize(("rule", "look", "words"), SABOTAGE, ids=[f"{number}-{row[0]}" for number, row in enumerate(SABOTAGE)])
def test_sabotage_is_found_and_named(rule: str, look: Callable[[], Iterable[Finding]], words: str) -> None:
    found = [finding for finding in look() if finding.rule == rule]
    assert len(found) == 1
    assert words in told(found[0])


def test_there_are_many_kinds_of_sabotage() -> None:
    assert len({rule for rule, _, _ in SABOTAGE}) >= 12


def test_what_is_whole_is_not_called_damaged() -> None:
    assert rules(velero.location([location()])) == []
    assert rules(velero.schedules(list(schedules().values()), scheduled(), NOW)) == []
    assert rules(velero.backup(backup(), {})) == []
    assert rules(velero.volumes(PODS, CLAIMS, VOLUMES, MADE)) == []
    assert rules(velero.items(ITEMS, ITEMS, ITEMS)) == []
    assert rules(velero.restore(restore(), {}, MADE, BROUGHT, INTO)) == []
    assert rules(velero.returned(ITEMS, LIVING, INTO)) == []
    assert rules(velero.content(FILES, FILES)) == []
    assert rules(velero.placement(PODS, [pod("db-0", node="node2")])) == []


def test_the_clusters_own_authority_may_be_there_already() -> None:
    assert rules(velero.restore(restore(warnings=1), {"warnings": [WARNING]}, MADE, BROUGHT, INTO)) == []
    assert rules(velero.backup(backup(warnings=1), {"warnings": [ENDED.format("Succeeded")]})) == []
    assert rules(velero.backup(backup(warnings=1), {"warnings": [ENDED.format("Pending")]})) == ["backup-warnings"]


def test_a_volume_is_in_a_backup_although_its_pod_has_another_name_now() -> None:
    assert rules(velero.volumes([pod("web-9", of_claim("c"))], [claim("c")], VOLUMES, [moved("web-1", claim="c")])) == []


def test_a_young_schedule_need_not_have_made_a_backup() -> None:
    young = [
        {**one, "metadata": {**one["metadata"], "creationTimestamp": "2027-01-15T07:59:00Z"}} for one in schedules().values()
    ]
    assert rules(velero.schedules(young, [], NOW)) == []


def test_what_changed_during_a_backup_may_be_in_it_either_way() -> None:
    after = {**{key: ITEMS[key] for key in list(ITEMS)[1:]}, "pods/data/db-0": "9", "secrets/data/new": "5"}
    assert rules(velero.items(ITEMS, after, {**ITEMS, "secrets/data/new": "5"})) == []
    assert rules(velero.items(ITEMS, after, dict(list(ITEMS.items())[1:]))) == []


def test_what_a_cluster_makes_itself_is_not_compared() -> None:
    own = {"events/data/a": "1", "leases.coordination.k8s.io/data/b": "2"}
    assert rules(velero.items({**ITEMS, **own}, {**ITEMS, **own}, ITEMS)) == []
    assert rules(velero.returned({**ITEMS, **own}, LIVING, INTO)) == []
    assert velero.own({**ITEMS, **own}) == ITEMS


@pytest.mark.parametrize(
    ("text", "seconds"), [("168h", 604_800), ("168h0m0s", 604_800), ("1h30m", 5400), ("90s", 90), ("", 0), ("7d", 0), ("x", 0)]
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert velero.duration_s(text) == seconds
