"""Losing a node: its power, its cable, its agent, or in good order."""

from __future__ import annotations

from dataclasses import dataclass

from sre.errors import UsageError
from sre.faults.base import Undo
from sre.targets.base import Target

# What is done to a node, and what takes it back; `{}` is the node.
KINDS = {
    "power-off": ("power off of {}", "switch {} on again"),
    "cut": ("pulled cable of {}", "put the cable of {} back"),
    "kubelet": ("stopped kubelet of {}", "start the kubelet of {} again"),
    "drain": ("drain of {}", "let {} take pods again"),
}


@dataclass(frozen=True, slots=True)
class LoseNode:
    """A node and how it is lost.

    Attributes:
        target: with nodes.
        node: its name.
        how: one of `KINDS`.
    """

    target: Target
    node: str
    how: str

    @property
    def name(self) -> str:
        """For people."""
        return KINDS[self.how][0].format(self.node)

    @property
    def undo(self) -> Undo:
        """Bring it back, and wait until all of it works."""
        return Undo("bring-node-back", {"node": self.node, "how": self.how}, KINDS[self.how][1].format(self.node))

    def inject(self) -> None:
        """Lose it."""
        self.target.nodes.lose(self.node, self.how)


def lost(target: Target, node: str, how: str) -> LoseNode:
    """The fault of these names, on a target that can take it back too: an undo that cannot succeed may not be planned.

    Raises:
        UsageError: there is no such way, or no such node.
        CannotRun: the target cannot do it, or cannot take it back.
    """
    if how not in KINDS:
        raise UsageError(f"a node cannot be lost by {how!r}; there are {', '.join(KINDS)}")
    names = [one.name for one in target.nodes.all()]
    if node not in names:
        raise UsageError(f"node {node!r} does not exist; there are {', '.join(names) or 'none'}")
    target.nodes.check(how)
    return LoseNode(target, node, how)
