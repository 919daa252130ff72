"""Who gets how much of the memory target's traffic: a canary and its control beside the simulated replicas."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from sre.errors import StepFailed, UsageError
from sre.readings import Replica, Split
from sre.targets.base import check_shares
from sre.targets.simulation import Floats, Process, SimulatedReplica, VirtualClock

CANARY, CONTROL = 0, 1
BEGIN_WITHIN_S = 120.0
_FIRST_PID = 500
# Irrational multiples of the moment at which a request is sent: as good as chance, and the same in every run.
_ARM, _FAILURE = 1e4 * (5**0.5 - 1) / 2, 1e4 * 2**0.5


class CanaryBehaviour(Protocol):
    """How a simulated canary behaves; see `memory.Behaviour`."""

    versions: tuple[str, ...]
    router_works: bool
    canary_startup_s: float
    canary_failing: float


class MemoryRouter:
    """Splits the traffic of a memory target; see `targets.base.Router`.

    Attributes:
        arms: canary and control, with every process that they ever had.
    """

    def __init__(self, clock: VirtualClock, behaviour: CanaryBehaviour) -> None:
        self.arms = (SimulatedReplica("canary-1", []), SimulatedReplica("control-1", []))
        self._clock, self._behaviour = clock, behaviour
        self._production = behaviour.versions[0]
        self._version = ""
        self._begun = self._failing = 0.0
        # Since when, shares of canary and control, share of the canary's answers that fail.
        self._history = [(-np.inf, 0.0, 0.0, 0.0)]

    def begin(self, version: str) -> None:
        """Start canary and control."""
        self._may_change()
        self._known(version)
        if self._version:
            raise UsageError(f"version {self._version} is a canary already; end it first")
        now, startup_s = self._clock.now(), self._behaviour.canary_startup_s
        self._version, self._begun, self._failing = version, now, self._behaviour.canary_failing
        for number, arm in enumerate(self.arms):
            arm.processes.append(Process(_FIRST_PID + len(arm.processes) * len(self.arms) + number, now, now + startup_s))
        self._clock.sleep(min(startup_s, BEGIN_WITHIN_S))
        if startup_s > BEGIN_WITHIN_S:
            raise StepFailed(f"canary-1 was not ready within {BEGIN_WITHIN_S:.0f} s (last seen: {self.replicas()[CANARY]})")

    def shift(self, canary: float, control: float) -> None:
        """Give each its share from now on."""
        self._may_change()
        self._begun_already()
        check_shares(canary, control)
        self._history.append((self._clock.now(), canary, control, self._failing))

    def split(self) -> Split | None:
        """What is in force just now."""
        if not self._version:
            return None
        _, canary, control, _ = self._history[-1]
        return Split(self._version, self._production, canary, control, self.replicas())

    def promote(self) -> None:
        """Put the candidate into production."""
        self._may_change()
        self._begun_already()
        self._production = self._version

    def demote(self, version: str) -> None:
        """Put a version into production that was there before."""
        self._may_change()
        self._known(version)
        self._production = version

    def end(self) -> None:
        """Take the traffic back and end both."""
        self._may_change()
        now = self._clock.now()
        if self._version:
            self._history.append((now, 0.0, 0.0, 0.0))
        for process in (process for arm in self.arms for process in arm.processes):
            process.died = min(process.died, now)
        self._version = ""

    def replicas(self) -> tuple[Replica, ...]:
        """Canary and control; none while there is no canary."""
        now = self._clock.now()
        if not self._version:
            return ()
        # One that was to be born when its canary had ended was never there.
        again = [sum(self._begun < each.born <= now and each.born < each.died for each in arm.processes) for arm in self.arms]
        return tuple(
            Replica(arm.name, arm.identity(now), arm.ready(now), restarts) for arm, restarts in zip(self.arms, again, strict=True)
        )

    def chosen(self, sent: Floats) -> npt.NDArray[np.int64]:
        """Which arm requests sent at these moments are for, by its index in `arms`; -1 for neither: shape (n,)."""
        _, canary, control, _ = self._in_force(sent)
        drawn = (sent * _ARM) % 1.0
        return np.where(drawn < canary, CANARY, np.where(drawn < canary + control, CONTROL, -1))

    def failing(self, sent: Floats) -> npt.NDArray[np.bool_]:
        """Which requests sent at these moments fail if the canary answers them: shape (n,)."""
        failing: npt.NDArray[np.bool_] = (sent * _FAILURE) % 1.0 < self._in_force(sent)[3]
        return failing

    def _in_force(self, sent: Floats) -> Floats:
        history = np.array(self._history).T
        found: Floats = history[:, np.searchsorted(history[0], sent, side="right") - 1]
        return found

    def _may_change(self) -> None:
        if not self._behaviour.router_works:
            raise StepFailed("the router changes nothing just now: it was told to refuse")

    def _known(self, version: str) -> None:
        if version not in self._behaviour.versions:
            raise UsageError(f"the registry has no version {version!r}; it has {', '.join(self._behaviour.versions)}")

    def _begun_already(self) -> None:
        if not self._version:
            raise UsageError("there is no canary; begin one first")
