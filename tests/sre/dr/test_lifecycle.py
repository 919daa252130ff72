from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sre.dr import backup_plan, lifecycle
from sre.dr.lifecycle import Verb, apply, due, objects, reading, s3, thaw
from sre.errors import CannotRun, StepFailed

BUCKETS = backup_plan.load().buckets
DAY = 86_400.0
NOW = 1_800_000_000.0
STAGED, DATA, MODEL = (
    "ml-models-staging/digits/3/model.onnx",
    "ml-datasets/digits/one.npz",
    "ml-models-production/digits/1/model.onnx",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


def put(root: Path, name: str, days: float, content: bytes = b"content " * 100) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return path


def read(root: Path, name: str) -> bytes:
    with reading(objects(root)[name]) as file:
        return file.read()


def run(root: Path, now: float = NOW, named: frozenset[str] = frozenset()) -> list[tuple[Verb, str]]:
    actions = due(root, BUCKETS, now, named)
    apply(root, actions, now)
    return [(action.verb, f"{action.bucket}/{action.path}") for action in actions]


def test_objects_are_listed_without_backups_and_unfinished_ones(root: Path) -> None:
    for name in (STAGED, DATA, "ml-backups/objects/aa/one", "ml-datasets/digits/.upload-x", "ml-datasets/.versions/a/b", "loose"):
        put(root, name, 1)
    put(root, "ml-datasets/.cold/.part-x.gz", 1)
    assert list(objects(root)) == [DATA, STAGED]


def test_young_objects_stay(root: Path) -> None:
    put(root, STAGED, 29.9)
    put(root, DATA, 89.9)
    put(root, MODEL, 5000)
    put(root, "ml-backups/objects/aa/one", 5000)
    assert run(root) == []
    assert len(objects(root)) == 3


def test_a_dry_run_changes_nothing(root: Path) -> None:
    put(root, STAGED, 31)
    put(root, DATA, 91)
    actions = due(root, BUCKETS, NOW)
    assert [action.line() for action in actions] == [
        f"freeze  {DATA}  91.0 days old",
        f"expire  {STAGED}  31.0 days old",
    ]
    assert due(root, BUCKETS, NOW) == actions


def test_an_expired_object_is_a_version_for_a_while(root: Path) -> None:
    put(root, STAGED, 31, b"old")
    assert run(root) == [(Verb.EXPIRE, STAGED)]
    assert not objects(root)
    version = next((root / "ml-models-staging/.versions/digits/3/model.onnx").iterdir())
    assert version.read_bytes() == b"old"
    assert version.name == "20270115T080000.000000Z"
    assert run(root, NOW + 29.9 * DAY) == []
    assert run(root, NOW + 30.1 * DAY) == [(Verb.FORGET, f"ml-models-staging/.versions/digits/3/model.onnx/{version.name}")]
    assert not version.exists()


def test_what_an_alias_names_never_expires(root: Path) -> None:
    put(root, STAGED, 5000)
    assert run(root, named=frozenset({STAGED})) == []
    assert run(root, named=frozenset({f"{STAGED}x"})) == [(Verb.EXPIRE, STAGED)]


def test_versions_of_production_are_never_forgotten(root: Path) -> None:
    path = put(root, MODEL, 1)
    lifecycle.keep_version(root / "ml-models-production", path, NOW)
    assert run(root, NOW + 5000 * DAY) == []
    put(root, "ml-datasets/.versions/digits/one.npz/notes.txt", 5000)
    assert run(root) == []


def test_a_cold_object_is_read_as_before(root: Path) -> None:
    put(root, DATA, 91)
    assert run(root) == [(Verb.FREEZE, DATA)]
    cold = root / "ml-datasets/.cold/digits/one.npz.gz"
    assert cold.stat().st_size < 800
    assert cold.stat().st_mtime == NOW - 91 * DAY  # as old as before
    assert objects(root) == {DATA: cold}
    assert read(root, DATA) == b"content " * 100
    assert run(root, NOW + 5000 * DAY) == []
    thaw(root, DATA)
    thaw(root, DATA)
    assert objects(root) == {DATA: root / DATA}
    assert read(root, DATA) == b"content " * 100
    assert (root / DATA).stat().st_mtime > NOW - 91 * DAY
    with pytest.raises(CannotRun, match="object ml-datasets/none does not exist"):
        thaw(root, "ml-datasets/none")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_cold_object_is_told_and_left(root: Path, damage: str) -> None:
    put(root, DATA, 91)
    run(root)
    cold = objects(root)[DATA]
    data = bytearray(cold.read_bytes())
    data[-6] ^= 1
    cold.write_bytes(data[:-4] if damage == "cut" else data)
    with pytest.raises(StepFailed, match=f"cold object {DATA} is damaged"):
        thaw(root, DATA)
    assert cold.exists()
    assert not (root / DATA).exists()
    assert not list((root / "ml-datasets").rglob(".part-*"))


def test_a_freeze_cut_short_is_done_again(root: Path) -> None:
    put(root, DATA, 91)
    put(root, "ml-datasets/.cold/digits/one.npz.gz", 91, b"not whole")
    assert read(root, DATA) == b"content " * 100
    run(root)
    assert read(root, DATA) == b"content " * 100


def test_a_cold_object_under_a_new_one_does_not_come_back(root: Path) -> None:
    put(root, DATA, 91, b"old")
    run(root)
    new = put(root, DATA, 0, b"new")
    assert read(root, DATA) == b"new"
    assert run(root) == [(Verb.EXPIRE, "ml-datasets/.cold/digits/one.npz.gz")]
    new.unlink()
    assert not objects(root)
    assert [path.name for path in (root / "ml-datasets/.versions").rglob("*.gz")] == ["20270115T080000.000000Z.gz"]


def test_an_object_written_anew_meanwhile_is_left(root: Path) -> None:
    put(root, STAGED, 31)
    put(root, DATA, 91)
    actions = due(root, BUCKETS, NOW)
    put(root, STAGED, 0, b"new")
    (root / DATA).unlink()
    apply(root, actions, NOW)
    assert read(root, STAGED) == b"new"


def test_a_bucket_without_a_rule_is_left(root: Path) -> None:
    put(root, "letters/one", 5000)
    assert run(root) == []


def test_the_rules_for_s3() -> None:
    rules = s3(BUCKETS)
    assert rules["ml-models-production"] == {}
    assert rules["ml-models-staging"] == {
        "Rules": [
            {
                "ID": "expire", "Status": "Enabled", "Filter": {"Tag": {"Key": "named-by-registry", "Value": "no"}},
                "Expiration": {"Days": 30},
            },
            {
                "ID": "versions", "Status": "Enabled", "Filter": {"Prefix": ""},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
            },
        ]
    }  # fmt: skip
    assert rules["ml-datasets"]["Rules"][0]["Transitions"] == [{"Days": 90, "StorageClass": "GLACIER_IR"}]
    assert [rule["ID"] for rule in rules["ml-backups"]["Rules"]] == ["versions"]


def test_s3_never_deletes_early() -> None:
    rule = BUCKETS["ml-models-staging"].model_copy(update={"expire_after": 30.5 * DAY})
    assert s3({"ml-models-staging": rule})["ml-models-staging"]["Rules"][0]["Expiration"] == {"Days": 31}


def test_a_wrong_compression_leaves_the_object(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(root, DATA, 91)
    action = replace(due(root, BUCKETS, NOW)[0])
    other = put(root, "ml-datasets/other", 0, b"something else")
    monkeypatch.setattr(lifecycle, "reading", lambda _: other.open("rb"))
    with pytest.raises(StepFailed, match="was compressed wrongly"):
        apply(root, [action], NOW)
    assert path.exists()
