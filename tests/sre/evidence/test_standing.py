from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sre.clock import Clock
from sre.evidence import bundle, sign, standing
from sre.evidence.files import ATTESTATION
from sre.evidence.schema import DrillRecord, RunRecord, StepRecord
from sre.evidence.standing import Standing
from sre.promises import PROMISES, Freshness, promise
from sre.verdict import Outcome, Verdict

DAY = 86_400.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RunDrill = Callable[..., Path]


@pytest.fixture
def run_drill(
    tmp_path: Path,
    clock: Clock,
    make_run: Callable[..., RunRecord],
    make_drill: Callable[..., DrillRecord],
    make_verdict: Callable[..., Verdict],
) -> RunDrill:
    """Leaves a signed run of pod-recovery that ended now; the clock goes on a second."""

    def run(outcome: Outcome = Outcome.KEPT, *, steps: tuple[StepRecord, ...] = (), **changes: object) -> Path:
        made = bundle.create(tmp_path, "gameday", clock)
        verdicts = (make_verdict(outcome=outcome, **changes),)
        drill = make_drill(outcome=outcome, verdicts=verdicts, steps=steps, started=0.0, ended=0.0, started_wall=clock.wall())
        made.seal(make_run(id=made.id, drills=(drill,), outcome=outcome), KEY)
        clock.sleep(1.0)
        return made.folder

    return run


def of_recovery(root: Path, key: Ed25519PrivateKey | None = KEY) -> Standing:
    rows = standing.standings(root, key.public_key() if key else None)
    return next(row for row in rows if row.promise.id == "pod-recovery")


def words(rows: Iterable[Standing], now: float) -> set[str]:
    return {row.objective(now) for row in rows}


def test_without_evidence_every_promise_is_red(tmp_path: Path) -> None:
    rows = standing.standings(tmp_path / "nowhere", KEY.public_key())
    assert {(row.drill, row.promise.id) for row in rows} == {(drill, row.id) for row in PROMISES for drill in row.drills}
    assert words(rows, 0.0) == {"red: never proven"}
    assert {(row.last(), row.age(0.0), row.run, row.freshness(0.0)) for row in rows} == {("never", "", None, Freshness.NEVER)}


def test_a_kept_promise_is_proven_until_its_evidence_is_stale(tmp_path: Path, clock: Clock, run_drill: RunDrill) -> None:
    at = clock.wall()
    run = run_drill().name
    row = of_recovery(tmp_path)
    assert (row.run, row.at, row.kept_at, row.last()) == (run, at, at, "KEPT 6.4 s of 30 s")
    assert (row.objective(at), row.objective(at + 7 * DAY)) == ("proven", "proven")
    assert row.objective(at + 7 * DAY + 1) == "red: stale, counts for 7 d"
    assert not row.proven(at + 7 * DAY + 1)
    assert row.age(at + 5 * 3600) == "5 h"


def test_evidence_from_the_future_proves_nothing(tmp_path: Path, clock: Clock, run_drill: RunDrill) -> None:
    now = clock.wall() - 1.0
    run_drill()
    row = of_recovery(tmp_path)
    assert (row.objective(now), row.age(now), row.proven(now)) == ("red: stale, counts for 7 d", "in the future", False)


@pytest.mark.parametrize("outcome", [Outcome.BROKEN, Outcome.INCONCLUSIVE, Outcome.ERROR])
def test_a_newer_run_that_was_not_kept_makes_it_red(tmp_path: Path, clock: Clock, run_drill: RunDrill, outcome: Outcome) -> None:
    kept_at = clock.wall()
    run_drill()
    newest = run_drill(outcome, measured=40.0).name
    row = of_recovery(tmp_path)
    assert (row.run, row.kept_at, row.objective(clock.wall())) == (newest, kept_at, f"red: {outcome.upper()}")
    assert row.last() == f"{outcome.upper()} 40.0 s of 30 s"
    assert row.freshness(clock.wall()) is Freshness.FRESH
    assert not row.proven(clock.wall())
    run_drill()
    assert of_recovery(tmp_path).proven(clock.wall())


def test_a_failed_step_beside_a_kept_verdict_is_an_error(tmp_path: Path, clock: Clock, run_drill: RunDrill) -> None:
    run_drill(steps=(StepRecord(name="undo", seconds=1.0, result="failed", detail="still down"),))
    row = of_recovery(tmp_path)
    assert (row.objective(clock.wall()), row.kept_at) == ("red: ERROR", None)


def test_a_drill_without_a_verdict_on_the_promise_is_told(tmp_path: Path, clock: Clock, run_drill: RunDrill) -> None:
    run_drill()
    run_drill(promise="availability")
    row = of_recovery(tmp_path)
    assert (row.last(), row.objective(clock.wall())) == ("INCONCLUSIVE without a verdict", "red: INCONCLUSIVE")


def test_a_verdict_against_another_bound_proves_nothing(tmp_path: Path, clock: Clock, run_drill: RunDrill) -> None:
    run_drill(bound=60.0)
    assert of_recovery(tmp_path).objective(clock.wall()) == "red: INCONCLUSIVE"


def _unsigned(folder: Path) -> None:
    (folder / ATTESTATION).unlink()


def _altered(folder: Path) -> None:
    (folder / bundle.JOURNAL).write_bytes(b"")


def _half(folder: Path) -> None:
    (folder / ATTESTATION).write_bytes((folder / ATTESTATION).read_bytes()[:100])


def _replayed(folder: Path) -> None:
    shutil.move(folder, folder.with_name("20270101T000000Z-gameday"))


def _unreadable(folder: Path) -> None:
    (folder / bundle.RUN).write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("spoil", [_unsigned, _altered, _half, _replayed, _unreadable])
def test_evidence_that_does_not_hold_counts_as_none(
    tmp_path: Path, clock: Clock, run_drill: RunDrill, spoil: Callable[[Path], None]
) -> None:
    older = run_drill(Outcome.BROKEN).name
    spoil(run_drill())
    row = of_recovery(tmp_path)
    assert (row.run, row.kept_at, row.objective(clock.wall())) == (older, None, "red: BROKEN")
    assert standing.newest(tmp_path, KEY.public_key())["pod-recovery"].id == older


def test_another_signer_counts_for_nothing(tmp_path: Path, run_drill: RunDrill) -> None:
    run_drill()
    for key in (Ed25519PrivateKey.generate(), None):
        assert of_recovery(tmp_path, key).run is None
    assert standing.newest(tmp_path, None) == {}


def test_the_key_is_known_after_the_first_run(tmp_path: Path) -> None:
    assert standing.known_key(tmp_path / "key.pem") is None
    made = sign.private_key(tmp_path / "key.pem").public_key()
    known = standing.known_key(tmp_path / "key.pem")
    assert known is not None
    assert sign.key_id(known) == sign.key_id(made)


def test_the_newest_run_of_each_drill(tmp_path: Path, run_drill: RunDrill) -> None:
    run_drill()
    newest = run_drill(Outcome.BROKEN).name
    assert {name: record.id for name, record in standing.newest(tmp_path, KEY.public_key()).items()} == {"pod-recovery": newest}


def test_of_several_drills_the_one_that_proves_least_stands_for_the_promise(make_verdict: Callable[..., Verdict]) -> None:
    kept = Standing(
        promise=promise("pod-recovery"),
        drill="one",
        run="r1",
        at=100.0,
        outcome=Outcome.KEPT,
        verdict=make_verdict(),
        kept_at=100.0,
    )
    broken = replace(kept, drill="two", run="r2", at=50.0, outcome=Outcome.BROKEN)
    never = Standing(promise=promise("pod-recovery"), drill="three")
    newer = replace(kept, drill="four", at=101.0, kept_at=101.0)
    assert standing.worst([kept, broken, never], 110.0) == [broken]
    assert standing.worst([never, kept], 110.0) == [never]
    assert standing.worst([kept, newer], 110.0) == [newer]


def test_the_promise_table(make_verdict: Callable[..., Verdict]) -> None:
    run = "20260101T120000Z-gameday"
    kept = Standing(
        promise=promise("pod-recovery"), drill="pod-recovery", run=run, target="local", at=0.0, outcome=Outcome.KEPT,
        verdict=make_verdict(), kept_at=0.0,
    )  # fmt: skip
    broken = replace(
        kept, promise=promise("alerting"), outcome=Outcome.BROKEN, verdict=make_verdict(outcome=Outcome.BROKEN, measured=130.0)
    )
    never = Standing(promise=promise("availability"), drill="pod-recovery")
    head = "| promise | bound | last measured | on | evidence |\n| --- | --- | --- | --- | --- |\n"
    row = "| a killed replica serves again in under 30 s | < 30 s | 6.4 s{} | local | `20260101T120000Z-gameday` |\n"
    assert standing.promise_table([kept, broken, never], DAY) == (
        head
        + row.format("")
        + "| a fault raises its alert within 2 min | < 2 min | 130.0 s, BROKEN | local | `20260101T120000Z-gameday` |\n"
        + "| 99.9 % of requests are served, while a replica is lost | >= 99.9 % | never |  |  |\n"
    )
    assert standing.promise_table([kept], 8 * DAY) == head + row.format(", stale, counts for 7 d")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 min"),
        (61.0, "2 min"),
        (3599.0, "60 min"),
        (3600.0, "1 h"),
        (3601.0, "1.1 h"),
        (86_400.0, "1 d"),
        (604_801.0, "7.1 d"),
    ],
)
def test_an_age_is_rounded_up(seconds: float, shown: str) -> None:
    assert standing.age(seconds) == shown
