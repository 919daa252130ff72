"""Who can reach whom inside a cluster: what a target does to find out, and the memory target's way of pretending it."""

from __future__ import annotations

from typing import Protocol

from sre.judges.manifests import ways
from sre.judges.manifests.flows import Flow
from sre.judges.network import OPEN
from sre.readings import Try


class Network(Protocol):
    """Probes: one in the clothes of every role, which ask every server. They are named, so that others can take them away."""

    def begin(self) -> tuple[str, ...]:
        """Start them, and return whose clothes they wear, as `namespace/workload`.

        Raises:
            CannotRun: they cannot be made.
        """
        ...

    def waiting(self) -> str:
        """What must still happen before they can ask, in words; empty when they can."""
        ...

    def tries(self) -> tuple[Try, ...]:
        """Let every probe ask every server, and what lies beyond the workloads. Raises StepFailed when one cannot ask."""
        ...

    def listening(self) -> tuple[tuple[str, int], ...]:
        """Pods of servers and the ports at which their own kernel says that somebody listens to others."""
        ...

    def end(self) -> None:
        """Begin to delete all of them, also those of a process that is gone. Has no effect when there are none."""
        ...

    def left(self) -> str:
        """Which of them there are still, in words; empty when there is none."""
        ...


class NetworkBehaviour(Protocol):
    """How a simulated network behaves; see `memory.Behaviour`."""

    probes_start: bool
    ways_opened: tuple[tuple[str, str, int], ...]
    ways_closed: tuple[tuple[str, str, int], ...]
    servers_silent: tuple[str, ...]


class MemoryNetwork:
    """See `Network`: every way is as it should be, but for what the behaviour says."""

    def __init__(self, behaviour: NetworkBehaviour) -> None:
        self._behaviour = behaviour
        self._roles: tuple[str, ...] = ()

    def begin(self) -> tuple[str, ...]:
        """One for every workload that may ask something, the guests and a stranger."""
        guests = sorted({f"{place}/{ways.GUEST}" for place, _, _ in ways.OUTSIDE})
        self._roles = (*ways.WAYS, "monitoring/alertmanager", "monitoring/kube-state-metrics", *guests, ways.STRANGER)
        return self._roles

    def waiting(self) -> str:
        """Nothing, or everything."""
        return "" if self._roles and self._behaviour.probes_start else "no probe runs"

    def tries(self) -> tuple[Try, ...]:
        """As the table has it."""
        outside = {(to, port) for _, to, port in ways.OUTSIDE}
        servers = sorted({to for found in ways.WAYS.values() for to in found} | outside | {("monitoring/prometheus", 9090)})
        beyond = [(ways.DNS, 53), (ways.API_SERVER, 443), (ways.METADATA, 80), (ways.NODE, 10250), (ways.ELSEWHERE, 8080)]
        return tuple(
            Try(role, to, _pod(to), port, self._answer(role, to, port))
            for role in self._roles
            for to, port in (*servers, *beyond)
        )

    def listening(self) -> tuple[tuple[str, int], ...]:
        """All that are not silent; nobody is where clouds give out credentials."""
        silent = {ways.METADATA, *self._behaviour.servers_silent}
        return tuple(sorted({(one.at, one.port) for one in self.tries() if one.to not in silent}))

    def end(self) -> None:
        """At once."""
        self._roles = ()

    def left(self) -> str:
        """All or none."""
        return f"{len(self._roles)} probes" if self._roles else ""

    def _answer(self, role: str, to: str, port: int) -> str:
        way = Flow(role, to, port)
        may = (
            ways.may(way, ways.allowed([role]))
            or (role == ways.STRANGER and to.startswith(f"{ways.BEYOND}/"))
            or way in self._behaviour.ways_opened
        )
        silent = to == ways.METADATA or to in self._behaviour.servers_silent or way in self._behaviour.ways_closed
        return OPEN if may and not silent else "Connection refused"


def _pod(to: str) -> str:
    return f"{to.rpartition('/')[2]}-0"
