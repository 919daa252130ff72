"""The memory target: a serving system and its observers, simulated in virtual time. For tests of drills and for simulations.

Nothing here waits: `VirtualClock.sleep` moves time on, and what happened meanwhile is computed when somebody looks. The same
calls give the same numbers on every machine. `Behaviour` lists every way in which the simulated system can disappoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from sre.errors import CannotRun, StepFailed, UsageError
from sre.measure.quantiles import quantile
from sre.readings import Alert, LoadPlan, Replica, Scale, ServerCounts
from sre.targets.base import Capability, DatabaseCluster, Load, Removal
from sre.targets.generator import MemoryLoad
from sre.targets.keys import MemoryKeys
from sre.targets.network import MemoryNetwork
from sre.targets.nodes import MemoryNodes
from sre.targets.routing import CANARY, MemoryRouter
from sre.targets.simulation import (
    INGRESS_PATIENCE_S,
    Answers,
    Process,
    SimulatedReplica,
    Traffic,
    VirtualClock,
    answers,
    increase,
    outages,
    scraped,
)
from sre.targets.sites import MemorySite
from sre.targets.volumes import MemoryVolumes

ALERT = "LowReplicaCount"
RUNBOOK = "https://runbooks.invalid/low-replica-count.md"
EVALUATION_S = 1.0  # between a scrape and the alert rule that reads it
LOOKBACK_S = 30.0  # how far before a span its first scrape may lie
MOST = 20  # replicas, for the autoscaler
_FIRST_PID = 100


@dataclass(slots=True)
class Behaviour:
    """How the simulated system behaves. The defaults keep every promise; change a field, also during a run, to see one break.

    A load takes the fields about answers and about its generator when it begins, a kill those about the restart, a canary its
    own.

    Attributes:
        replicas: how many there are from the start; 0 for a target that holds nothing.
        faults_work: False: kill and pause report success and change nothing.
        restart_s: from the end of a replica to its new process, s.
        startup_s: from there to ready, s; infinite for a replica that never comes back.
        service_s: mean time for an answer, s.
        failing: share of the answers that are a 500.
        generator: `silent` sends nothing and records nothing, `dead` dies without a recording.
        late_s: every request leaves so much after its plan, as from a generator that has no time left.
        cpu: share of a core that the generator uses.
        prometheus: False: it answers nobody and evaluates no alert.
        metric: False: Prometheus answers and holds no counters.
        counted: share of the answers that the servers' counters show.
        scrape_s: between two scrapes of a replica, s.
        alertmanager: False: it answers nobody.
        alert_for_s: how long a replica must be gone before the alert fires, s; infinite for one that never does.
        alert_resolves: False: an alert that fired stays.
        runbook: of the alert.
        others: names of alerts that fire along with it.
        versions: that the registry holds; the first is in production at the start.
        router_works: False: it refuses every change.
        canary_startup_s: until a canary and its control are ready, s.
        canary_failing: share of the canary's answers that are a 500.
        node_noticed_s: until what was on a lost node begins elsewhere, s.
        node_carries: what else runs on the first node, as `namespace/pod`.
        zones: of the nodes, in turn.
        least: replicas that there must be; the alert is of fewer.
        scale_to: replicas that the autoscaler wants under load.
        scale_up_s, scale_down_s: until it wants one more or one less, s.
        scaled_ready: False: those that it adds never get ready.
        velero: False: its server answers nobody.
        store: False: the place for backups refuses its key.
        schedules_paused: no backup is made by itself.
        backup_phase: in which a backup ends.
        backup_skips: a backup says Completed and has left a volume out.
        archive_loses: a backup says Completed and an object is not in its archive.
        restore_phase: in which a restore ends.
        restore_s: until a restore has ended and its pods run, s.
        restore_alters: a restore says Completed and a file is another.
        restore_moves: False: pods come back where they were.
        probes_start: False: no probe of the network ever runs.
        ways_opened, ways_closed: as in `("data/minio", "data/postgres", 5432)`, that policies let through or refuse by mistake.
        servers_silent: as in `data/minio`, at which nobody listens.
        keys_follow_s: until the last replica knows of a change to the API keys, s; infinite for one that never does.
        keys_forgotten: False: the last replica accepts a key that was withdrawn.
        sync_s: until a new Velero knows the backups in its store, s.
        rebuildable: False: no command makes an empty cluster.
        store_outside: False: the store is lost with the cluster.
        create_s: until an empty cluster is there, s.
        system_s: from the end of a restore until all runs, s.
        rebuild_alters: a rebuilt cluster has one object altered.
        rebuild_keys: False: it has another certificate authority.
    """

    replicas: int = 3
    faults_work: bool = True
    restart_s: float = 1.0
    startup_s: float = 4.0
    service_s: float = 0.01
    failing: float = 0.0
    generator: Literal["sends", "silent", "dead"] = "sends"
    late_s: float = 0.0002
    cpu: float = 0.2
    prometheus: bool = True
    metric: bool = True
    counted: float = 1.0
    scrape_s: float = 2.0
    alertmanager: bool = True
    alert_for_s: float = 10.0
    alert_resolves: bool = True
    runbook: str = RUNBOOK
    others: tuple[str, ...] = ()
    versions: tuple[str, ...] = ("1", "2")
    router_works: bool = True
    canary_startup_s: float = 4.0
    canary_failing: float = 0.0
    node_noticed_s: float = 50.0
    node_carries: tuple[str, ...] = ()
    zones: tuple[str, ...] = ("a", "b", "a")
    least: int = 3
    scale_to: int = 5
    scale_up_s: float = 30.0
    scale_down_s: float = 300.0
    scaled_ready: bool = True
    velero: bool = True
    store: bool = True
    schedules_paused: bool = False
    backup_phase: str = "Completed"
    backup_skips: bool = False
    archive_loses: bool = False
    restore_phase: str = "Completed"
    restore_s: float = 8.0
    restore_alters: bool = False
    restore_moves: bool = True
    probes_start: bool = True
    ways_opened: tuple[tuple[str, str, int], ...] = ()
    ways_closed: tuple[tuple[str, str, int], ...] = ()
    servers_silent: tuple[str, ...] = ()
    keys_follow_s: float = 30.0
    keys_forgotten: bool = True
    sync_s: float = 60.0
    rebuildable: bool = True
    store_outside: bool = True
    create_s: float = 40.0
    system_s: float = 60.0
    rebuild_alters: bool = False
    rebuild_keys: bool = True


class _Source(Protocol):
    traffic: Traffic


@dataclass(slots=True)
class _Probe:
    traffic: Traffic


class MemoryTarget:
    """A simulated system, and everyone who watches it: `Target` and `Observers` in one.

    Args:
        behaviour: also changeable later, as the attribute of that name.
    """

    name = "memory"
    capabilities = frozenset({
        Capability.REPLICAS, Capability.ALERTS, Capability.WEIGHTS, Capability.NODES, Capability.PODS, Capability.ROLLOUTS,
        Capability.SCALING, Capability.VOLUME_BACKUPS, Capability.NETWORK, Capability.KEYS, Capability.REBUILD,
    })  # fmt: skip
    handle = None

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.clock = VirtualClock()
        born = self.clock.now() - 600.0
        self._replicas = [
            SimulatedReplica(f"serving-{number}", [Process(_FIRST_PID + number, born, born + 1.0)])
            for number in range(1, self.behaviour.replicas + 1)
        ]
        self._sources: list[_Source] = []
        self._load: MemoryLoad | None = None
        self._router = MemoryRouter(self.clock, self.behaviour)
        self._nodes = MemoryNodes(self.clock, self.behaviour, self._replicas)
        self.volumes = MemoryVolumes(self.clock, self.behaviour)
        self.network = MemoryNetwork(self.behaviour)
        self.keys = MemoryKeys(self.clock, self.behaviour, self._replicas)
        self.site = MemorySite(self.clock, self.behaviour, self.volumes)

    @property
    def settle_s(self) -> float:
        """Two scrapes, as on a real target."""
        return 2 * self.behaviour.scrape_s

    @property
    def resend_s(self) -> float:
        """How long the ingress waits for a replica."""
        return INGRESS_PATIENCE_S

    def describe(self) -> Mapping[str, Any]:
        """The behaviour; there are no secrets here."""
        return {"target": self.name, "behaviour": asdict(self.behaviour)}

    @property
    def database(self) -> DatabaseCluster:
        """There is none here."""
        raise CannotRun("the memory target has no database cluster; use target local")

    @property
    def router(self) -> MemoryRouter:
        """Who splits the traffic."""
        return self._router

    @property
    def nodes(self) -> MemoryNodes:
        """The nodes that its replicas are on."""
        return self._nodes

    def replicas(self) -> tuple[Replica, ...]:
        """All replicas, by name."""
        now = self.clock.now()
        return tuple(
            Replica(item.name, item.identity(now), item.ready(now), sum(process.born <= now for process in item.processes) - 1)
            for item in self._replicas
        )

    def kill(self, replica: str) -> None:
        """End it; a new process begins by itself. Raises StepFailed when there is no process to kill."""
        found, _ = self._process(replica)
        if self.behaviour.faults_work:
            now, born = self.clock.now(), self.clock.now() + self.behaviour.restart_s
            found.replace(now, born, born + self.behaviour.startup_s)

    def pause(self, replica: str) -> None:
        """Freeze it. Raises StepFailed when there is no process to freeze."""
        _, process = self._process(replica)
        if self.behaviour.faults_work:
            process.freeze(self.clock.now())

    def resume(self, replica: str) -> None:
        """End a pause. Raises StepFailed when there is no process."""
        _, process = self._process(replica)
        process.thaw(self.clock.now())

    def remove(self, replica: str, how: Removal) -> None:
        """The same as `kill` here, in both ways."""
        del how
        self.kill(replica)

    def roll_out(self) -> None:
        """Each replica ends once its successor is ready, one after another."""
        if self.behaviour.faults_work:
            ready = self.clock.now()
            for replica in self._replicas:
                ready += self.behaviour.restart_s + self.behaviour.startup_s
                replica.replace(ready, ready, ready)

    def scale(self) -> Scale:
        """As if each load were of the size that wants `scale_to` replicas; those that it adds serve nobody."""
        there, now = len(self._replicas), self.clock.now()
        began, ended = self._load.span if self._load else (now, now)
        grown = min(self.behaviour.scale_to - there, int((min(now, ended) - began) / self.behaviour.scale_up_s))
        shrunk = int(max(0.0, now - ended) / self.behaviour.scale_down_s)
        wanted = there + max(0, grown - shrunk)
        return Scale(wanted, wanted if self.behaviour.scaled_ready else there, min(self.behaviour.least, there), MOST)

    def answers(self, traffic: Traffic) -> Answers:
        """What becomes of requests if nothing else is changed."""
        became = answers(self._replicas, traffic, self.router.arms, self.router.chosen(traffic.sent))
        spoiled = (became.by == len(self._replicas) + CANARY) & self.router.failing(traffic.sent)
        return replace(became, status=np.where(spoiled, 500, became.status))

    def start_load(self, plan: LoadPlan, folder: Path, key: str | None = None) -> Load:
        """Begin sending; see `targets.base.Observers`."""
        self._load = load = MemoryLoad(self, plan, folder, key)
        self._sources.append(load)
        return load

    def user_probe(self) -> tuple[int, str]:
        """One prediction as a user would ask for it."""
        now = np.array([self.clock.now()])
        traffic = Traffic(now, now, np.full(1, self.behaviour.service_s), np.full(1, self.behaviour.failing >= 1.0))
        self._sources.append(_Probe(traffic))
        answer = self.answers(traffic)
        self.clock.sleep(float(answer.done[0]) - self.clock.now())
        status = int(answer.status[0])
        return status, "seven" if status == 200 else "no prediction"

    def server_counts(self, start: float, end: float) -> ServerCounts | None:
        """What the scrapes between two wall times show; a replica that ended took along what nobody had scraped."""
        if not (self.behaviour.prometheus and self.behaviour.metric):
            return None
        shift = self.clock.wall() - self.clock.now()
        begin, until = start - shift, min(end - shift, self.clock.now())
        seen_by_all = [self.answers(source.traffic) for source in self._sources]
        totals, errors, resets, every = 0.0, 0.0, 0, self.behaviour.scrape_s
        used: list[float] = []
        every_replica = [*self._replicas, *self.router.arms]
        for number, replica in enumerate(every_replica):
            done = np.concatenate([np.empty(0), *(seen.done[seen.by == number] for seen in seen_by_all)])
            status = np.concatenate([np.empty(0), *(seen.status[seen.by == number] for seen in seen_by_all)])
            phase = number / len(every_replica)
            turns = np.arange(math.floor((begin - LOOKBACK_S) / every), math.ceil(until / every), dtype=np.float64)
            scrapes = (turns + phase) * every
            seen_at, counters = scraped(replica, scrapes[scrapes <= until], done)
            _, wrong = scraped(replica, seen_at, done[status >= 500])
            if not np.any(seen_at <= begin):
                continue
            first = int(np.searchsorted(seen_at, begin, side="right")) - 1
            grown, fell = increase(counters[first:])
            totals, errors, resets = totals + grown, errors + increase(wrong[first:])[0], resets + fell
            used += [float(seen_at[first]), float(seen_at[-1])]
        if not used:
            return None
        took = [(seen.done - seen.sent)[(seen.by >= 0) & (seen.done > begin) & (seen.done <= until)] for seen in seen_by_all]
        p95 = quantile(np.concatenate([*took, np.empty(0)]), 0.95)
        share = self.behaviour.counted
        return ServerCounts(
            min(used) + shift, max(used) + shift, totals * share, errors * share,
            None if math.isnan(p95) else p95, resets, ("simulated",),
        )  # fmt: skip

    def alerts(self) -> tuple[Alert, ...] | None:
        """The alert of missing replicas, as the rule would make it fire and resolve."""
        if not self.behaviour.alertmanager:
            return None
        now, shift = self.clock.now(), self.clock.wall() - self.clock.now()
        delay = self.behaviour.scrape_s + EVALUATION_S
        if not self.behaviour.prometheus:
            return ()
        for begin, end in outages(self._replicas, max(1, len(self._replicas) - self.behaviour.least + 1)):
            fired = begin + delay + self.behaviour.alert_for_s
            resolved = end + delay if self.behaviour.alert_resolves else math.inf
            if end - begin >= self.behaviour.alert_for_s and fired <= now < resolved:
                names = (ALERT, *self.behaviour.others)
                return tuple(Alert(name, True, fired + shift, self.behaviour.runbook) for name in names)
        return ()

    def _process(self, name: str) -> tuple[SimulatedReplica, Process]:
        there = [*self._replicas, *(self.router.arms if self.router.split() else ())]
        found = next((replica for replica in there if replica.name == name), None)
        if found is None:
            names = ", ".join(replica.name for replica in there)
            raise UsageError(f"replica {name!r} does not exist; there are {names or 'none'}")
        process = found.current(self.clock.now())
        if process is None:
            raise StepFailed(f"{name} has no process just now; it is being started again")
        return found, process
