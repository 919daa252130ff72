"""The eleven faults of the database cluster that drills inject, each with what proves it to someone who did not inject it."""

from __future__ import annotations

from typing import ClassVar

from sre.drills.base import Context
from sre.drills.database import DatabaseDrill, Seen, named
from sre.drills.database_clients import Clients
from sre.faults.database import member_named
from sre.readings import Member
from sre.targets.base import Capability


class DatabaseRecovery(DatabaseDrill):
    """The server of the primary dies."""

    name = "database-recovery"
    summary = "SIGKILL of the database's primary under load"
    experiment = "database-recovery.json"

    def effect(self, context: Context, clients: Clients) -> Seen:
        """Its process is another one, or none."""
        del clients
        victim, now = _victim(context)
        if now.identity != victim:
            return f"process {victim.partition('@')[0]} of {now.name} is gone", ""
        return None, f"{now.name} is still {victim}"


class DatabaseHung(DatabaseDrill):
    """The server of the primary hangs: only who waits for an answer can notice."""

    name = "database-hung"
    summary = "SIGSTOP of the database's primary under load"
    experiment = "database-hung.json"

    def effect(self, context: Context, clients: Clients) -> Seen:
        """It is there and answers no query."""
        victim, now = _victim(context)
        asked = clients.asked(now.name)
        return _seen(asked and now.identity == victim, f"{now.name} is there and answers nothing: {asked}", f"{now.name} answers")


class DatabaseHostLost(DatabaseDrill):
    """The host of the primary loses its power."""

    name = "database-host-lost"
    summary = "the host of the database's primary is lost under load"
    experiment = "database-host-lost.json"

    def effect(self, context: Context, clients: Clients) -> Seen:
        """Neither its server nor its store answers, and its process is gone."""
        victim, now = _victim(context)
        asked, store = clients.asked(now.name), context.target.database.store_trouble(now.name)
        gone = now.identity != victim
        return _seen(gone and asked and store, f"{asked}; {store}", f"server: {asked or 'answers'}, store: {store or 'answers'}")


class DatabaseStandbyLost(DatabaseHostLost):
    """The host of the synchronous standby loses its power: commits wait for one who is gone."""

    name = "database-standby-lost"
    summary = "the host of the synchronous standby is lost under load"
    experiment = "database-standby-lost.json"
    whom = "standby"
    promotes = False


class DatabaseVolumeLost(DatabaseDrill):
    """The host of the primary and all of its data are lost: it starts with nothing, and is built anew from the next primary."""

    name = "database-volume-lost"
    summary = "the volume of the database's primary is lost under load"
    experiment = "database-volume-lost.json"

    def inject(self, context: Context) -> str:
        """Remember the volume first."""
        database = context.target.database
        context.note(volume=database.volume(member_named(database, self.whom)))
        return super().inject(context)

    def effect(self, context: Context, clients: Clients) -> Seen:
        """Its process is another one, or none, and so is its volume."""
        del clients
        victim, now = _victim(context)
        before, after = context.facts["volume"], context.target.database.volume(now.name)
        gone = now.identity != victim and after != before
        return _seen(gone, f"process and volume {before} of {now.name} are gone", f"{now.name} is {now.identity} on {after}")


class DatabasePartition(DatabaseDrill):
    """The host of the primary is cut off, and lives."""

    name = "database-partition"
    summary = "the cable of the database's primary is pulled under load"
    experiment = "database-partition.json"
    needs: ClassVar = DatabaseDrill.needs | {Capability.CABLES}
    watch_s = 40.0

    def effect(self, context: Context, clients: Clients) -> Seen:
        """It runs on, and neither its server nor its store answers from outside."""
        victim, now = _victim(context)
        asked, store = clients.asked(now.name), context.target.database.store_trouble(now.name)
        there = now.identity == victim
        return _seen(there and asked and store, f"{now.name} runs on, and from outside: {asked}; {store}", f"{now.name} answers")


class DatabaseEtcdLost(DatabaseDrill):
    """One of the stores in which the members agree is lost."""

    name = "database-etcd-lost"
    summary = "one of three etcd members is lost under load"
    experiment = "database-etcd-lost.json"
    needs: ClassVar = DatabaseDrill.needs | {Capability.STORES}
    promotes = False
    # Longer than the lease of the primary: who cannot renew it has lost it by then.
    watch_s = 30.0
    bites_s = 30.0

    def effect(self, context: Context, clients: Clients) -> Seen:
        """The store itself does not answer."""
        del clients
        troubles = [context.target.database.store_trouble(victim) for victim in context.facts["victims"]]
        return _seen(all(troubles), "; ".join(troubles), "every store is healthy")


class DatabaseEtcdQuorumLost(DatabaseDrill):
    """Two of the stores are lost: nobody can be elected, and the primary must go on by the word of every member."""

    name = "database-etcd-quorum-lost"
    summary = "two of three etcd members are lost under load"
    experiment = "database-etcd-quorum-lost.json"
    needs: ClassVar = DatabaseDrill.needs | {Capability.STORES}
    whom = "primary,standby"
    promotes = False
    watch_s = 60.0
    bites_s = 60.0

    def effect(self, context: Context, clients: Clients) -> Seen:
        """The store that is left says that it has no quorum."""
        del clients
        database = context.target.database
        left = next(member.name for member in database.members() if member.name not in context.facts["victims"])
        return _seen(said := database.store_trouble(left), f"the one that is left has no quorum: {said}", "there is a quorum")


class DatabaseDiskFull(DatabaseDrill):
    """The primary cannot write to a file."""

    name = "database-disk-full"
    summary = "the database's primary cannot write under load"
    experiment = "database-disk-full.json"

    def effect(self, context: Context, clients: Clients) -> Seen:
        """A write that is sent to it, and to nobody else, fails."""
        name = context.facts["victims"][0]
        refused = clients.refused(name)
        return _seen(refused, f"a write to {name} is refused: {refused}", f"{name} takes a write")


class DatabaseLag(DatabaseDrill):
    """The synchronous standby receives nothing any more."""

    name = "database-lag"
    summary = "the synchronous standby lags under load"
    experiment = "database-lag.json"
    whom = "standby"
    promotes = False
    watch_s = 30.0

    def effect(self, context: Context, clients: Clients) -> Seen:
        """The primary has written more, and the standby has received nothing."""
        name, primary = context.facts["victims"][0], context.facts["primary"]
        received, written = clients.received(name), clients.written(primary)
        context.target.clock.sleep(2.0)
        later, more = clients.received(name), clients.written(primary)
        if None in (received, later, written, more):
            return None, f"{name} or {primary} does not say where it is"
        grown = int(more or 0) - int(written or 0)
        return _seen(later == received and grown, f"{name} received nothing of {grown:,} bytes", f"{name} receives")


class DatabaseSwitchover(DatabaseDrill):
    """Nothing is broken: the primary is moved, as for maintenance."""

    name = "database-switchover"
    summary = "the database's primary is moved under load"
    experiment = "database-switchover.json"
    whom = "standby"

    def effect(self, context: Context, clients: Clients) -> Seen:
        """The agents name another primary, on the next timeline."""
        del clients
        primary, aim = context.target.database.primary(), context.facts["victims"][0]
        moved = primary is not None and primary.name == aim and primary.timeline > context.facts["timeline"]
        return _seen(moved, f"{aim} is the primary of timeline {primary.timeline if primary else 0}", f"primary {primary}")


def _seen(proof: object, words: str, instead: str) -> Seen:
    return (words, "") if proof else (None, instead)


def _victim(context: Context) -> tuple[str, Member]:
    """Identity of the member that the fault hits, before the fault, and the member now."""
    return context.facts["identity"], named(context.target.database.members(), context.facts["victims"][0])
