"""Faults of serving replicas, and their replacement in good order."""

from __future__ import annotations

from dataclasses import dataclass

from sre.faults.base import Undo
from sre.targets.base import Target


@dataclass(frozen=True, slots=True)
class KillReplica:
    """End a replica at once. The platform starts it again; the undo waits until it has."""

    target: Target
    replica: str

    @property
    def name(self) -> str:
        """For people."""
        return f"SIGKILL {self.replica}"

    @property
    def undo(self) -> Undo:
        """Wait for the platform."""
        return Undo("await-ready", {"replica": self.replica}, f"wait until {self.replica} is ready again")

    def inject(self) -> None:
        """Kill it."""
        self.target.kill(self.replica)


@dataclass(frozen=True, slots=True)
class PauseReplica:
    """Freeze a replica: connections are accepted and nothing is answered, the failure that a crash check does not see."""

    target: Target
    replica: str

    @property
    def name(self) -> str:
        """For people."""
        return f"SIGSTOP {self.replica}"

    @property
    def undo(self) -> Undo:
        """Let it run again."""
        return Undo("resume", {"replica": self.replica}, f"resume {self.replica}")

    def inject(self) -> None:
        """Freeze it."""
        self.target.pause(self.replica)


@dataclass(frozen=True, slots=True)
class RollOut:
    """Replace every replica, one after another. There is nothing to take back; the undo waits until it is over."""

    target: Target

    @property
    def name(self) -> str:
        """For people."""
        return "rolling update of every replica"

    @property
    def undo(self) -> Undo:
        """Wait for the platform."""
        return Undo("await-replicas", {}, "wait until every replica is ready")

    def inject(self) -> None:
        """Begin it."""
        self.target.roll_out()
