"""`restore`: a backup set is taken under load, restored into a fresh place beside the system, and examined in nine points."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx
import psycopg

from sre.dr import backup, checklist, examination, sets
from sre.dr import place as places
from sre.dr.pgbackrest_records import SEGMENT_BYTES, number
from sre.dr.place import Restored
from sre.dr.recovery import Target
from sre.dr.sets import BackupSet
from sre.drills import history_files, loaded
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.drills.database_clients import Together
from sre.drills.lifecycle import require_load
from sre.drills.rebuild_users import RealUsers
from sre.errors import CannotRun, SreError, StepFailed, in_words
from sre.faults.base import Undo
from sre.judges.loss import Reach, content_loss, data_loss, failed_points
from sre.judges.recovery import recovery
from sre.load import writers
from sre.probes import http, sql
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.base import Capability
from sre.targets.local.target import LocalTarget, down
from sre.units import Unit, show

RECORDED_WITHIN_S = 30.0
ARCHIVED_WITHIN_S = 120.0  # a segment is archived every 30 s, full or not
WRITES_PER_S = 20.0


class Restore(Drill):
    """Nothing is broken: the running system is only read, and what is restored runs beside it."""

    name = "restore"
    summary = "a backup set is restored elsewhere and examined in nine points"
    promises: ClassVar = ("restore-content", "restore-checklist", "restore-time", "data-loss")
    needs: ClassVar = frozenset({Capability.BACKUPS})
    _set: BackupSet

    def plan(self, options: Options) -> LoadPlan:
        """A few users, so that the backup is taken while rows are being written."""
        return LoadPlan(options.rate or 50.0, options.seconds or 1800.0, options.seed)

    def steady(self, context: Context) -> str:
        """Users, and one writer whose acknowledged writes are stamped markers: the newest restored one tells what is lost."""
        target, seen = _local(context), super().steady(context)
        if context.load is None:
            raise StepFailed("there is no load")
        run, plan = f"{context.folder.parents[1].name}/{self.name}", self.plan(context.options)
        context.note(run=run)
        users = RealUsers(target.layout.dsn("drills", "drills"), lambda: target.endpoints)
        context.load = Together(context.load, users.write(run, replace(plan, rate=WRITES_PER_S), context.folder))
        return f"{seen}, a writer stamps {WRITES_PER_S:.0f} rows a second"

    def inject(self, context: Context) -> str:
        """Send a prediction to be found again, and take the set. It stays: it is a good backup."""
        target = _local(context)
        request_id, variant = self._marker(context)
        homes = [target.layout.home / "restored" / f"{context.folder.parents[1].name}{end}" for end in ("", "-archived")]
        for home in homes:
            context.ledger.plan(Undo("remove-restored", {"place": str(home)}, f"remove the restored place {home.name}"))
        context.note(request_id=request_id, variant=variant, homes=[str(home) for home in homes])
        kept = sets.listing(sets.places(target.layout.home)[context.options.place]).sets.values()
        kind: Literal["full", "diff"] = "diff" if any(item.kind == "full" for item in kept) else "full"
        try:
            self._set = backup.create(target.layout, kind, "manual", say=context.say, ran=context.ran)
        except psycopg.Error as error:
            raise StepFailed(f"no backup set was made: {in_words(error)}") from error
        context.note(set=self._set.id)
        size = sum(ref.size for ref in self._set.objects.values())
        rows = sum(table.rows for table in self._set.tables.values())
        return f"{self._set.id} taken under load: {rows:,} rows, {len(self._set.objects):,} objects of {size / 1e6:,.0f} MB"

    def prove_injected(self, context: Context) -> str:
        """Every file of the set read again. What is wrong is a point that failed, and what comes of it is seen in the restore."""
        layout = _local(context).layout
        wrong = backup.verify(layout, self._set, context.options.place, say=context.say, ran=context.ran)
        context.note(manifest={"wrong": wrong, "files": len(self._set.objects)})
        return f"{len(wrong)} things are wrong: {wrong[0]}" if wrong else "every file of the set is unaltered"

    def recover(self, context: Context) -> str:
        """Restore the set and examine it, then restore what was archived."""
        try:
            self._restore_set(context)
            self._restore_archived(context)
        except SreError as error:
            # Unlike an interrupt, a restore that fails has a verdict.
            context.note(concluded=str(error))
            raise
        context.note(concluded="")
        answered = context.facts["restored_in"]
        after = "predicts nothing" if answered is None else f"predicts after {show(answered, Unit.SECONDS)}"
        passed = sum(point.passed for point in checklist.points(context.facts))
        return f"{after}; {passed} of {checklist.COUNT} points passed so far, time and loss are still to be judged"

    def judge(self, case: Case) -> Judgement:
        """Content first, then the whole checklist, then time and loss."""
        facts = case.facts
        if "concluded" not in facts:
            return loaded.judgement(case, [], may_stop=True)
        reached, verdicts = case.reach(), []
        if {"tables", "objects", "prediction"} <= facts.keys() and not any("trouble" in facts[name] for name in _CONTENT):
            verdicts.append(content_loss(promise("restore-content"), *(facts[name] for name in _CONTENT)))
        points = checklist.points({**facts, "time": _time(facts, reached)})
        failed = {point.name: point.words for point in points if not point.passed}
        verdicts.append(failed_points(promise("restore-checklist"), failed, checklist.COUNT))
        if "restored_in" in facts:
            event = f"a bit-equal prediction (our aim is {checklist.RTO_AIM_S / 60:.0f} min)"
            seconds = facts["restored_in"]
            verdicts.append(recovery(promise("restore-time"), seconds, watched=facts["watched"], event=event))
        if reached is not None:
            verdicts.append(data_loss(promise("data-loss"), reached))
        judged = loaded.judgement(case, [], verdicts, may_stop=True)
        return Judgement(judged.verdicts, (*judged.findings, *(str(point) for point in points if not point.passed)))

    def _restore_set(self, context: Context) -> None:
        source, clock = _local(context), context.target.clock
        item, home = self._set, Path(context.facts["homes"][0])
        found, began = sorted(path.name for path in home.iterdir()) if home.exists() else [], clock.now()
        context.say("restoring into a fresh place")
        restored = self._begin(context, home)
        target, layout = restored.target, restored.target.layout
        look(context, "reached", lambda: examination.reached(item, restored, context.options.place))
        # Before anything is predicted there: that is recorded too.
        look(context, "tables", lambda: examination.tables(item, layout))
        look(context, "objects", lambda: examination.objects(item, layout))
        again = f"again-{uuid.uuid4()}"
        answer = look(context, "prediction", lambda: examination.prediction(context.facts["request_id"], target, again))
        # A user of the restored system has the answer that he once got: only now the time ends.
        watched = clock.now() - began
        equal = answer.get("recorded") is not None and answer["recorded"] == answer["repeated"]
        context.note(restored_in=watched if equal else None, watched=watched)
        if equal:
            look(context, "prediction", lambda: answer | {"logged": self._logged(context, restored, again)})
        look(context, "structure", lambda: examination.structure(source.layout, layout))
        look(context, "registry", lambda: examination.registry(item, layout))
        look(context, "place", lambda: examination.own_place(source.layout, layout, found))
        look(context, "physical", lambda: self._physical(context, restored))

    def _begin(self, context: Context, home: Path) -> Restored:
        source, variant = _local(context).layout, context.facts["variant"]
        return places.restore(
            self._set, source, home, place=context.options.place, variant=variant, say=context.say, ran=context.ran
        )

    def _physical(self, context: Context, restored: Restored) -> dict[str, Any]:
        """Rows and indexes while the server runs, pages once it has been stopped; whatever is found, it is stopped."""
        layout = restored.target.layout
        try:
            context.say("pg_amcheck reads every table and index")
            relations = examination.relations(layout, context.ran)
        finally:
            down(layout.home)
        return {"relations": relations, "pages": examination.pages(layout, context.ran)}

    def _restore_archived(self, context: Context) -> None:
        """Suppose everything is lost now: how much of what was acknowledged comes back from the archive as it is?

        The system goes on and archives more meanwhile, so recovery stops where the archive ends now: after the first record of
        the segment that follows.
        """
        source, home = _local(context), Path(context.facts["homes"][1])
        require_load(context)
        pgbackrest = backup.stanza(source.layout, context.ran)

        def newest() -> str:
            return pgbackrest.archive(backup.REPOSITORIES[context.options.place])[-1].newest

        archived = newest()
        context.note(lost_at=context.target.clock.wall(), archived=archived)
        context.until(
            lambda: ((seen := newest()) != archived or None, f"{seen} is the newest"), within=ARCHIVED_WITHIN_S, every=1.0,
            what=f"the segment after {archived} to be archived",
        )  # fmt: skip
        context.say("restoring what was archived")
        restored = places.restore(
            self._set, source.layout, home, place=context.options.place, target=Target.lsn(end_of(archived)), parts="database",
            say=context.say, ran=context.ran,
        )  # fmt: skip
        layout = restored.target.layout
        try:
            rows = writers.rows(layout.dsn("drills", "drills"), str(layout.secrets / "passfile"), context.facts["run"])
        except psycopg.Error as error:
            raise StepFailed(f"the stamped rows of the restored place cannot be read: {in_words(error)}") from error
        context.note(stopped=restored.reached.words)
        history_files.write_rows(context.folder, rows)

    def _marker(self, context: Context) -> tuple[str, str]:
        """Id of a prediction that is in the log for certain, and the variant of the model that made it."""
        endpoints = _local(context).endpoints
        request_id = f"drill-{uuid.uuid4()}"
        status, body = http.predict(endpoints, http.first_image(endpoints), request_id)
        if status != httpx.codes.OK:
            raise StepFailed(f"the prediction to be found again was answered {status}: {body.get('detail')}")
        what = f"prediction {request_id} to be recorded"
        row = context.until(lambda: _recorded(_local(context), request_id), within=RECORDED_WITHIN_S, what=what)
        return request_id, row.variant

    def _logged(self, context: Context, restored: Restored, request_id: str) -> bool:
        try:
            what = "the repeated prediction in the log of the place"
            context.until(lambda: _recorded(restored.target, request_id), within=RECORDED_WITHIN_S, what=what)
        except StepFailed:
            return False
        return True


_CONTENT = ("tables", "objects", "prediction")


def look(context: Context, name: str, at: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Note what an examination found, or why it could not look; and return it."""
    context.say(f"examining: {name}")
    try:
        fact = at()
    except (SreError, psycopg.Error, httpx.HTTPError, OSError, ValueError, KeyError) as error:
        fact = {"trouble": str(error) if isinstance(error, SreError) else f"{type(error).__name__}: {in_words(error)}"}
    context.note(**{name: fact})
    return fact


def end_of(segment: str) -> str:
    """Where a WAL segment ends, as a place in the WAL."""
    end = (number(segment) + 1) * SEGMENT_BYTES
    return f"{end >> 32:X}/{end & 0xFFFFFFFF:X}"


def _time(facts: Mapping[str, Any], reached: Reach | None) -> dict[str, Any]:
    rpo = None
    if reached is not None and reached.disaster_at is not None and reached.until is not None:
        rpo = max(0.0, reached.disaster_at - reached.until)
    return {
        "rto": facts.get("restored_in"), "rto_bound": promise("restore-time").bound,
        "rpo": rpo, "rpo_bound": promise("data-loss").bound, "gaps": reached.gaps if reached else 0,
    }  # fmt: skip


def _recorded(target: LocalTarget, request_id: str) -> tuple[sql.Prediction | None, str]:
    try:
        return sql.prediction(target.endpoints, request_id), "not in the prediction log"
    except psycopg.Error as error:
        return None, in_words(error)


def _local(context: Context) -> LocalTarget:
    if not isinstance(context.target, LocalTarget):
        raise CannotRun(f"target {context.target.name} cannot be restored beside itself")
    return context.target
