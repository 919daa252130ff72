"""Faults of the database cluster: of a member's server, host, volume, cable, disk, store, and of nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sre.errors import StepFailed, UsageError
from sre.faults.base import Undo
from sre.targets.base import DatabaseCluster, Target

ROLES = ("primary", "standby")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to hurt members of the cluster.

    Attributes:
        name: for people; `{}` is whom it hits.
        undo: key of `ledger.ACTIONS`.
        sentence: of the undo; `{}` is whom it hit.
        inject: does it to the members of these names.
    """

    name: str
    undo: str
    sentence: str
    inject: Callable[[DatabaseCluster, Sequence[str]], None]


def _each(act: Callable[[DatabaseCluster, str], None]) -> Callable[[DatabaseCluster, Sequence[str]], None]:
    def all_of_them(database: DatabaseCluster, members: Sequence[str]) -> None:
        for member in members:
            act(database, member)

    return all_of_them


_WAIT = "wait until the database cluster is whole again"

KINDS: dict[str, Kind] = {
    "crash": Kind("SIGKILL of the database server {}", "await-database", _WAIT, _each(lambda to, member: to.crash(member))),
    "freeze": Kind("SIGSTOP of the database server {}", "thaw", "let {} run again", _each(lambda to, member: to.freeze(member))),
    "lose": Kind("loss of the host of {}", "bring-back", "start the host of {} again", _each(lambda to, member: to.lose(member))),
    "lose-volume": Kind(
        "loss of the volume of {}", "bring-back", "start the host of {} again", _each(lambda to, member: to.lose_volume(member))
    ),
    "cut": Kind("pulled cable of {}", "mend", "put the cable of {} back", _each(lambda to, member: to.cut(member))),
    "lose-store": Kind(
        "loss of etcd beside {}", "bring-back", "start etcd beside {} again", lambda to, members: to.lose_store(members)
    ),
    "refuse-writes": Kind(
        "full disk of {}", "allow-writes", "give {} room to write", _each(lambda to, member: to.refuse_writes(member))
    ),
    "hold-back": Kind(
        "standby {} receives no changes", "catch-up", "let {} catch up", _each(lambda to, member: to.hold_back(member))
    ),
    "switch-over": Kind("switchover to {}", "await-database", _WAIT, _each(lambda to, member: to.switch_over(member))),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DatabaseFault:
    """A kind of fault and whom it hits.

    Attributes:
        target: with a database cluster.
        kind: one of `KINDS`.
        members: names.
    """

    target: Target
    kind: Kind
    members: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return self.kind.name.format(" and ".join(self.members))

    @property
    def undo(self) -> Undo:
        """What takes it back; for a crash and a switchover that is the cluster itself."""
        return Undo(self.kind.undo, {"members": ",".join(self.members)}, self.kind.sentence.format(" and ".join(self.members)))

    def inject(self) -> None:
        """Do it."""
        self.kind.inject(self.target.database, self.members)


def named(target: Target, kind: str, whom: str) -> DatabaseFault:
    """A fault by the words of an experiment.

    Args:
        target: with a database cluster.
        kind: key of `KINDS`.
        whom: names of members or `primary`, `standby` (the synchronous one where there is one), with commas between.

    Raises:
        UsageError: there is no such fault or member.
        StepFailed: nobody has that role just now.
    """
    if kind not in KINDS:
        raise UsageError(f"database fault {kind!r} does not exist; there are {', '.join(KINDS)}")
    return DatabaseFault(target, KINDS[kind], tuple(member_named(target.database, one.strip()) for one in whom.split(",")))


def member_named(database: DatabaseCluster, whom: str) -> str:
    """The name of a member that is given by name or by role; raises as `named` does."""
    members = database.members()
    if whom not in ROLES:
        if whom not in (names := [member.name for member in members]):
            raise UsageError(f"database member {whom!r} does not exist; there are {', '.join((*names, *ROLES))}")
        return whom
    for role in ("primary",) if whom == "primary" else ("sync_standby", "standby"):
        for member in members:
            if member.role == role:
                return member.name
    raise StepFailed(f"no member of the database cluster is {whom} (last seen: {members})")


def trouble(database: DatabaseCluster) -> str:
    """What keeps the cluster from being whole: one primary, every standby streaming from it, every store in agreement.

    Returns:
        Words for people; empty when it is whole.
    """
    members = database.members()
    primaries = [member for member in members if member.role == "primary"]
    if len(primaries) != 1:
        return f"{len(primaries)} primaries"
    wrong = [
        f"{member.name} is {member.role or 'without a role'}, {member.state}, on timeline {member.timeline}"
        for member in members
        if not member.identity
        or member.state != ("running" if member in primaries else "streaming")
        or member.timeline != primaries[0].timeline
    ]
    if database.synchronous and not any(member.role == "sync_standby" for member in members):
        wrong.append("no standby is synchronous")
    return "; ".join([*wrong, *filter(None, (database.store_trouble(member.name) for member in members))])
