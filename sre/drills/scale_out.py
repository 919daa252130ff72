"""`scale-out`: a load that needs more replicas, and its end; how many there were meanwhile."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.errors import CannotRun, StepFailed
from sre.judges.scaling import DOWN_S, ScaleLook, scaling
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.base import Capability

LOOK_EVERY_S = 1.0
# An autoscaler looks back over five minutes before it removes the first.
LOOKS_BACK_S = 300.0
SLACK_S = 120.0


class ScaleOut(Drill):
    """No fault: the load is the test."""

    name = "scale-out"
    summary = "replicas follow a load that needs more of them"
    promises: ClassVar = ("scale-out",)
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.SCALING})

    def plan(self, options: Options) -> LoadPlan:
        """Long enough for some steps of 30 s."""
        return LoadPlan(options.rate or 700.0, options.seconds or 180.0, options.seed)

    def steady_seconds(self, options: Options) -> float:
        """None of it: the first seconds count."""
        del options
        return 0.0

    def preflight(self, context: Context) -> str:
        """As every drill, and there are no more replicas than there must be."""
        scale = context.target.scale()
        if scale.wanted > scale.least or scale.least == scale.most:
            raise CannotRun(
                f"{scale.wanted} replicas are wanted, of {scale.least} to {scale.most}; wait until an earlier load is forgotten"
            )
        return f"{super().preflight(context)}, {scale.least} of {scale.least} to {scale.most}"

    def recover(self, context: Context) -> str:
        """Look until the load has ended, and then until the replicas that it needed are gone."""
        clock, load = context.target.clock, context.load
        if load is None:
            raise StepFailed("there is no load")
        looks = [self._look(context)]
        while load.running():
            clock.sleep(LOOK_EVERY_S)
            looks.append(self._look(context))
            context.say(f"{looks[-1].ready} ready, {looks[-1].wanted} wanted; {load.progress()}")
        ended = clock.now()
        load.wait()
        scale = context.target.scale()
        peak = max(look.wanted for look in looks)
        deadline = ended + LOOKS_BACK_S + (peak - scale.least) * DOWN_S + SLACK_S
        # One look more than asked for: the judge wants to see what came after the load.
        while True:
            clock.sleep(LOOK_EVERY_S)
            looks.append(self._look(context))
            if (looks[-1].wanted, looks[-1].ready) == (scale.least, scale.least) or clock.now() > deadline:
                break
            context.say(f"{looks[-1].ready} ready, {looks[-1].wanted} wanted, {deadline - clock.now():.0f} s left")
        context.note(
            looks=[[look.at, look.wanted, look.ready] for look in looks], load_ended=ended, least=scale.least, most=scale.most
        )
        return f"{scale.least} replicas, {peak} wanted under the load, {looks[-1].ready} at the end"

    def judge(self, case: Case) -> Judgement:
        """The steps from the looks."""
        if "looks" not in case.facts:
            return Judgement(())
        looks = [ScaleLook(at, wanted, ready) for at, wanted, ready in case.facts["looks"]]
        verdict = scaling(
            promise("scale-out"), looks, ended=case.facts["load_ended"], least=case.facts["least"], most=case.facts["most"]
        )
        return loaded.judgement(case, [], [verdict])

    def _look(self, context: Context) -> ScaleLook:
        scale = context.target.scale()
        return ScaleLook(context.target.clock.now(), scale.wanted, scale.ready)
