from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import StepFailed, UndoIncomplete, UsageError
from sre.faults.base import Fault
from sre.faults.database import KINDS, member_named, named, trouble
from sre.faults.ledger import ACTIONS, LEDGER_NAME, WHOLE_WITHIN_S, Ledger
from tests.sre.cluster import ClusterTarget, Manners

WHOM = {kind: "standby" if kind in ("hold-back", "switch-over") else "primary" for kind in KINDS}


@pytest.fixture
def target() -> ClusterTarget:
    return ClusterTarget()


@pytest.mark.parametrize(
    ("kind", "whom", "name", "sentence"),
    [
        ("crash", "primary", "SIGKILL of the database server postgres-1", "wait until the database cluster is whole again"),
        ("freeze", "postgres-3", "SIGSTOP of the database server postgres-3", "let postgres-3 run again"),
        ("lose", "primary", "loss of the host of postgres-1", "start the host of postgres-1 again"),
        ("lose", "standby", "loss of the host of postgres-2", "start the host of postgres-2 again"),
        ("lose-volume", "primary", "loss of the volume of postgres-1", "start the host of postgres-1 again"),
        ("cut", "primary", "pulled cable of postgres-1", "put the cable of postgres-1 back"),
        ("cut", "standby", "pulled cable of postgres-2", "put the cable of postgres-2 back"),
        ("lose-store", "primary, postgres-3", "loss of etcd beside postgres-1 and postgres-3",
         "start etcd beside postgres-1 and postgres-3 again"),
        ("refuse-writes", "primary", "full disk of postgres-1", "give postgres-1 room to write"),
        ("hold-back", "standby", "standby postgres-2 receives no changes", "let postgres-2 catch up"),
        ("switch-over", "standby", "switchover to postgres-2", "wait until the database cluster is whole again"),
    ],
)  # fmt: skip
def test_a_fault_says_what_it_does_and_how_it_ends(target: ClusterTarget, kind: str, whom: str, name: str, sentence: str) -> None:
    fault: Fault = named(target, kind, whom)
    assert fault.name == name
    assert fault.undo.sentence == sentence
    assert fault.undo.action in ACTIONS


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_taken_back_from_the_ledger_alone_however_often(target: ClusterTarget, tmp_path: Path, kind: str) -> None:
    fault = named(target, kind, WHOM[kind])
    ledger = Ledger(tmp_path / LEDGER_NAME)
    ledger.plan(fault.undo)
    fault.inject()
    target.clock.sleep(0.1)
    if kind not in ("hold-back", "refuse-writes"):  # these are seen by those who write
        target.clock.sleep(0.6 if kind == "switch-over" else 0.0)
        assert trouble(target.database) or target.cluster.timeline > 1
    planned = ledger.path.read_bytes()
    assert ledger.replay(target) == [fault.undo.sentence]
    assert trouble(target.database) == ""
    assert not any(target.cluster.hurt.values())
    assert not target.cluster.stores
    ledger.path.write_bytes(planned)
    assert ledger.replay(target) == [fault.undo.sentence]


@pytest.mark.parametrize("kind", KINDS)
def test_an_undo_whose_fault_never_came_changes_nothing(target: ClusterTarget, tmp_path: Path, kind: str) -> None:
    ledger = Ledger(tmp_path / LEDGER_NAME)
    ledger.plan(named(target, kind, WHOM[kind]).undo)
    before = target.database.members()
    ledger.replay(target)
    assert target.database.members() == before


def test_a_cluster_that_is_not_whole_again_in_time_is_still_changed(tmp_path: Path) -> None:
    target = ClusterTarget(Manners(heals=False))
    ledger = Ledger(tmp_path / LEDGER_NAME)
    fault = named(target, "lose", "primary")
    ledger.plan(fault.undo)
    fault.inject()
    began = target.clock.now()
    with pytest.raises(UndoIncomplete, match=r"not whole within 120 s \(last seen: postgres-1 is "):
        ledger.replay(target)
    assert WHOLE_WITHIN_S <= target.clock.now() - began <= WHOLE_WITHIN_S + 1
    assert len(ledger.pending()) == 1


def test_what_cannot_be_repaired_yet_is_tried_again(target: ClusterTarget, tmp_path: Path) -> None:
    tries = []

    def allow(member: str) -> None:
        tries.append(member)
        if len(tries) < 3:
            raise StepFailed(f"{member} has no process whose writes could be limited")

    target.cluster.allow_writes = allow  # type: ignore[method-assign]
    ledger = Ledger(tmp_path / LEDGER_NAME)
    ledger.plan(named(target, "refuse-writes", "primary").undo)
    ledger.replay(target)
    assert tries == ["postgres-1"] * 3


def test_nobody_is_hurt_who_does_not_exist(target: ClusterTarget) -> None:
    with pytest.raises(UsageError, match="'postgres-9' does not exist; there are postgres-1, postgres-2, postgres-3, primary"):
        named(target, "crash", "postgres-9")
    with pytest.raises(UsageError, match="database fault 'smash' does not exist; there are crash, freeze"):
        named(target, "smash", "primary")


def test_a_role_that_nobody_has_is_no_member(target: ClusterTarget) -> None:
    target.cluster.names = ()
    with pytest.raises(StepFailed, match="no member of the database cluster is primary"):
        member_named(target.database, "primary")


def test_without_a_synchronous_standby_any_standby_is_one() -> None:
    target = ClusterTarget(Manners(synchronous=False))
    assert member_named(target.database, "standby") == "postgres-2"
    assert trouble(target.database) == ""


@pytest.mark.parametrize(
    ("kind", "whom", "words"),
    [
        ("crash", "primary", "postgres-1 is primary, unknown, on timeline 1"),
        ("lose", "standby", "postgres-2 is sync_standby, unknown, on timeline 1; the store of postgres-2 does not answer"),
        ("lose-store", "postgres-3", "the store of postgres-3 does not answer"),
        ("lose-store", "primary,standby", "the store of postgres-2 does not answer; the store has no quorum"),
    ],
)
def test_what_is_wrong_is_named(target: ClusterTarget, kind: str, whom: str, words: str) -> None:
    assert trouble(target.database) == ""
    named(target, kind, whom).inject()
    assert trouble(target.database).endswith(words)


def test_a_cluster_that_should_have_a_synchronous_standby_is_not_whole_without_one(target: ClusterTarget) -> None:
    target.cluster.order = ["postgres-1", "", "postgres-2"]
    assert trouble(target.database) == "no standby is synchronous"


def test_a_cluster_of_which_nobody_knows_a_primary_is_not_whole(target: ClusterTarget) -> None:
    target.cluster.order[0] = ""
    assert trouble(target.database) == "0 primaries"
