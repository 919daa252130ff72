"""A database cluster that is simulated in virtual time, and its clients: for tests of faults and drills."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sre.errors import StepFailed, UsageError
from sre.judges.history import Attempt, Fate, Key, Row
from sre.load.ledger_file import LedgerFile, read
from sre.load.writers import LEDGER_NAME
from sre.measure import samples
from sre.measure.quantiles import answered
from sre.readings import LoadPlan, Member
from sre.targets.base import Capability
from sre.targets.memory import Behaviour, MemoryTarget
from sre.targets.simulation import VirtualClock

ANSWER_S, REFUSAL_S = 0.004, 1.0


@dataclass(slots=True)
class Manners:
    """How the simulated cluster can disappoint; the defaults keep every promise.

    Attributes:
        bites: False: faults report success and change nothing.
        outage_s: from a fault of the primary or of the synchronous standby until writes are taken again, s.
        heals: False: what was hurt stays so after every repair.
        synchronous: whether there is a synchronous standby.
        takes: False: no write is ever acknowledged.
        lost: acknowledged rows that are not there afterwards.
        unrecorded: answered predictions that the log does not hold.
        dropped: counted by the replicas at the end; None when Prometheus cannot say.
    """

    bites: bool = True
    outage_s: float = 4.0
    heals: bool = True
    synchronous: bool = True
    takes: bool = True
    lost: int = 0
    unrecorded: int = 0
    dropped: float | None = 0.0


@dataclass
class Cluster:
    """Three members; see `targets.base.DatabaseCluster`."""

    clock: VirtualClock
    manners: Manners = field(default_factory=Manners)
    names: tuple[str, ...] = ("postgres-1", "postgres-2", "postgres-3")
    order: list[str] = field(default_factory=lambda: ["postgres-1", "postgres-2", "postgres-3"])  # primary, next, last
    timeline: int = 1
    starts: int = 100
    hurt: dict[str, set[str]] = field(default_factory=dict)
    stores: set[str] = field(default_factory=set)  # lost
    identities: dict[str, int] = field(default_factory=dict)
    volumes: dict[str, int] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    promotion: tuple[float, str] | None = None

    @property
    def synchronous(self) -> bool:
        return self.manners.synchronous

    def members(self) -> tuple[Member, ...]:
        self._promote()
        return tuple(self._member(name) for name in self.names)

    def primary(self) -> Member | None:
        return next((member for member in self.members() if member.role == "primary"), None)

    def store_trouble(self, member: str) -> str:
        if self._known(member) in self.stores or self.hurt.get(member, set()) & {"lose", "cut"}:
            return f"the store of {member} does not answer"
        return "the store has no quorum" if len(self.stores) > 1 else ""

    def volume(self, member: str) -> str:
        return str(self.volumes.get(self._known(member), 0))

    def lose_volume(self, member: str) -> None:
        self._hurt(member, "lose")
        if self.manners.bites:
            self.volumes[member] = self.volumes.get(member, 0) + 1

    def crash(self, member: str) -> None:
        self._hurt(member, "crash")

    def freeze(self, member: str) -> None:
        self._hurt(member, "freeze")

    def thaw(self, member: str) -> None:
        self._heal(member, "freeze")

    def lose(self, member: str) -> None:
        self._hurt(member, "lose")

    def bring_back(self, member: str) -> None:
        self._heal(member, "lose")
        self.stores.discard(member)

    def cut(self, member: str) -> None:
        self._hurt(member, "cut")

    def mend(self) -> None:
        for member in self.names:
            self._heal(member, "cut")

    def lose_store(self, members: Sequence[str]) -> None:
        if self.manners.bites:
            self.stores |= set(members)

    def refuse_writes(self, member: str) -> None:
        self._hurt(member, "refuse")

    def allow_writes(self, member: str) -> None:
        self._heal(member, "refuse")

    def hold_back(self, member: str) -> None:
        self._hurt(member, "hold")

    def catch_up(self, member: str) -> None:
        self._heal(member, "hold")

    def switch_over(self, to: str) -> None:
        if self.manners.bites:
            self.outages.append((self.clock.now(), self.clock.now() + 1.0))
            self.promotion = (self.clock.now() + 0.5, self._known(to))

    def _known(self, member: str) -> str:
        if member not in self.names:
            raise UsageError(f"database member {member!r} does not exist")
        return member

    def _hurt(self, member: str, how: str) -> None:
        if self.hurt.get(self._known(member)):
            raise StepFailed(f"{member} has no process")
        if not self.manners.bites:
            return
        now = self.clock.now()
        self.hurt.setdefault(member, set()).add(how)
        self.outages.append((now, now + self.manners.outage_s))
        if member == self.order[0] and math.isfinite(self.manners.outage_s):
            self.promotion = (now + self.manners.outage_s, self.order[1])

    def _heal(self, member: str, how: str) -> None:
        self.hurt.get(self._known(member), set()).discard(how)

    def _promote(self) -> None:
        if self.promotion is None or self.clock.now() < self.promotion[0]:
            return
        at, name = self.promotion
        self.promotion = None
        before = self.order[0]
        self.order.remove(name)
        self.order.insert(0, name)
        self.timeline += 1
        if "crash" in self.hurt.get(before, set()):
            # Its agent starts it again, as a standby.
            self.hurt[before].discard("crash")
            self.identities[before] = self.identities.get(before, 0) + 1
        assert at <= self.clock.now()

    def _member(self, name: str) -> Member:
        hurt = self.hurt.get(name, set())
        whole = not self.outages or (self.manners.heals and not hurt & {"crash", "freeze", "lose", "cut"})
        role = "primary" if name == self.order[0] else "standby"
        if role == "standby" and self.synchronous and name == self.order[1]:
            role = "sync_standby"
        identity = "" if hurt & {"crash", "lose"} else f"{self.starts + self.identities.get(name, 0)}@{name}"
        state = ("running" if role == "primary" else "streaming") if whole else "unknown"
        return Member(name, identity, role, state, self.timeline, 0)


class Writers:
    """Simulated writers: what they did is computed when somebody looks."""

    def __init__(self, cluster: Cluster, run: str, plan: LoadPlan, folder: Path, writers: int = 4) -> None:
        self._cluster, self._run, self._pause = cluster, run, writers / plan.rate
        self._ledger: LedgerFile | None = LedgerFile(folder / LEDGER_NAME)
        self._next = [(cluster.clock.now() + number / plan.rate, 0) for number in range(writers)]

    def running(self) -> bool:
        self._advance()
        return self._ledger is not None

    def stop(self) -> None:
        self._advance()
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None

    def wait(self) -> None:
        self.stop()

    def _advance(self) -> None:
        if self._ledger is None:
            return
        for writer in range(len(self._next)):
            while self._next[writer][0] + REFUSAL_S < self._cluster.clock.now():
                self._attempt(self._ledger, writer)

    def _attempt(self, ledger: LedgerFile, writer: int) -> None:
        due, seq = self._next[writer]
        wall = due + self._cluster.clock.wall() - self._cluster.clock.now()
        attempt = Attempt(key=Key(self._run, writer, seq), payload="5bf1", sent=due, sent_wall=wall)
        down = not self._cluster.manners.takes or any(begin <= due < end for begin, end in self._cluster.outages)
        took, fate = (REFUSAL_S, Fate.FAILED) if down else (ANSWER_S, Fate.ACKED)
        ledger.sent(attempt)
        ledger.answered(replace(attempt, done=due + took, done_wall=wall + took, fate=fate))
        self._next[writer] = (due + max(took, self._pause), seq + 1)


class ClusterTarget(MemoryTarget):
    """A simulated system with a cluster, and the clients of the cluster."""

    capabilities = MemoryTarget.capabilities | {Capability.DATABASE_CLUSTER, Capability.CABLES, Capability.STORES}

    def __init__(self, manners: Manners | None = None, behaviour: Behaviour | None = None) -> None:
        super().__init__(behaviour)
        self.manners = manners or Manners()
        self.cluster = Cluster(self.clock, self.manners)
        self._folder = Path()
        self._asked = 0

    @property
    def database(self) -> Cluster:
        return self.cluster

    def write(self, run: str, plan: LoadPlan, folder: Path) -> Writers:
        self._folder = folder
        return Writers(self.cluster, run, plan, folder)

    def rows(self, run: str) -> list[Row]:
        acked = [attempt for attempt in read(self._folder / LEDGER_NAME) if attempt.fate is Fate.ACKED]
        assert all(attempt.key.run == run for attempt in acked)
        return [Row(attempt.key, attempt.payload) for attempt in acked[self.manners.lost :]]

    def asked(self, member: str) -> str:
        return "no answer" if self.cluster.hurt.get(member, set()) & {"crash", "freeze", "lose", "cut"} else ""

    def refused(self, member: str) -> str:
        return "no space" if "refuse" in self.cluster.hurt.get(member, set()) else self.asked(member)

    def received(self, member: str) -> int | None:
        return 7 if "hold" in self.cluster.hurt.get(member, set()) else self.written(member)

    def written(self, member: str) -> int | None:
        del member
        return int(1000 * self.clock.now())

    def recorded(self, since: float) -> int:
        del since
        _, found = samples.read(self._folder)
        return int(np.count_nonzero(answered(found))) - self.manners.unrecorded

    def dropped(self) -> float | None:
        # Nothing is dropped before the fault.
        return self.manners.dropped if self.cluster.outages or self.manners.dropped is None else 0.0
