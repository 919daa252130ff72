"""The whole drill on the simulated cluster: kept, and broken or refused in every way in which it can disappoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sre.drills import run
from sre.drills.base import Case
from sre.drills.rebuild import WRITE_ON_S, ClusterRebuild
from sre.drills.rebuild_users import Users
from sre.errors import ExitCode
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.targets.base import Target
from sre.targets.memory import Behaviour, MemoryTarget
from sre.verdict import Outcome
from tests.sre.site import Manners, SiteTarget

if TYPE_CHECKING:
    from .conftest import Ran, RunDrills

TIME, CONTENT, LOSS = ClusterRebuild.promises
RunRebuild = Callable[..., "Ran"]


class Rebuild(ClusterRebuild):
    """On the simulated cluster, which is its own users."""

    def users(self, target: Target) -> Users:
        assert isinstance(target, SiteTarget)
        return target


@pytest.fixture
def run_rebuild(run_drills: RunDrills) -> RunRebuild:
    def go(behaviour: Behaviour | None = None, hear: Callable[[str], None] = lambda _: None, **manners: Any) -> Ran:
        return run_drills(Rebuild(), target=SiteTarget(Manners(**manners), behaviour), hear=hear)

    return go


def site(ran: Ran) -> SiteTarget:
    assert isinstance(ran.target, SiteTarget)
    return ran.target


def test_a_lost_cluster_is_made_again_and_every_promise_is_kept(run_rebuild: RunRebuild) -> None:
    ran = run_rebuild()
    assert ran.record.exit_code == ExitCode.KEPT, ran.text
    assert [verdict.promise for verdict in ran.drill.verdicts] == list(ClusterRebuild.promises)
    assert ran.drill.findings == ()
    facts = ran.drill.facts
    assert list(facts["phases"]) == [
        "an empty cluster", "Velero", "its backups known", "restore", "the database", "all of it runs",
    ]  # fmt: skip
    took = ran.verdict(TIME)
    assert took.measured is not None
    assert took.measured == pytest.approx(sum(facts["phases"].values()), abs=3.0)
    assert took.interval is not None
    assert 0 <= took.interval[0] <= took.interval[1] == took.measured
    loss = ran.verdict(LOSS)
    # What was on its way in the last second is not counted.
    assert loss.measured is not None
    assert 10.9 <= loss.measured <= 12.1
    assert loss.n >= 20 * WRITE_ON_S
    assert ran.verdict(CONTENT).n > 10
    assert ran.drill.fault is not None
    assert site(ran).site.made == ["destroy", "create"]
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


BROKEN: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("an object is altered", {"rebuild_alters": True}, {}, CONTENT, "object-altered: ml-datasets/train.npz was da7a5e, is 0dd"),
    ("a row is missing", {}, {"lost_row": 7}, CONTENT, "rows-differ: stamped writes up to the newest one that came"),
    ("a prediction differs", {}, {"bits": "3f"}, CONTENT, "prediction-differs: the recorded prediction is not repeated: it has"),
    ("the log is not back", {}, {"logged": False}, CONTENT, "prediction-differs"),
    ("a restore fails in part", {"restore_phase": "PartiallyFailed"}, {}, CONTENT, "rebuild-failed: rebuild the database not"),
    ("a restore fails", {"restore_phase": "Failed"}, {}, CONTENT, "failed; see `velero restore describe rebuild-"),
    ("another authority", {"rebuild_keys": False}, {}, CONTENT, "rebuild-failed: rebuild the certificate authority is"),
    ("backups are not found", {"sync_s": 1e6}, {}, CONTENT, "rebuild-failed: rebuild the backups in the store not within 300 s"),
    ("hours are lost", {}, {"unarchived_s": 1e6}, LOSS, "no stamped write came back at all"),
    ("it takes hours", {"create_s": 4000.0}, {}, TIME, "a bit-equal prediction (our aim is 15 min) after 68"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("behaviour", "manners", "promise", "words"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_a_rebuild_that_disappoints_breaks_its_promise(
    run_rebuild: RunRebuild, behaviour: dict[str, Any], manners: dict[str, Any], promise: str, words: str
) -> None:
    ran = run_rebuild(Behaviour(**behaviour), **manners)
    assert ran.verdict(promise).outcome is Outcome.BROKEN
    assert words in ran.text
    assert ran.record.exit_code in {ExitCode.BROKEN, ExitCode.UNDO_INCOMPLETE}
    assert run.verify(ran.folder, ran.key) == []


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a volume is skipped", {"backup_skips": True}, "volume-missing: monitoring/data-keeper-1 has no pod volume backup"),
    ("the backup failed in part", {"backup_phase": "PartiallyFailed"}, "backup-phase: rebuild-"),
    ("the backup hangs", {"backup_phase": "InProgress"}, "backup-late"),
    ("an object is not in the archive", {"archive_loses": True}, "item-missing: configmaps/ml-system/keeper"),
]


@pytest.mark.parametrize(("behaviour", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_nothing_is_destroyed_while_the_backup_is_not_whole(
    run_rebuild: RunRebuild, behaviour: dict[str, Any], words: str
) -> None:
    ran = run_rebuild(Behaviour(**behaviour))
    assert site(ran).site.made == []
    assert ran.verdict(CONTENT).outcome is Outcome.BROKEN
    assert words in ran.text
    assert "nothing was destroyed, for the backup is not whole" in ran.step("inject").detail
    assert [verdict.promise for verdict in ran.drill.verdicts] == [CONTENT]
    assert ran.record.exit_code == ExitCode.BROKEN
    assert ran.pending() == 0
    assert run.verify(ran.folder, ran.key) == []


UNABLE: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("the store is inside", {"store_outside": False}, {}, "the store is inside the cluster, and is lost with it"),
    ("no commands", {"rebuildable": False}, {}, "nothing is known that can end the cluster and make an empty one"),
    ("no Velero", {"velero": False}, {}, "does not answer `velero version`"),
    ("not really destroyed", {"faults_work": False}, {}, "api.invalid:6443, edge.invalid:443 still answers"),
]


@pytest.mark.parametrize(("behaviour", "manners", "words"), [row[1:] for row in UNABLE], ids=[row[0] for row in UNABLE])
def test_what_cannot_be_drilled_is_said_and_left_as_it_is(
    run_rebuild: RunRebuild, behaviour: dict[str, Any], manners: dict[str, Any], words: str
) -> None:
    ran = run_rebuild(Behaviour(**behaviour), **manners)
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert words in ran.text
    assert site(ran).site.identity() == "cluster-1"
    assert "create" not in site(ran).site.made
    assert ran.pending() == 0


def test_a_writer_whose_writes_fail_proves_nothing(run_rebuild: RunRebuild) -> None:
    ran = run_rebuild(writer=False)
    assert ran.verdict(LOSS).outcome is Outcome.INCONCLUSIVE
    assert ran.record.exit_code == ExitCode.INCONCLUSIVE


def test_a_target_that_is_no_cluster_cannot_run_it(run_drills: RunDrills) -> None:
    class Bare(MemoryTarget):
        capabilities = MemoryTarget.capabilities - ClusterRebuild.needs

    ran = run_drills(ClusterRebuild(), target=Bare())
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "target memory cannot do rebuild, volume-backups, which cluster-rebuild needs" in ran.step("preflight").detail


@pytest.mark.parametrize("at", ["rebuilding: Velero", "rebuilding: all of it runs"])
def test_an_interrupt_while_nothing_is_there_makes_the_cluster_again(run_rebuild: RunRebuild, at: str) -> None:
    pressed: list[str] = []

    def press(line: str) -> None:
        if line.startswith(at) and not pressed:
            pressed.append(line)
            raise KeyboardInterrupt

    ran = run_rebuild(hear=press)
    assert pressed
    assert ran.record.exit_code == ExitCode.INTERRUPTED
    assert ran.pending() == 0
    assert site(ran).site.missing() == ""
    assert site(ran).site.identity() == "cluster-2"


def test_the_undo_is_on_disk_before_the_cluster_is_lost(run_rebuild: RunRebuild) -> None:
    ran = run_rebuild(Behaviour(faults_work=False))
    (entry,) = Ledger(ran.folder / LEDGER_NAME).entries()
    assert entry.undo.action == "rebuild-cluster"
    assert entry.undo.arguments["identity"] == "cluster-1"
    assert entry.undo.arguments["backup"].startswith("rebuild-")


def test_a_case_in_which_nothing_was_done_has_no_verdict() -> None:
    assert ClusterRebuild().judge(Case({}, None, None)).verdicts == ()
