"""`secrets-rotation`: under load a user's API key is replaced by another, as its holder would do it.

The new key is listed beside the old one, clients move to it, the old one is taken out. The user is one of the drill's own, so
nobody else's key is touched, and the undo, to take that user off the list, needs no key. Both keys live in memory and in a file
of the load generator that nobody else can read; facts and ledger hold neither.
"""

from __future__ import annotations

import secrets
from typing import ClassVar

from sre.drills import loaded, replicas
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.drills.lifecycle import require_load
from sre.errors import StepFailed
from sre.faults.base import Undo
from sre.judges.availability import none_failed
from sre.judges.recovery import recovery
from sre.judges.ruling import doubt
from sre.measure.recovery import Observation, full_service
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.base import Capability
from sre.targets.keys import KNOWN, UNKNOWN

HOLDER = "secrets-rotation"
# A kubelet renews the files of a Secret when it looks at the pod again, every 60 to 90 s.
FOLLOWED_WITHIN_S = 180.0
# Twice the bound and the hold: long enough to say by how much the promise was missed.
WATCH_S = 2 * 120.0 + replicas.HELD_S
IN_FLIGHT_S = 2.0
LOOK_EVERY_S = 0.5
# All replicas are asked twice per look, and each answer may take 3 s.
LONGEST_GAP_S = 8.0


class SecretsRotation(Drill):
    """One user's key is rotated."""

    name = "secrets-rotation"
    summary = "rotation of an API key under load"
    promises: ClassVar = ("key-rotation", "key-withdrawal")
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.KEYS})

    def __init__(self) -> None:
        self._old, self._new = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.key = self._old

    def plan(self, options: Options) -> LoadPlan:
        """Longer than the drill can take."""
        return LoadPlan(options.rate or 100.0, options.seconds or FOLLOWED_WITHIN_S + WATCH_S + 120.0, options.seed)

    def preflight(self, context: Context) -> str:
        """As every drill, and no key of an earlier drill is listed."""
        seen = super().preflight(context)
        if held := context.target.keys.held(HOLDER):
            raise StepFailed(
                f"{held} API keys of {HOLDER} are listed; run `sre undo`, or take them out as runbooks/api-keys.md says"
            )
        return seen

    def steady(self, context: Context) -> str:
        """List the user, wait until every replica knows the key, begin the load with it."""
        undo = Undo("forget-keys", {"holder": HOLDER}, f"take {HOLDER} off the list of API keys")
        context.ledger.plan(undo)
        context.target.keys.grant(HOLDER, [self._old])
        self._follow(context, self._old)
        return super().steady(context)

    def inject(self, context: Context) -> str:
        """List a second key of the same user."""
        there = context.target.replicas()
        context.note(fault=f"second API key of {HOLDER}", fault_at=context.target.clock.now(), replicas=len(there))
        context.target.keys.grant(HOLDER, [self._old, self._new])
        return f"two keys of {HOLDER} are listed   undo: take {HOLDER} off the list"

    def prove_injected(self, context: Context) -> str:
        """Every replica knows both."""
        seconds = self._follow(context, self._new)
        if unknown := _without(context, self._old, KNOWN):
            raise StepFailed(f"{', '.join(unknown)} no longer knows the key from before")
        return f"every replica knows the new key after {seconds:.1f} s"

    def recover(self, context: Context) -> str:
        """Move the clients, take the old key out, and look until every replica refuses it, and takes the other, for good."""
        clock, load = context.target.clock, context.load
        if load is None:
            raise StepFailed("there is no load")
        load.show(self._new)
        clock.sleep(IN_FLIGHT_S)
        withdrawn = clock.now()
        context.target.keys.grant(HOLDER, [self._new])
        looks: list[Observation] = []
        found = None
        while found is None and clock.now() - withdrawn < WATCH_S:
            require_load(context)
            old, new = context.target.keys.ask(self._old), context.target.keys.ask(self._new)
            follow = sum(status == UNKNOWN and new.get(name) == KNOWN for name, status in old.items())
            looks.append(Observation(clock.now(), follow if old.keys() == new.keys() else 0))
            found = _followed(looks, withdrawn, len(old))
            context.say(f"{looks[-1].ready} of {len(old)} replicas refuse the old key, {clock.now() - withdrawn:.1f} s after")
            clock.sleep(LOOK_EVERY_S)
        # Nobody shows a key when the undo takes it away.
        load.stop()
        context.note(
            withdrawn_at=withdrawn,
            looks=[[look.at, look.ready] for look in looks],
            watched=clock.now() - withdrawn,
            asked=len(old),
        )
        if found is None:
            return f"the old key is not refused everywhere after {clock.now() - withdrawn:.0f} s"
        context.note(fault_end=withdrawn + found)
        return f"{looks[-1].ready} of {len(old)} replicas refuse the old key after {found:.1f} s, held {replicas.HELD_S:.0f} s"

    def judge(self, case: Case) -> Judgement:
        """That no request failed, and how long the old key lived on."""
        facts = case.facts
        if "looks" not in facts:
            return Judgement(())
        looks = [Observation(at, ready) for at, ready in facts["looks"]]
        seconds = _followed(looks, facts["withdrawn_at"], facts["asked"])
        before = [0.0, *(look.at - facts["withdrawn_at"] for look in looks)]
        since = max((at for at in before if seconds is not None and at < seconds), default=None)
        event = "the last replica refuses the old key"
        withdrawal = recovery(promise("key-withdrawal"), seconds, watched=facts["watched"], event=event, since=since)
        rotation = none_failed(promise("key-rotation"), *case.load())
        unseen = [] if seconds is not None else ["the old key was not refused everywhere"]
        return loaded.judgement(case, [], [withdrawal, doubt(rotation, unseen)], may_stop=True)

    def _follow(self, context: Context, key: str) -> float:
        """Seconds until every replica knows a key. Raises StepFailed at the deadline."""
        clock = context.target.clock
        began = clock.now()

        def known() -> tuple[bool | None, str]:
            unknown = _without(context, key, KNOWN)
            return (None if unknown else True), f"not yet {', '.join(unknown)}"

        context.until(known, within=FOLLOWED_WITHIN_S, what="every replica to know the key", every=LOOK_EVERY_S)
        return clock.now() - began


def _without(context: Context, key: str, status: int) -> list[str]:
    asked = context.target.keys.ask(key)
    return [f"{name} ({seen})" for name, seen in asked.items() if seen != status] if asked else ["any replica"]


def _followed(looks: list[Observation], withdrawn: float, asked: int) -> float | None:
    return full_service(looks, fault=withdrawn, replicas=asked, held=replicas.HELD_S, longest_gap=LONGEST_GAP_S)
