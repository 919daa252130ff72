"""One look after the other, judged: raw samples in, what is to be done out. The same looks give the same answers.

A rollout under way, one that is resumed and one that is replayed all go through here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sre.canary.counting import Counting
from sre.canary.plan import REQUESTS, Plan
from sre.canary.reading import Look
from sre.judges.canary.decision import Action, Standing
from sre.judges.canary.gate import Gate
from sre.judges.canary.observation import Crashes, Interval, Missing, Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a look came to.

    Attributes:
        interval: what was counted.
        standing: of the gate.
        action: what is to be done, which for want of data is more than the gate says.
        why: all reasons, for people.
        late: whether the stage is past its deadline without a decision.
    """

    interval: Interval
    standing: Standing
    action: Action
    why: str
    late: bool

    @property
    def brief(self) -> str:
        """The first reason."""
        return self.standing.reasons[0] if self.action is self.standing.action else self.why


class Judge:
    """Judges the looks of one rollout.

    Args:
        plan: of the canary.
        start: instant from which on is counted, seconds since the epoch.
    """

    def __init__(self, plan: Plan, start: float) -> None:
        self._plan = plan
        self._counting = Counting(plan, start)
        self._rules = plan.rules()
        self._gate = Gate(self._rules)
        self._whole_until = start
        self._stage = -1

    @property
    def since(self) -> float:
        """How far back the next look has to reach, seconds since the epoch."""
        return self._counting.since

    def look(self, look: Look, *, extended_s: float = 0.0) -> Judged:
        """Judge one more look.

        The first look of a stage is not counted but for crashes: the weights changed within it.

        Args:
            look: after the last.
            extended_s: for how long people let the stage go on beyond its deadline.
        """
        interval = self._counting.look(look)
        if not interval.missing:
            self._whole_until = interval.end
        blind = interval.end - self._whole_until
        if interval.stage != self._stage:
            self._stage = interval.stage
            interval = self._unsettled(interval)
        standing = self._gate.look(interval)
        late = standing.stage_s >= self._rules.stages[interval.stage].at_most_s + extended_s and standing.action is Action.HOLD
        action, why = standing.action, "; ".join(standing.reasons)
        if action is Action.HOLD and blind >= self._plan.no_data.rollback_after:
            action, why = Action.ROLLBACK, f"no data for {blind:g} s in one go: {why}"
        elif late and self._plan.at_deadline == "rollback":
            action = Action.ROLLBACK
        return Judged(interval=interval, standing=standing, action=action, why=why, late=late)

    def _unsettled(self, interval: Interval) -> Interval:
        names = [REQUESTS, *(rule.name for rule in self._rules.metrics)]
        crashes = {name: found for name, found in interval.observations.items() if isinstance(found, Crashes)}
        why = "the weights changed within this look, so it is not counted; wait for the next"
        missing = (Missing(name, Trouble.PARTIAL, f"{name}: {why}") for name in names if name not in crashes)
        return replace(interval, observations=crashes, missing=tuple(missing))
