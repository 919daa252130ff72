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
import numpy.typing as npt

from sre.errors import CannotRun, StepFailed, UsageError
from sre.measure.quantiles import quantile
from sre.measure.samples import RECORDS_NAME, SAMPLE, Failure, Recording, write_header
from sre.readings import Alert, LoadPlan, Replica, ServerCounts
from sre.targets.base import Capability, DatabaseCluster, Load
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
from sre.targets.volumes import MemoryVolumes

ALERT = "LowReplicaCount"
RUNBOOK = "https://runbooks.invalid/low-replica-count.md"
EVALUATION_S = 1.0  # between a scrape and the alert rule that reads it
LOOKBACK_S = 30.0  # how far before a span its first scrape may lie
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
    capabilities = frozenset({Capability.REPLICAS, Capability.ALERTS, Capability.WEIGHTS, Capability.VOLUME_BACKUPS})
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
        self._router = MemoryRouter(self.clock, self.behaviour)
        self.volumes = MemoryVolumes(self.clock, self.behaviour)

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

    def replicas(self) -> tuple[Replica, ...]:
        """All replicas, by name."""
        now = self.clock.now()
        return tuple(
            Replica(item.name, item.identity(now), item.ready(now), sum(process.born <= now for process in item.processes) - 1)
            for item in self._replicas
        )

    def kill(self, replica: str) -> None:
        """End it; a new process begins by itself. Raises StepFailed when there is no process to kill."""
        found, process = self._process(replica)
        if self.behaviour.faults_work:
            now = self.clock.now()
            process.thaw(now)
            process.died = now
            born = now + self.behaviour.restart_s
            found.processes.append(Process(process.pid + _FIRST_PID, born, born + self.behaviour.startup_s))

    def pause(self, replica: str) -> None:
        """Freeze it. Raises StepFailed when there is no process to freeze."""
        _, process = self._process(replica)
        if self.behaviour.faults_work:
            process.freeze(self.clock.now())

    def resume(self, replica: str) -> None:
        """End a pause. Raises StepFailed when there is no process."""
        _, process = self._process(replica)
        process.thaw(self.clock.now())

    def answers(self, traffic: Traffic) -> Answers:
        """What becomes of requests if nothing else is changed."""
        became = answers(self._replicas, traffic, self.router.arms, self.router.chosen(traffic.sent))
        spoiled = (became.by == len(self._replicas) + CANARY) & self.router.failing(traffic.sent)
        return replace(became, status=np.where(spoiled, 500, became.status))

    def start_load(self, plan: LoadPlan, folder: Path) -> Load:
        """Begin sending; see `targets.base.Observers`."""
        load = MemoryLoad(self, plan, folder)
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
        """The alert of a missing replica, as the rule would make it fire and resolve."""
        if not self.behaviour.alertmanager:
            return None
        now, shift = self.clock.now(), self.clock.wall() - self.clock.now()
        delay = self.behaviour.scrape_s + EVALUATION_S
        if not self.behaviour.prometheus:
            return ()
        for begin, end in outages(self._replicas):
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


class MemoryLoad:
    """A load on a memory target, with a recording as a real generator would leave it. Made by `MemoryTarget.start_load`."""

    def __init__(self, target: MemoryTarget, plan: LoadPlan, folder: Path) -> None:
        behaviour = target.behaviour
        self._target, self._plan, self._folder = target, plan, folder
        self._cpu, self._generator = behaviour.cpu, behaviour.generator
        self._started, self._started_wall = target.clock.now(), target.clock.wall()
        chance = np.random.default_rng(plan.seed)
        # As `sre.load.schedule` plans it, which this layer may not import.
        count = chance.poisson(plan.rate * plan.seconds)
        planned = self._started + np.sort(chance.uniform(0.0, plan.seconds, count))
        service = chance.gamma(4.0, behaviour.service_s / 4.0, count)
        self.traffic = Traffic(planned, planned + behaviour.late_s, service, chance.random(count) < behaviour.failing)
        self._planned = count
        if self._generator != "sends":
            self.traffic = self.traffic.first(0)
        self._written = False

    def running(self) -> bool:
        """Whether it still sends or waits for answers."""
        if self._written or self._generator == "dead":
            return False
        now = self._target.clock.now()
        return now < self._started + self._plan.seconds or now < self._end()

    def progress(self) -> str:
        """For example `12,034 requests, 3 failed`."""
        records = self._records(self._sent())
        records = records[records["done"] <= self._target.clock.now()]
        return f"{len(records):,} requests, {np.count_nonzero(records['failure']):,} failed"

    def stop(self) -> None:
        """End it now; the answers under way are waited for. Idempotent.

        Raises:
            StepFailed: the generator was to die without a recording.
        """
        if self._generator == "dead":
            raise StepFailed("the load generator died without a recording; last words: none")
        if self._written:
            return
        clock = self._target.clock
        stopped = clock.now() < self._started + self._plan.seconds
        if stopped:
            self.traffic = self._sent()
        if stopped and self._generator == "sends":
            self._planned = len(self.traffic.planned)
        self._write(stopped=stopped)

    def wait(self) -> None:
        """Move on to the schedule's end. Raises as `stop` does."""
        self._target.clock.sleep(self._end() - self._target.clock.now())
        self.stop()

    def _sent(self) -> Traffic:
        return self.traffic.first(int(np.searchsorted(self.traffic.planned, self._target.clock.now())))

    def _end(self) -> float:
        return max(self._started + self._plan.seconds, float(self._records(self.traffic)["done"].max(initial=0.0)))

    def _records(self, traffic: Traffic) -> npt.NDArray[np.void]:
        became = self._target.answers(traffic)
        records = np.zeros(len(traffic.planned), dtype=SAMPLE)
        records["planned"], records["sent"] = traffic.planned, traffic.sent
        records["done"], records["status"] = became.done, became.status
        records["failure"] = np.where(became.status == 200, Failure.NONE, Failure.STATUS)
        return records

    def _write(self, *, stopped: bool) -> None:
        clock = self._target.clock
        sending = min(clock.now() - self._started, self._plan.seconds)
        records = self._records(self.traffic)
        clock.sleep(float(records["done"].max(initial=0.0)) - clock.now())
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / RECORDS_NAME).write_bytes(records.tobytes())
        recording = Recording(
            rate=self._plan.rate, seconds=self._plan.seconds, seed=self._plan.seed, started=self._started,
            started_wall=self._started_wall, ended=clock.now(), cpu_seconds=self._cpu * sending, planned=self._planned,
            stopped=stopped, tool="memory",
        )  # fmt: skip
        write_header(self._folder, recording)
        self._written = True
