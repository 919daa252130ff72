"""Faults of serving replicas, and their replacement in good order."""

from __future__ import annotations

from dataclasses import dataclass

from sre.faults.base import Undo
from sre.targets.base import Removal, Target

REMOVALS: dict[Removal, str] = {"delete": "deletion", "evict": "eviction"}


@dataclass(frozen=True, slots=True)
class KillReplicas:
    """End replicas at once. The platform starts them again; the undo waits until it has."""

    target: Target
    replicas: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"SIGKILL {' and '.join(self.replicas)}"

    @property
    def undo(self) -> Undo:
        """Wait for the platform."""
        if len(self.replicas) > 1:
            return Undo("await-replicas", {}, "wait until every replica is ready")
        return Undo("await-ready", {"replica": self.replicas[0]}, f"wait until {self.replicas[0]} is ready again")

    def inject(self) -> None:
        """Kill them, one right after another."""
        for replica in self.replicas:
            self.target.kill(replica)


@dataclass(frozen=True, slots=True)
class PauseReplicas:
    """Freeze replicas: connections are accepted and nothing is answered, the failure that a crash check does not see."""

    target: Target
    replicas: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"SIGSTOP {' and '.join(self.replicas)}"

    @property
    def undo(self) -> Undo:
        """Let them run again."""
        return Undo("resume", {"replica": ",".join(self.replicas)}, f"resume {' and '.join(self.replicas)}")

    def inject(self) -> None:
        """Freeze them."""
        for replica in self.replicas:
            self.target.pause(replica)


@dataclass(frozen=True, slots=True)
class RemovePod:
    """Take a replica's pod away, at once or in good order. The platform begins another; the undo waits until it has."""

    target: Target
    replica: str
    how: Removal

    @property
    def name(self) -> str:
        """For people."""
        return f"{REMOVALS[self.how]} of the pod of {self.replica}"

    @property
    def undo(self) -> Undo:
        """Wait for the platform."""
        return Undo("await-ready", {"replica": self.replica}, f"wait until {self.replica} is ready again")

    def inject(self) -> None:
        """Take it away."""
        self.target.remove(self.replica, self.how)


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
