"""Each way in which a rebuilt cluster is not the one that was lost is found and named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from sre.judges import rebuild, velero
from sre.judges.loss import Reach
from sre.judges.manifests.objects import Finding
from sre.judges.ruling import told
from tests.sre.judges.velero_objects import backup, claim, moved, of_claim, pod
from tests.sre.judges.velero_objects import restore as restored

ITEMS = {"configmaps/data/a": "1", "secrets/data/s": "2", "deployments.apps/data/d": "3", "pods/data/db-0": "4"}
BUT_ONE = {key: digest for key, digest in ITEMS.items() if key != "secrets/data/s"}
OBJECTS = {"ml-models-production/m": "aa", "ml-backups/pgbackrest/archive/ml/archive.info": "bb"}
WHOLE = Reach(disaster_at=10.0, until=9.0, gaps=0, acked=5)
LEFT_OUT = {velero.LEFT_OUT: "tmp,data"}


def taken(**changes: Any) -> dict[str, Any]:
    living = {"items": ITEMS, "pods": [pod("db-0", of_claim("data-db-0"))], "claims": [claim("data-db-0")], "volumes": []}
    made = [moved("db-0", claim="data-db-0")]
    return {
        "backup": backup(), "late": "", "words": {}, "made": made, "before": living, "after": living, "archived": ITEMS,
        **changes,
    }  # fmt: skip


def brought(**changes: Any) -> dict[str, Any]:
    return {"restore": restored(), "late": "", "words": {}, "brought": [moved("db-0", snapshotID="")], **changes}


def annotated(name: str, annotations: dict[str, str]) -> dict[str, Any]:
    living = taken()["after"]
    one = pod(name, of_claim(f"data-{name}"))
    one["metadata"]["annotations"] = annotations
    return {**living, "pods": [one], "claims": [claim(f"data-{name}")]}


def rules(found: Iterable[Finding]) -> list[str]:
    return [finding.rule for finding in found]


def test_what_is_whole_is_not_called_damaged() -> None:
    assert rules(rebuild.backup(taken(), {})) == []
    assert rules(rebuild.restore(taken(), brought(), ITEMS)) == []
    assert rules(rebuild.objects(OBJECTS, OBJECTS, OBJECTS)) == []
    assert rules(rebuild.rows(WHOLE)) == []
    assert rules(rebuild.prediction({"recorded": "3f", "repeated": "3f", "why": ""})) == []


def test_a_databases_volume_is_left_out_only_where_its_own_backup_is_known() -> None:
    bare = taken(after=annotated("db-0", LEFT_OUT), made=[])
    assert rules(rebuild.backup(bare, {"data/db-0": "repository 2 holds b"})) == []
    assert rules(rebuild.backup(bare, {})) == ["volume-missing"]


@pytest.mark.parametrize("annotations", [LEFT_OUT, {velero.LEFT_OUT: "data"}])
def test_the_same_annotation_on_another_pod_excuses_nothing(annotations: dict[str, str]) -> None:
    found = list(rebuild.backup(taken(after=annotated("minio-0", annotations), made=[]), {"data/db-0": "repository 2 holds b"}))
    assert [told(one) for one in found] == [
        "volume-missing: data/data-minio-0 has no pod volume backup, though pod minio-0 mounts it"
    ]


@pytest.mark.parametrize("annotations", [{}, {velero.LEFT_OUT: "tmp"}])
def test_a_volume_that_no_annotation_leaves_out_was_forgotten(annotations: dict[str, str]) -> None:
    bare = taken(after=annotated("db-0", annotations), made=[])
    assert rules(rebuild.backup(bare, {"data/db-0": "repository 2 holds b"})) == ["volume-missing"]


SABOTAGE: list[tuple[str, Iterable[Finding], str]] = [
    ("backup-late", rebuild.backup(taken(late="the end of it not within 9 s"), {}), "the end of it"),
    ("backup-phase", rebuild.backup(taken(backup=backup(phase="PartiallyFailed")), {}), "PartiallyFailed"),
    ("archive-unreadable", rebuild.backup(taken(archived={"trouble": "gone"}), {}), "archive gone"),
    ("item-missing", rebuild.backup(taken(archived=BUT_ONE), {}), "secrets/data/s lives"),
    ("item-altered", rebuild.backup(taken(archived={**ITEMS, "secrets/data/s": "9"}), {}), "secrets/data/s"),
    ("restore-late", rebuild.restore(taken(), brought(late="x"), ITEMS), "restore x"),
    ("restore-phase", rebuild.restore(taken(), brought(restore=restored("PartiallyFailed")), ITEMS), "PartiallyFailed"),
    ("restore-volume-missing", rebuild.restore(taken(), brought(brought=[]), ITEMS), "has no pod volume restore"),
    (
        "item-not-restored",
        rebuild.restore(taken(), brought(), {"configmaps/data/a": "1", "deployments.apps/data/d": "3"}),
        "s/data/s",
    ),
    ("item-restored-altered", rebuild.restore(taken(), brought(), {**ITEMS, "secrets/data/s": "9"}), "secrets/data/s"),
    ("object-lost", rebuild.objects(OBJECTS, OBJECTS, {}), "ml-models-production/m is not in the rebuilt store"),
    ("object-altered", rebuild.objects(OBJECTS, OBJECTS, {"ml-models-production/m": "ab"}), "was aa, is ab"),
    ("rows-differ", rebuild.rows(replace(WHOLE, gaps=3)), "3 are lost, invented, doubled or altered"),
    ("prediction-differs", rebuild.prediction({"recorded": "3f", "repeated": "3e", "why": ""}), "it has other bits"),
    ("prediction-differs", rebuild.prediction({"recorded": None, "repeated": None, "why": "not in the log"}), "not in the log"),
    ("prediction-differs", rebuild.prediction({"recorded": "3f", "repeated": None, "why": "503"}), "503"),
]


@pytest.mark.parametrize(("rule", "look", "words"), SABOTAGE, ids=[f"{number}-{row[0]}" for number, row in enumerate(SABOTAGE)])
def test_sabotage_is_found_and_named(rule: str, look: Iterable[Finding], words: str) -> None:
    (found,) = [finding for finding in look if finding.rule == rule]
    assert words in told(found)


@pytest.mark.parametrize("key", ["deployments.apps/data/d", "configmaps/data/kube-root-ca.crt"])
def test_what_the_new_cluster_decides_must_be_there_in_its_own_way(key: str) -> None:
    archived = ITEMS | {key: "3"}
    assert rules(rebuild.restore(taken(archived=archived), brought(), archived | {key: "other"})) == []
    there = {one: digest for one, digest in archived.items() if one != key}
    assert rules(rebuild.restore(taken(archived=archived), brought(), there)) == ["item-not-restored"]


def test_what_changes_by_itself_is_no_damage() -> None:
    after = {**ITEMS, "deployments.apps/data/d": "8", "pods/data/new": "1"}
    assert rules(rebuild.restore(taken(), brought(), after)) == []
    passing = taken(archived={**ITEMS, "pods/data/short": "1"})
    assert rules(rebuild.backup(passing, {})) == []
    # Written anew with each backup, or after the first look.
    assert rebuild.judged(OBJECTS, {**OBJECTS, "ml-datasets/new": "c"}) == ["ml-models-production/m"]
    assert rebuild.judged(OBJECTS, {**OBJECTS, "ml-models-production/m": "ab"}) == []
