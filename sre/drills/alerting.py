"""`alerting`: replicas freeze; the alert must fire in Alertmanager, name its runbook, and resolve after the repair."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded, replicas
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.drills.lifecycle import require_load
from sre.errors import StepFailed
from sre.judges.recovery import recovery
from sre.promises import promise
from sre.readings import Alert, LoadPlan
from sre.targets.base import Capability
from sre.units import Unit, show

ALERT = "LowReplicaCount"
# Half as long again as the bound: a late alert is measured, not just missed.
WATCH_S = 180.0
EFFECT_WITHIN_S = 10.0


class Alerting(Drill):
    """SIGSTOP of one replica, and of as many as an autoscaler has added: no process ended, so only monitoring can notice."""

    name = "alerting"
    summary = "a frozen replica raises its alert, and the alert resolves"
    promises: ClassVar = ("alerting", "alert-resolution")
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.ALERTS})
    experiment = "alerting.json"

    def plan(self, options: Options) -> LoadPlan:
        """A trickle of users; the fault and not the load is judged here."""
        return LoadPlan(options.rate or 50.0, options.seconds or 2 * WATCH_S + 120.0, options.seed)

    def preflight(self, context: Context) -> str:
        """As every drill, and the alert is silent."""
        seen = super().preflight(context)
        context.until(lambda: self._silent(context), within=WATCH_S, what=f"{ALERT} to be silent beforehand", every=1.0)
        return f"{seen}, {ALERT} is silent"

    def inject(self, context: Context) -> str:
        """Choose as many that fewer answer than there must be, and run the experiment."""
        named = replicas.named(context, context.options.replica).name
        others = [one.name for one in context.target.replicas() if one.name != named]
        context.note(names=[named, *others[: replicas.spare(context)]])
        return super().inject(context)

    def variables(self, context: Context) -> dict[str, str]:
        """All of them."""
        return {"replica": ",".join(context.facts["names"])}

    def prove_injected(self, context: Context) -> str:
        """None of them answers its readiness check."""
        names = context.facts["names"]

        def frozen() -> tuple[bool | None, str]:
            ready = {item.name: item.ready for item in context.target.replicas()}
            answering = [name for name in names if ready.get(name, True)]
            return (None if answering else True), f"{' and '.join(answering)} still answers"

        context.effect(frozen, within=EFFECT_WITHIN_S, what=f"{' and '.join(names)} to stop answering")
        return f"no answer from {' and '.join(names)}"

    def recover(self, context: Context) -> str:
        """Wait for the alert, repair, and wait until it is gone."""
        clock = context.target.clock
        fault_at = context.facts["fault_at"]
        fired = self._watch(context, fault_at, active=True)
        context.note(fired_at=fired, fired_watched=clock.now() - fault_at)
        if fired is None:
            return f"{ALERT} did not fire within {clock.now() - fault_at:.0f} s"
        repaired = clock.now()
        context.ledger.replay(context.target)
        context.note(fault_end=clock.now(), repaired_at=repaired)
        resolved = self._watch(context, repaired, active=False)
        context.note(resolved_at=resolved, resolved_watched=clock.now() - repaired)
        gone = "did not resolve" if resolved is None else f"resolved {show(resolved - repaired, Unit.SECONDS)} after the repair"
        return f"{ALERT} fired after {show(fired - fault_at, Unit.SECONDS)}, {gone}"

    def judge(self, case: Case) -> Judgement:
        """Times to fire and to resolve, and the runbook's address."""
        facts = case.facts
        if "fired_watched" not in facts:
            return loaded.judgement(case, [], may_stop=True)
        fired, fault_at = facts["fired_at"], facts["fault_at"]
        verdicts = [
            recovery(
                promise("alerting"), None if fired is None else fired - fault_at, watched=facts["fired_watched"],
                event=f"{ALERT} in Alertmanager",
            )
        ]  # fmt: skip
        if "resolved_watched" in facts:
            resolved, repaired = facts["resolved_at"], facts["repaired_at"]
            seconds = None if resolved is None else resolved - repaired
            verdicts.append(
                recovery(promise("alert-resolution"), seconds, watched=facts["resolved_watched"], event=f"the end of {ALERT}")
            )
        judged = loaded.judgement(case, [], verdicts, may_stop=True)
        extra = [] if fired is None or facts.get("runbook") else [f"{ALERT} names no runbook"]
        extra += [f"{name} fired too" for name in facts.get("others", [])]
        return Judgement(judged.verdicts, (*judged.findings, *extra))

    def _watch(self, context: Context, since: float, *, active: bool) -> float | None:
        """Monotonic s at which the alert was first seen in that state; None when not within the watch."""
        clock = context.target.clock
        while clock.now() - since < WATCH_S:
            require_load(context)
            held = context.observers.alerts()
            if held is None:
                raise StepFailed("Alertmanager does not answer, so nobody can say whether the alert fires")
            if (_find(held) is not None) is active:
                if active:
                    found = _find(held)
                    context.note(
                        runbook=found.runbook_url if found else "",
                        others=sorted({alert.name for alert in held if alert.active and alert.name != ALERT}),
                    )
                return clock.now()
            context.say(f"{ALERT} {'silent' if active else 'active'}, {clock.now() - since:.0f} s")
            clock.sleep(0.5)
        return None

    def _silent(self, context: Context) -> tuple[bool | None, str]:
        held = context.observers.alerts()
        if held is None:
            return None, "Alertmanager does not answer"
        return (True, "") if _find(held) is None else (None, f"{ALERT} is active")


def _find(held: tuple[Alert, ...]) -> Alert | None:
    return next((alert for alert in held if alert.name == ALERT and alert.active), None)
