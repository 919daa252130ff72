"""`cluster-rebuild`: the whole cluster is destroyed, and another one is made of nothing but the store outside of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from sre.dr import velero
from sre.dr.rebuild import REBUILD, rebuild
from sre.drills import history_files
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.drills.rebuild_users import Only, Users, users_of
from sre.errors import CannotRun, SreError, StepFailed
from sre.faults.base import Undo
from sre.judges import rebuild as judges
from sre.judges.loss import Reach, data_loss
from sre.judges.manifests.objects import Finding
from sre.judges.recovery import recovery
from sre.judges.ruling import ruled, told
from sre.judges.velero import own
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.backups import NAMESPACES
from sre.targets.base import Capability, Target
from sre.units import Unit, show
from sre.verdict import Verdict

RTO_AIM_S = 900.0
WRITES_PER_S = 20.0
# More than what is archived at once: what is written after the backup must come back too.
WRITE_ON_S = 75.0
RECORDED_WITHIN_S = 30.0
BACKUP_WITHIN_S = 1800.0
GONE_WITHIN_S = 120.0
SERVED_WITHIN_S = 600.0


class ClusterRebuild(Drill):
    """Everything of the cluster is lost, on purpose; nothing is destroyed before a backup is seen to be whole."""

    name = "cluster-rebuild"
    summary = (
        "the cluster is destroyed and made again from the store outside of it, until a recorded prediction has the same bits"
    )
    promises: ClassVar = ("cluster-rebuild", "cluster-content", "cluster-data-loss")
    needs: ClassVar = frozenset({Capability.REBUILD, Capability.VOLUME_BACKUPS})

    def users(self, target: Target) -> Users:
        """Those who reach a target as its users do."""
        return users_of(target)

    def plan(self, options: Options) -> LoadPlan:
        """One writer, for longer than everything before the loss can take."""
        return LoadPlan(options.rate or WRITES_PER_S, options.seconds or 7200.0, options.seed)

    def preflight(self, context: Context) -> str:
        """As every drill, and all that is needed afterwards is outside, answers, and is used already."""
        seen = super().preflight(context)
        for trouble in (context.target.site.trouble(), context.target.volumes.trouble()):
            if trouble:
                raise CannotRun(trouble)
        return f"{seen}; the store outside answers, Velero and pgBackRest use it"

    def steady(self, context: Context) -> str:
        """Acknowledged writes are stamped markers: the newest restored one tells what is lost."""
        run = f"{context.folder.parents[1].name}/{self.name}"
        context.load = Only(self.users(context.target).write(run, self.plan(context.options), context.folder))
        context.note(run=run, load_from=context.target.clock.wall())
        return f"a writer stamps {WRITES_PER_S:.0f} rows a second"

    def inject(self, context: Context) -> str:
        """Take what must come back; if that is whole, and its undo on disk, end the cluster."""
        target, users = context.target, self.users(context.target)
        request_id = f"drill-{uuid.uuid4()}"
        recorded = context.until(lambda: _recorded(users, request_id), within=RECORDED_WITHIN_S, what="a prediction in the log")
        context.note(request_id=request_id, recorded=recorded)
        context.say("the database's backup outside the cluster")
        context.note(archive=target.site.archive())
        if wrong := self._back_up(context):
            context.note(refused=f"nothing was destroyed, for the backup is not whole: {told(wrong[0])}")
            return str(context.facts["refused"])
        target.clock.sleep(WRITE_ON_S)
        if context.load is None or not context.load.running():
            raise StepFailed("the writer ended before the cluster did, so that nobody would know what is lost")
        backup, identity, doors = _name(context), target.site.identity(), target.site.doors()
        undo = Undo(REBUILD, {"identity": identity, "backup": backup}, f"make the cluster again from backup {backup}")
        context.ledger.plan(undo)
        began = target.clock.now()
        context.note(
            doors=doors, lost_at=target.clock.wall(), fault="the cluster is destroyed", fault_at=began,
        )  # fmt: skip
        target.site.destroy()
        return f"the cluster was destroyed in {show(target.clock.now() - began, Unit.SECONDS)}   undo: {undo.sentence}"

    def prove_injected(self, context: Context) -> str:
        """Who connects anew finds neither the API server nor the edge."""
        if "refused" in context.facts:
            return "nothing to prove"
        doors = context.facts["doors"]
        context.effect(
            lambda: _gone(context, doors), within=GONE_WITHIN_S, what="nobody to answer at the doors of the cluster", every=1.0
        )
        context.note(gone_at=context.target.clock.now())
        return f"nobody answers at {' and '.join(doors)}"

    def recover(self, context: Context) -> str:
        """Make it again, until a user has the answer that he once got; then look at everything."""
        if "refused" in context.facts:
            return "there is nothing to make again"
        facts, clock = context.facts, context.target.clock
        if context.load is not None:
            context.load.stop()
        undo = context.ledger.pending()[0].undo.arguments
        try:
            rebuild(context.target, undo["backup"], context.say, context.note, lost=undo["identity"])
            self._look(context)
            context.note(concluded="")
        except SreError as error:
            # Unlike an interrupt, a rebuild that fails has a verdict.
            context.note(concluded=str(error))
        context.note(watched=clock.now() - facts["fault_at"])
        phases = ", ".join(f"{name} {show(seconds, Unit.SECONDS)}" for name, seconds in facts.get("phases", {}).items())
        return f"{facts['concluded'] or 'everything was looked at'}; {phases}"

    def judge(self, case: Case) -> Judgement:
        """The time to a bit-equal prediction, whether everything is back, and what was lost in time."""
        facts = case.facts
        reached = case.reach() if "gone_at" in facts else None
        if "taken" not in facts or ("gone_at" not in facts and "refused" not in facts):
            return Judgement(())
        found = list(_findings(facts, reached))
        compared = len(own(facts["taken"]["archived"])) + len(judges.judged(facts["before"], facts["after"]))
        kept = f"{compared} objects are there unaltered, no row is missing before the newest, and a prediction has the same bits"
        verdicts: list[Verdict] = []
        if "gone_at" in facts:
            verdicts.append(_time(facts))
        verdicts.append(ruled(promise("cluster-content"), found, compared if "contents" in facts else 0, kept))
        if reached is not None:
            verdicts.append(data_loss(promise("cluster-data-loss"), reached))
        return Judgement(tuple(verdicts), tuple(map(told, found)))

    def _back_up(self, context: Context) -> list[Finding]:
        """Note a backup by Velero and the objects around it; what is wrong with it."""
        target = context.target
        watch = velero.Watch(target.volumes, target.clock, BACKUP_WITHIN_S, context.say)
        context.say("reading every object of the store")
        context.note(before=target.site.contents())
        taken = velero.back_up(watch, _name(context), NAMESPACES)
        context.note(taken=taken, databases=target.volumes.databases(), after=target.site.contents())
        return list(judges.backup(taken, context.facts["databases"]))

    def _look(self, context: Context) -> None:
        """A user's answer first, for only then the time ends."""
        target, clock, users = context.target, context.target.clock, self.users(context.target)
        answer: dict[str, Any] = {}

        def look() -> tuple[bool | None, str]:
            before = clock.now()
            answer.update(users.repeat(context.facts["request_id"]))
            context.note(prediction=dict(answer))
            if list(judges.prediction(answer)):
                context.note(unserved_at=before)
                return None, str(answer["why"])
            return True, ""

        try:
            context.until(look, within=SERVED_WITHIN_S, what="the recorded prediction to be repeated", every=1.0)
            context.note(served_at=clock.now())
        except StepFailed as error:
            context.say(str(error))
        history_files.write_rows(context.folder, users.rows(context.facts["run"]))
        context.say("reading every object of the rebuilt store")
        context.note(contents=target.site.contents())
        context.note(living=dict(target.volumes.living(NAMESPACES).items))


def _findings(facts: Mapping[str, Any], reached: Reach | None) -> Iterator[Finding]:
    yield from judges.backup(facts["taken"], facts["databases"])
    if facts.get("concluded"):
        yield Finding("rebuild-failed", "rebuild", facts["concluded"])
    if "brought" in facts and "living" in facts:
        yield from judges.restore(facts["taken"], facts["brought"], facts["living"])
    if "prediction" in facts:
        yield from judges.prediction(facts["prediction"])
    if "contents" in facts:
        yield from judges.objects(facts["before"], facts["after"], facts["contents"])
    if reached is not None:
        yield from judges.rows(reached)


def _time(facts: Mapping[str, Any]) -> Verdict:
    """Counted from the begin of the destruction; the interval begins where the cluster was seen gone and a user unserved."""
    event = f"a bit-equal prediction (our aim is {RTO_AIM_S / 60:.0f} min)"
    row, began = promise("cluster-rebuild"), facts["fault_at"]
    seconds = facts["served_at"] - began if "served_at" in facts else None
    since = None
    if seconds is not None:
        since = min(max(0.0, facts.get("unserved_at", facts["served_at"]) - facts["gone_at"]), seconds)
    return recovery(row, seconds, watched=facts.get("watched", 0.0), event=event, since=since)


def _recorded(users: Users, request_id: str) -> tuple[dict[str, Any] | None, str]:
    try:
        return users.record(request_id), ""
    except StepFailed as error:
        return None, str(error)


def _gone(context: Context, doors: tuple[str, ...]) -> tuple[bool | None, str]:
    answering = context.target.site.answering(doors)
    return (None, f"{answering} still answers") if answering else (True, "")


def _name(context: Context) -> str:
    """Of the backup, made from the run's."""
    return f"rebuild-{context.folder.parents[1].name.partition('-')[0].lower()}"
