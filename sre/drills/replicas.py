"""Watching replicas until all that there were serve again, and the time that took."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sre.drills.base import Case, Context
from sre.drills.lifecycle import require_load
from sre.errors import CannotRun, StepFailed
from sre.judges.availability import none_failed
from sre.judges.ruling import doubt
from sre.measure.recovery import Observation, full_service, impact
from sre.promises import promise
from sre.readings import Replica, Scale
from sre.targets.base import Capability
from sre.units import Unit, show
from sre.verdict import Verdict

T = TypeVar("T")

HELD_S = 10.0
EFFECT_WITHIN_S = 10.0
LOOK_EVERY_S = 0.1
# Three readiness checks of one second each may time out within one look.
LONGEST_GAP_S = 4.0


def named(context: Context, name: str) -> Replica:
    """The replica of that name. Raises StepFailed when there is none."""
    replicas = context.target.replicas()
    found = next((item for item in replicas if item.name == name), None)
    if found is None:
        raise StepFailed(f"replica {name!r} does not exist; there are {', '.join(r.name for r in replicas)}")
    return found


def wanted(context: Context) -> int:
    """How many full service needs: fact `replicas`, or what an autoscaler made of it under the load until the fault."""
    scale = _scale(context)
    return int(context.facts["replicas"]) if scale is None else scale.wanted


def spare(context: Context) -> int:
    """How many more there are than there must be; none where nothing scales."""
    scale = _scale(context)
    return 0 if scale is None else max(0, len(context.target.replicas()) - scale.least)


def prove_gone(context: Context, victims: Collection[str], what: str) -> str:
    """None of these replicas answers any more.

    Args:
        context: of the drill.
        victims: identities.
        what: that is waited for.

    Raises:
        FaultWithoutEffect: one still did at the deadline.
    """

    def gone() -> tuple[str | None, str]:
        there = [item.name for item in context.target.replicas() if item.identity in victims and item.ready]
        return (None, f"{', '.join(there)} still ready") if there else (f"no answer from {', '.join(sorted(victims))}", "")

    return context.effect(gone, within=EFFECT_WITHIN_S, what=what, every=LOOK_EVERY_S)


def watch(context: Context, victims: Collection[str], within: float) -> str:
    """Look at the replicas until as many as before are ready and have stayed so.

    Args:
        context: of the drill, with facts `fault_at` and `replicas`; gets `looks`, `watched` and `fault_end`.
        victims: identities that do not count: what is lost may still be listed, and even answer, for a while.
        within: deadline, s after the fault.
    """
    clock, facts = context.target.clock, context.facts
    fault = facts["fault_at"]
    looks: list[Observation] = []
    found = None
    while found is None and clock.now() - fault < within:
        require_load(context)
        replicas = context.target.replicas()
        looks.append(Observation(clock.now(), sum(item.ready and item.identity not in victims for item in replicas)))
        found = _full_service(looks, facts)
        context.say(f"{looks[-1].ready} of {len(replicas)} replicas ready, {clock.now() - fault:.1f} s after the fault")
        clock.sleep(LOOK_EVERY_S)
    context.note(looks=[[look.at, look.ready] for look in looks], watched=clock.now() - fault)
    if found is None:
        return f"not whole again after {clock.now() - fault:.0f} s"
    context.note(fault_end=fault + found)
    return f"{looks[-1].ready} of {facts['replicas']} ready after {show(found, Unit.SECONDS)}, held {HELD_S:.0f} s"


def seconds_to_full_service(facts: Mapping[str, Any]) -> float | None:
    """From the looks that `watch` noted, s; None when it was not reached."""
    return _full_service([Observation(at, ready) for at, ready in facts["looks"]], facts)


def unnoticed(case: Case) -> Verdict:
    """That no request failed because of a change that was planned; which is only known once that was watched to its end."""
    recording, samples = case.load()
    judged = none_failed(promise("planned-changes"), recording, samples)
    if "looks" not in case.facts:
        return doubt(judged, ["nobody watched the change"])
    over = seconds_to_full_service(case.facts) is not None
    return doubt(judged, [] if over else [f"the change was not over in {show(case.facts['watched'], Unit.SECONDS)}"])


def noticed(case: Case, seconds: float | None) -> list[str]:
    """What users lost between the fault and full service, as a finding; none when they lost nothing."""
    _, samples = case.load()
    fault = case.facts["fault_at"]
    lost = impact(samples, fault=fault, end=fault + (seconds or case.facts["watched"]))
    if not lost.failed:
        return []
    share = f"{lost.failed / lost.requests:.2%}"
    return [f"users lost {lost.failed:,} of {lost.requests:,} requests between the fault and full service ({share})"]


def _scale(context: Context) -> Scale | None:
    if Capability.SCALING in context.target.capabilities:
        with suppress(CannotRun):
            return context.target.scale()
    return None


def _full_service(looks: Sequence[Observation], facts: Mapping[str, Any]) -> float | None:
    return full_service(looks, fault=facts["fault_at"], replicas=facts["replicas"], held=HELD_S, longest_gap=LONGEST_GAP_S)
