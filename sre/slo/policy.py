"""The error-budget policy: what is left of the budgets, and how fast they go, decides what may ship.

FREEZE while a budget is spent or goes at a pace that pages: only what mends the service ships. SLOW while little is left, or it
goes at a pace that makes a ticket. SHIP otherwise. Without data nobody may conclude that there is budget: UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sre import documents
from sre.clock import iso
from sre.config import PROJECT
from sre.errors import ExitCode, UsageError
from sre.slo import overrides
from sre.slo.overrides import Override
from sre.slo.standing import Standing, Unknown
from sre.slo.windows import Severity
from sre.units import Comparison, Unit, parse_ratio, show

POLICY = PROJECT / "experiments" / "slo-policy.yaml"


def _ratio(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError("write a percentage, as 25%")  # noqa: TRY004 - pydantic collects ValueError
    try:
        return parse_ratio(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _duration(value: Any) -> float:
    return documents.duration(value, "72h")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limit(_Part):
    """What brings a decision about.

    Attributes:
        budget_left: when so little or less is left, 0 to 1.
        burning: while alerts of these severities fire.
    """

    budget_left: Annotated[float, BeforeValidator(_ratio)]
    burning: list[Annotated[Severity, Field(strict=False)]]


class Policy(_Part):
    """The policy of all objectives of a file.

    Attributes:
        freeze, slow: limits.
        longest_override: that one person may decide, s.
    """

    schema_: Literal["sre.slo-policy/1"] = Field(alias="schema")
    freeze: Limit
    slow: Limit
    longest_override: Annotated[float, BeforeValidator(_duration)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.slow.budget_left < self.freeze.budget_left:
            raise ValueError("slow.budget_left is below freeze.budget_left, so that nothing would ever be slow; raise it")
        return self


class Decision(StrEnum):
    """What may ship. SHIP: everything. SLOW: one change at a time, none of high risk. FREEZE: only what mends the service."""

    SHIP = "SHIP"
    SLOW = "SLOW"
    FREEZE = "FREEZE"
    UNKNOWN = "UNKNOWN"

    @property
    def exit_code(self) -> ExitCode:
        """The exit status that says the same."""
        return {Decision.FREEZE: ExitCode.BROKEN, Decision.UNKNOWN: ExitCode.INCONCLUSIVE}.get(self, ExitCode.KEPT)


# A spent budget is never hidden by a lack of data about another, and that never by budget that is left.
_PRECEDENCE = (Decision.FREEZE, Decision.UNKNOWN, Decision.SLOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the policy says of one objective.

    Attributes:
        objective: `service/name`.
        decision: what may ship.
        reasons: why, one sentence each; never empty.
        override: that lifted a freeze; None when there was none to lift, or nobody did.
    """

    objective: str
    decision: Decision
    reasons: tuple[str, ...]
    override: Override | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the policy says of all objectives together, `at` seconds since the epoch; `rulings` in their order."""

    at: float
    rulings: tuple[Ruling, ...]

    @property
    def decision(self) -> Decision:
        """The strictest; of no objective, nobody knows."""
        seen = {ruling.decision for ruling in self.rulings} or {Decision.UNKNOWN}
        return next((decision for decision in _PRECEDENCE if decision in seen), Decision.SHIP)

    @property
    def starts(self) -> bool:
        """Whether a rollout may begin: there is budget, or a person answers for it. Never without data."""
        return self.decision in {Decision.SHIP, Decision.SLOW}

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, one sentence per objective that is as strict; never empty."""
        found = [f"{one.objective}: {'; '.join(one.reasons)}" for one in self.rulings if one.decision is self.decision]
        return tuple(found) or ("there is no objective, and so no budget that anybody knows of",)


def load(path: Path = POLICY) -> Policy:
    """Read a policy.

    Raises:
        UsageError: it cannot be read or is no policy; the message names line and field.
    """
    return documents.load(path, Policy)


def answer(standings: Sequence[Standing | Unknown], policy: Policy, home: Path, at: float) -> Answer:
    """What may ship now. Whoever begins a rollout asks this, and does not begin unless the answer `starts`.

    Args:
        standings: of every objective of the service.
        policy: by which is decided.
        home: of the toolkit, where overrides are recorded.
        at: seconds since the epoch.

    Raises:
        EvidenceDamaged: the record of overrides cannot be read.
    """
    rulings = (_overridden(rule(standing, policy), standing.objective.service, home, at) for standing in standings)
    return Answer(at, tuple(rulings))


def rule(standing: Standing | Unknown, policy: Policy) -> Ruling:
    """What the policy says of one objective, overrides aside."""
    name = f"{standing.objective.service}/{standing.objective.name}"
    if isinstance(standing, Unknown):
        return Ruling(objective=name, decision=Decision.UNKNOWN, reasons=(standing.why,))
    budget = standing.budget
    if not budget.total:
        return Ruling(objective=name, decision=Decision.UNKNOWN, reasons=("no event in the whole period, so nothing was shown",))
    notes = tuple(
        f"an incident at {iso(incident.start)} cost {show(incident.cost, Unit.RATIO)} of the budget and wants a postmortem"
        for incident in standing.incidents
        if incident.large
    )
    left = f"{show(budget.left, Unit.RATIO, Comparison.AT_LEAST)} of the budget is left"
    for decision, limit in ((Decision.FREEZE, policy.freeze), (Decision.SLOW, policy.slow)):
        reached = budget.reached(1 - limit.budget_left)
        burning = [alarm.line() for alarm in standing.alarms if alarm.on and alarm.window.severity in limit.burning]
        if reached or burning:
            return Ruling(objective=name, decision=decision, reasons=(left, *burning, *notes))
        if reached is None:
            few = f"{left} by {budget.bad:,.0f} bad events of {budget.total:,.0f}, too few to say so; wait for more"
            return Ruling(objective=name, decision=Decision.UNKNOWN, reasons=(few, *notes))
    return Ruling(objective=name, decision=Decision.SHIP, reasons=(left, *notes))


def _overridden(ruling: Ruling, service: str, home: Path, at: float) -> Ruling:
    if ruling.decision is not Decision.FREEZE or (override := overrides.active(home, service, at)) is None:
        return ruling
    lifted = f"{override.who} lets it ship until {iso(override.until)}: {override.why}"
    return replace(ruling, decision=Decision.SLOW, reasons=(lifted, *ruling.reasons), override=override)
