"""What every kind of metric answers to the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sre.judges.canary.decision import MetricStanding
from sre.judges.canary.observation import Observation
from sre.judges.canary.rules import MetricRule, StageRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Where a metric stands, and what the gate must know besides.

    Attributes:
        standing: with the numbers.
        compared: whether `log_e_worse` is evidence, and thus one of those that are averaged.
        breach: a bound that was exceeded, a sentence; it rolls back at once.
        doubt: why its evidence must not be used, a sentence with the remedy; it then counts neither for nor against.
        needs: what a promotion still waits for, a sentence; empty when nothing is known to help.
        split_matters: whether a canary that gets fewer requests than planned could look worse for that alone.
    """

    standing: MetricStanding
    compared: bool = True
    breach: str | None = None
    doubt: str | None = None
    needs: str = ""
    split_matters: bool = False


class Metric(Protocol):
    """One metric over the stages of a rollout."""

    rule: MetricRule

    def begin(self, stage: StageRule) -> None:
        """Begin a stage."""
        ...

    def observe(self, observation: Observation) -> str | None:
        """Count what was seen since the look before.

        Returns:
            Why nothing was counted: what is seen contradicts itself, or what was seen before. One sentence.
        """
        ...

    def judged(self) -> Judged:
        """Where it stands now."""
        ...
