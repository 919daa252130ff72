from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from sre.dr import backup_plan, checklist
from sre.drills import run
from sre.drills.base import Case, Context, Options
from sre.drills.history_files import History
from sre.drills.restore import Restore, end_of, look
from sre.errors import CannotRun, ExitCode, StepFailed
from sre.judges.history import Attempt, Fate, Key, Row
from sre.promises import promise
from sre.readings import LoadPlan
from sre.verdict import Outcome
from tests.sre.dr import test_checklist

if TYPE_CHECKING:
    from .conftest import RunDrills

TABLE = {"expected": {"rows": 900, "checksum": "a"}, "restored": {"rows": 900, "checksum": "a"}}
FACTS: dict[str, Any] = {
    # What the drill notes; time is judged from the rest.
    **{name: fact for name, fact in test_checklist.FACTS.items() if name != "time"},
    "tables": {"predictions.public.predictions": TABLE},
    "restored_in": 21.0,
    "watched": 21.0,
    "lost_at": 50.5,
    "concluded": "",
}
CONTENT, CHECKLIST, TIME, LOSS = range(4)


def attempt(seq: int) -> Attempt:
    sent, done = float(seq), seq + 0.1
    key = Key("run/restore", 0, seq)
    return Attempt(key=key, payload="aa", sent=sent, sent_wall=sent, done=done, done_wall=done, fate=Fate.ACKED)


def row(seq: int) -> Row:
    return Row(Key("run/restore", 0, seq), "aa")


HISTORY = History(tuple(attempt(seq) for seq in range(60)), tuple(row(seq) for seq in range(46)))
DAY = History((*HISTORY.attempts, attempt(90_000)), HISTORY.rows)


@pytest.fixture
def case(make_case: Callable[..., Case]) -> Callable[..., Case]:
    loaded = make_case(stop_after=15.0)

    def make(history: History | None = HISTORY, without: tuple[str, ...] = (), **changes: Any) -> Case:
        facts = {**loaded.facts, **FACTS, **changes}
        return Case({name: facts[name] for name in facts if name not in without}, loaded.recording, loaded.samples, history)

    return make


def test_a_whole_restore_keeps_all_four_promises(case: Callable[..., Case]) -> None:
    judged = Restore().judge(case())
    assert [verdict.promise for verdict in judged.verdicts] == list(Restore.promises)
    assert {verdict.outcome for verdict in judged.verdicts} == {Outcome.KEPT}
    assert judged.findings == ()
    assert judged.verdicts[LOSS].measured == pytest.approx(5.1)


def changed(fact: str, **changes: Any) -> dict[str, Any]:
    return {fact: {**FACTS[fact], **changes}}


@pytest.mark.parametrize(
    ("changes", "promise", "outcome", "words"),
    [
        (changed("tables", t={**TABLE, "restored": {"rows": 900, "checksum": "b"}}), CONTENT, Outcome.BROKEN, "altered"),
        (changed("tables", t={**TABLE, "restored": {"rows": 899, "checksum": "b"}}), CONTENT, Outcome.BROKEN, "1 of 900 rows"),
        ({"tables": {}}, CONTENT, Outcome.INCONCLUSIVE, "nothing to compare"),
        (changed("objects", expected=0), CONTENT, Outcome.INCONCLUSIVE, "nothing to compare"),
        (changed("objects", lost=["a.png"]), CONTENT, Outcome.BROKEN, "a.png lost"),
        (changed("objects", altered=["b.png"]), CONTENT, Outcome.BROKEN, "b.png altered"),
        (changed("prediction", repeated="3f800001"), CONTENT, Outcome.BROKEN, "has other bits"),
        (changed("prediction", recorded=None, why="not in the log"), CONTENT, Outcome.BROKEN, "not in the log"),
        (changed("manifest", wrong=["object x is altered"]), CHECKLIST, Outcome.BROKEN, "x is altered"),
        (changed("registry", wrong=["model m has aliases none"]), CHECKLIST, Outcome.BROKEN, "aliases none"),
        (changed("physical", pages=["pages base/5/1"]), CHECKLIST, Outcome.BROKEN, "base/5/1"),
        (changed("place", reaches=["it shares port 5"]), CHECKLIST, Outcome.BROKEN, "port 5"),
        (changed("objects", lost=["a.png"]), CHECKLIST, Outcome.BROKEN, "a.png lost"),
        (changed("prediction", repeated="3f800001"), CHECKLIST, Outcome.BROKEN, "other bits"),
        ({"structure": {"trouble": "it answers nothing"}}, CHECKLIST, Outcome.BROKEN, "could not be looked at"),
        ({"without": ("structure",)}, CHECKLIST, Outcome.BROKEN, "structure not looked at"),
        ({"restored_in": 3600.0}, TIME, Outcome.BROKEN, "a bit-equal prediction"),
        ({"restored_in": None}, TIME, Outcome.INCONCLUSIVE, "was not seen"),
        ({"history": History(HISTORY.attempts, ())}, LOSS, Outcome.BROKEN, "no stamped write came back"),
        ({"history": History((replace(attempt(0), fate=Fate.FAILED),), ())}, LOSS, Outcome.INCONCLUSIVE, "acknowledged"),
        ({"lost_at": 99_999.0, "history": DAY}, LOSS, Outcome.BROKEN, "that much older"),
        ({"history": History(HISTORY.attempts, (row(0), row(2)))}, CHECKLIST, Outcome.BROKEN, "1 stamped markers"),
        ({"server_counts": None}, CONTENT, Outcome.INCONCLUSIVE, "counters could not be read"),
    ],
)  # fmt: skip
def test_sabotage_is_seen(case: Callable[..., Case], changes: dict[str, Any], promise: int, outcome: Outcome, words: str) -> None:
    judged = Restore().judge(case(**changes))
    assert judged.verdicts[promise].outcome is outcome
    assert words in judged.verdicts[promise].why


def test_a_point_that_failed_is_a_finding_with_its_number(case: Callable[..., Case]) -> None:
    judged = Restore().judge(case(**changed("registry", loaded=[])))
    assert judged.findings == ("7 model registry: FAILED, no model of an alias was loaded",)


def test_a_restore_that_failed_breaks_the_checklist_and_claims_nothing_else(case: Callable[..., Case]) -> None:
    only = ("place", "reached", "physical", "tables", "objects", "structure", "registry", "prediction", "restored_in", "lost_at")
    judged = Restore().judge(case(without=only, concluded="object x is altered", **changed("manifest", wrong=["x is altered"])))
    (verdict,) = judged.verdicts
    assert (verdict.promise, verdict.outcome, verdict.measured) == ("restore-checklist", Outcome.BROKEN, float(checklist.COUNT))
    assert "x is altered" in verdict.why


def test_a_drill_that_was_interrupted_has_no_verdict(case: Callable[..., Case]) -> None:
    assert Restore().judge(case(without=("concluded", "physical"))).verdicts == ()


def test_no_content_is_judged_that_could_not_be_read(case: Callable[..., Case]) -> None:
    judged = Restore().judge(case(tables={"trouble": "away"}))
    assert [verdict.promise for verdict in judged.verdicts] == ["restore-checklist", "restore-time", "data-loss"]
    assert judged.verdicts[0].outcome is Outcome.BROKEN


def test_a_few_users_write_rows_meanwhile() -> None:
    assert Restore().plan(Options()) == LoadPlan(rate=50.0, seconds=1800.0, seed=1)


def test_the_drill_reads_from_where_the_backup_plan_says_and_its_evidence_is_fresh_for_as_long() -> None:
    planned = backup_plan.load().restore.drill
    assert planned.place == Options().place
    assert {promise(name).fresh_for_s for name in Restore.promises} == {planned.max_age}


@pytest.mark.parametrize(
    ("segment", "end"),
    [("000000010000000000000003", "0/4000000"), ("0000000A00000002000000FF", "3/0"), ("0000000100000000000000FF", "1/0")],
)
def test_the_end_of_a_segment_is_a_place_in_the_wal(segment: str, end: str) -> None:
    assert end_of(segment) == end


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StepFailed("pg_amcheck failed"), "pg_amcheck failed"),
        (psycopg.OperationalError("gone\naway"), "OperationalError: gone away"),
        (httpx.ConnectError("refused"), "ConnectError: refused"),
        (KeyError("version"), "KeyError: 'version'"),
    ],
)
def test_an_examination_that_fails_is_noted_as_trouble(
    make_context: Callable[..., Context], error: Exception, words: str
) -> None:
    context = make_context("restore")

    def fail() -> dict[str, Any]:
        raise error

    assert look(context, "structure", fail) == {"trouble": words}
    assert context.facts["structure"] == {"trouble": words}


def test_a_target_without_backups_cannot_run_it(run_drills: RunDrills) -> None:
    ran = run_drills(Restore())
    assert ran.record.exit_code == ExitCode.CANNOT_RUN
    assert "target memory cannot do backups" in ran.step("preflight").detail
    assert run.verify(ran.folder, ran.key) == []


def test_a_target_that_only_claims_to_have_backups_cannot_run_it_either(make_context: Callable[..., Context]) -> None:
    context = make_context("restore")
    for step in (Restore().steady, Restore().inject, Restore().prove_injected, Restore().recover):
        with pytest.raises(CannotRun, match="target memory cannot be restored beside itself"):
            step(context)
