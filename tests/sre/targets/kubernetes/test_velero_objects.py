from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from sre.judges.manifests.objects import Manifests
from sre.judges.manifests.pods import RULES
from sre.targets.kubernetes import velero_objects as objects

SUMS = "aa  ./rows\nbb  ./a  b\n"
STATS = "600|1:1|regular file|./rows\n644|1:1|regular empty file|./a  b\n777|1:1|symbolic link|./link\n755|1:1|directory|.\n"
LINKS = "./link -> ./rows\n"


def test_what_a_look_wrote_is_understood() -> None:
    assert objects.parsed(f"{SUMS}--\n{STATS}--\n{LINKS}") == {
        "./rows": "file 1:1 600 aa",
        "./a  b": "empty file 1:1 644 bb",
        "./link": "symbolic link 1:1 ./rows",
        ".": "directory 1:1 755",
    }
    assert objects.parsed("--\n--\n") == {}


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", "nothing"),
        ("sh: find: not found", "find: not found"),
        (f"{SUMS}--\n{STATS}", "rows"),
        (f"{SUMS}--\nfind: ./x: Permission denied\n--\n", "Permission denied"),
        (f"{SUMS}--\n--\n", "./a  b"),
        (f"--\n{STATS}--\nodd", "odd"),
    ],
)
def test_what_is_not_understood_is_no_file_that_is_missing(output: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        objects.parsed(output)


def test_the_scripts_write_and_read_files_of_every_kind(tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", objects.FILL, "sh", str(tmp_path), "keeper-0"], check=True)
    (tmp_path / ".velero").mkdir()
    (tmp_path / ".velero" / "done").touch()

    def look() -> dict[str, str]:
        done = subprocess.run(["sh", "-c", objects.LOOK, "sh", str(tmp_path)], capture_output=True, text=True, check=True)
        return objects.parsed(done.stdout)

    found = look()
    assert {path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()} >= {0, 1024, 5 * 2**20 + 1, 12 * 2**20}
    assert len(found) == 10
    assert not any(".velero" in path for path in found)
    assert found["./link"].endswith(" deep/a-part-and-a-byte")
    assert look() == found
    small = tmp_path / "small"
    small.write_bytes(bytes(reversed(small.read_bytes())))
    again = look()
    assert {path for path in found if found[path] != again[path]} == {"./small"}
    small.chmod(0o640)
    assert again["./small"] != look()["./small"]


def test_a_volume_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for script in (objects.LOOK, objects.FILL):
        done = subprocess.run(["sh", "-c", script, "sh", str(tmp_path / "none"), "x"], capture_output=True, check=False)
        assert done.returncode != 0


def test_the_sample_lives_under_the_rules_of_the_system() -> None:
    made = objects.sample("place")
    assert made[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"].get("namespace", "place") for one in made} == {"place"}
    # It is gone long before a node can be lost.
    found = {rule for rule, look in RULES.items() if list(look(Manifests(tuple(made))))}
    assert found == {"no-node-loss-toleration"}


def test_restored_pods_are_kept_off_their_nodes_and_their_volumes_go_along() -> None:
    made = objects.modifier("drill", "velero", {"db-0": "node1", "db-1": "node2"})
    assert made["metadata"] == {"name": "drill", "namespace": "velero"}
    (text,) = made["data"].values()
    rules = yaml.safe_load(text)["resourceModifierRules"]
    assert [rule["conditions"] for rule in rules] == [
        {"groupResource": "pods", "resourceNameRegex": "^db-0$"},
        {"groupResource": "pods", "resourceNameRegex": "^db-1$"},
        {"groupResource": "persistentvolumeclaims"},
    ]
    patch = json.loads(rules[1]["mergePatches"][0]["patchData"])
    required = patch["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["node2"]
    assert json.loads(rules[2]["mergePatches"][0]["patchData"]) == {
        "metadata": {"annotations": {"volume.kubernetes.io/selected-node": None}}
    }


def test_a_digest_is_of_what_an_object_says() -> None:
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "1"}, "data": {"x": "1", "y": "2"}}
    same = {"data": {"y": "2", "x": "1"}, "metadata": {"name": "a", "uid": "2"}, "status": {"phase": "Bound"}}
    assert objects.digest(thing) == objects.digest(same)
    assert objects.digest(thing) != objects.digest({**thing, "data": {"x": "1", "y": "3"}})


def test_an_object_is_kept_with_no_more_than_is_read() -> None:
    metadata = {"name": "a", "namespace": "b", "creationTimestamp": "t", "managedFields": []}
    conditions = [{"type": "Ready", "status": "True"}]
    pod = {"metadata": metadata, "spec": {"nodeName": "n", "volumes": [], "containers": []}, "status": {"conditions": conditions}}
    assert objects.brief(pod) == {
        "metadata": {"name": "a", "namespace": "b", "creationTimestamp": "t"},
        "spec": {"nodeName": "n", "volumes": []},
        "status": {"phase": "", "ready": True},
    }
    assert objects.brief({"metadata": {"name": "v"}, "spec": {"hostPath": {}}})["spec"] == {"hostPath": {}}


def test_results_become_sentences() -> None:
    results = {"warnings": {"velero": ["a"], "namespaces": {"n": ["b", "c"], "m": None}}, "errors": {}}
    assert objects.sentences(results) == {"errors": [], "warnings": ["a", "b", "c"]}
    assert objects.download("d", "velero", "RestoreResults", "r")["spec"] == {"target": {"kind": "RestoreResults", "name": "r"}}
