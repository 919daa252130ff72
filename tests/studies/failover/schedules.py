"""What a seed stands for: which faults hit whom, when and for how long. A pure function, so that a schedule can be run again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

LAST_START_SECONDS = 15.0
FIRST_START_SECONDS = 5.0  # writes flow undisturbed for this long: the steady rate rests on it


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault.

    Attributes:
        victims: roles to choose from; who holds one is found when the fault begins.
        seconds: shortest and longest duration, s; two zeros for what ends by itself.
    """

    victims: tuple[str, ...]
    seconds: tuple[float, float]


_DATABASE = ("primary", "primary", "standby-1", "standby-2")  # the primary twice as often as each other: it is where loss begins
_ETCD = ("etcd-1", "etcd-2", "etcd-3")

# Durations reach from shorter than a lease to longer than a failover, so that some faults end while the cluster is in between.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "sigkill": Kind(_DATABASE, (0.0, 0.0)),
        "sigstop": Kind(_DATABASE, (2.0, 40.0)),
        "member-lost": Kind(_DATABASE, (5.0, 40.0)),
        "network-cut": Kind(_DATABASE, (2.0, 40.0)),
        "etcd-member": Kind(_ETCD, (5.0, 40.0)),
        "etcd-quorum": Kind(("etcd",), (2.0, 40.0)),
        "disk-full": Kind(_DATABASE, (5.0, 20.0)),
        "replica-lag": Kind(("standby-1", "standby-2"), (5.0, 30.0)),
        "switchover": Kind(("primary",), (0.0, 0.0)),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One fault of a schedule.

    Attributes:
        at_s: when it begins, s after the first acknowledged write.
        kind: a key of KINDS.
        victim: the role that it hits.
        seconds: until it is taken back, s; 0.0 when it ends by itself.
    """

    at_s: float
    kind: str
    victim: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The faults of one seed, in order of time: one, or two of which the second may hit a cluster that still recovers."""

    seed: int
    faults: tuple[Fault, ...]

    @property
    def ends_s(self) -> float:
        """When the last fault is over, s."""
        return max(fault.at_s + fault.seconds for fault in self.faults)


def schedule(seed: int) -> Schedule:
    """The schedule of a seed. Consecutive seeds go through all kinds in turn."""
    chance = random.Random(f"failover-{seed}")
    kinds = [tuple(KINDS)[seed % len(KINDS)]]
    if chance.random() < 0.5:
        kinds.append(chance.choice(tuple(KINDS)))
    faults = [_fault(kind, chance, number) for number, kind in enumerate(kinds)]
    return Schedule(seed=seed, faults=tuple(sorted(faults)))


def kill(seed: int) -> Schedule:
    """One SIGKILL of the primary, at a moment that the seed decides."""
    at = random.Random(f"kill-{seed}").uniform(FIRST_START_SECONDS, FIRST_START_SECONDS + 3.0)
    return Schedule(seed=seed, faults=(Fault(at_s=round(at, 3), kind="sigkill", victim="primary", seconds=0.0),))


def _fault(kind: str, chance: random.Random, number: int) -> Fault:
    earliest = FIRST_START_SECONDS if number == 0 else FIRST_START_SECONDS + 1.0
    latest = FIRST_START_SECONDS + 3.0 if number == 0 else LAST_START_SECONDS
    return Fault(
        at_s=round(chance.uniform(earliest, latest), 3),
        kind=kind,
        victim=chance.choice(KINDS[kind].victims),
        seconds=round(chance.uniform(*KINDS[kind].seconds), 3),
    )
