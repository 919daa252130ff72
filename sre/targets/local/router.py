"""A canary and its control on this machine: their processes, their versions, and which requests they get.

The ingress draws one of 1000 slots for each request and looks for the slot's file in the folder of each arm. A shift makes new
folders beside the old and puts a symbolic link to them in the old one's place: no request sees half of it, nothing is reloaded.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM
from tempfile import mkdtemp

import httpx

from sre.errors import StepFailed, TargetUnavailable, UsageError
from sre.readings import Replica, Split
from sre.targets.base import check_shares
from sre.targets.local import processes, state
from sre.targets.local.layout import ARMS, Layout
from sre.targets.registry import CANDIDATE, PRODUCTION, Registry

SLOTS = 1000
BEGIN_WITHIN_S = 90.0
# Replicas look at the registry every few seconds, then load and measure the model.
SERVED_WITHIN_S = 90.0
# A replica that is told to end answers what it has begun, for at most 20 s.
DRAINED_WITHIN_S, KILLED_WITHIN_S = 30.0, 10.0
_CANARY, _CONTROL = ARMS
_TRACKS = {arm: arm.partition("-")[0] for arm in ARMS}
_SCRAPED = 'timestamp(up{{job="serving",track=~"canary|control"}}) >= {since} and up{{job="serving"}} == 1'


class LocalRouter:
    """Splits the traffic of a whole system; see `targets.base.Router`.

    Args:
        layout: of the system.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # Made first and deleted last, so that what a crash left is ended too.
        self._begun = layout.run / "canary"
        self._scrape = layout.arms / "arms.json"

    @property
    def _registry(self) -> Registry:
        return Registry(self._layout.url("mlflow"))

    def begin(self, version: str) -> None:
        """Start both; they serve their versions, and Prometheus has counted them at zero, when this returns."""
        if self._begun.exists():
            raise UsageError(f"version {self._begun.read_text(encoding='utf-8')} is a canary already; end it first")
        self._registry.require(version)
        self._begun.write_text(version, encoding="utf-8")
        self._registry.name(CANDIDATE, version)
        for arm in ARMS:
            state.release(self._layout.home, arm)
        _await(lambda: self._not_serving({_CANARY: version, _CONTROL: self._production()}), BEGIN_WITHIN_S)
        # What a counter held when Prometheus first saw it would be lost, so there is no traffic before that.
        since = time.time()
        self._watch()
        _await(lambda: self._not_scraped(since), BEGIN_WITHIN_S)

    def shift(self, canary: float, control: float) -> None:
        """Give the canary the first slots and its control the last, in steps of 0.1 %."""
        check_shares(canary, control)
        if not self._begun.exists():
            raise UsageError("there is no canary; begin one first")
        first = round(canary * SLOTS)
        second = min(round(control * SLOTS), SLOTS - first)
        self._put({_CANARY: range(first), _CONTROL: range(SLOTS - second, SLOTS)})

    def split(self) -> Split | None:
        """Shares as the ingress finds them, versions as the replicas answer."""
        try:
            version = self._begun.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        canary, control = self._shares()
        services = self._services()
        replicas = tuple(Replica(arm, services[arm].process, bool(self._serves(arm)[0]), services[arm].restarts) for arm in ARMS)
        return Split(version, self._production(), canary, control, replicas)

    def promote(self) -> None:
        """Move the alias, then wait for every replica."""
        if not self._begun.exists():
            raise UsageError("there is no canary; begin one first")
        self._produce(self._begun.read_text(encoding="utf-8"))

    def demote(self, version: str) -> None:
        """Move the alias back, then wait for every replica."""
        self._registry.require(version)
        self._produce(version)

    def end(self) -> None:
        """Traffic first, then the processes, which drain. Asks neither registry nor Prometheus: they may be lost."""
        if not self._begun.exists():
            return
        self._put({_CANARY: range(0), _CONTROL: range(0)})
        for arm in ARMS:
            state.hold(self._layout.home, arm)
        told: set[str] = set()
        try:
            _await(lambda: self._not_ended(told), DRAINED_WITHIN_S)
        except StepFailed:
            for arm in ARMS:
                processes.signal_process(self._services()[arm].process, SIGKILL)
            _await(lambda: self._not_ended(told), KILLED_WITHIN_S)
        self._scrape.unlink(missing_ok=True)
        self._begun.unlink()

    def _shares(self) -> list[float]:
        """Of canary and control. A shift deletes the directory that it replaces, perhaps while it is being read here."""
        last = self._layout.split.resolve()
        try:
            return [len(list((last / track).iterdir())) / SLOTS for track in _TRACKS.values()]
        except FileNotFoundError:
            if last == self._layout.split.resolve():
                return [0.0 for _ in _TRACKS]  # nobody was ever given a share here
        return self._shares()

    def _put(self, slots: Mapping[str, range]) -> None:
        link = self._layout.split
        old = link.resolve()
        fresh = Path(mkdtemp(prefix="split-", dir=link.parent))
        # The ingress may run as another account.
        fresh.chmod(0o755)
        for arm, numbers in slots.items():
            (fresh / _TRACKS[arm]).mkdir(mode=0o755)
            for number in numbers:
                (fresh / _TRACKS[arm] / str(number)).touch()
        beside = fresh / "link"
        beside.symlink_to(fresh.name)
        beside.replace(link)
        if old != link:
            shutil.rmtree(old)

    def _watch(self) -> None:
        groups = [
            {"targets": [self._layout.address(arm)], "labels": {"replica": arm, "track": track}} for arm, track in _TRACKS.items()
        ]
        fresh = self._scrape.with_suffix(".new")
        fresh.write_text(json.dumps(groups), encoding="utf-8")
        fresh.replace(self._scrape)

    def _produce(self, version: str) -> None:
        self._registry.name(PRODUCTION, version)
        arms = (_CONTROL,) if self._begun.exists() else ()
        _await(lambda: self._not_serving(dict.fromkeys((*self._layout.replicas, *arms), version)), SERVED_WITHIN_S)

    def _production(self) -> str:
        """The version that replicas in production serve; empty when none answers."""
        return next((version for name in self._layout.replicas if (version := self._serves(name)[0])), "")

    def _not_serving(self, wanted: Mapping[str, str]) -> str:
        for name, version in wanted.items():
            found, why = self._serves(name)
            if not found:
                return f"{name}: {why}"
            if found != version:
                return f"{name} serves version {found}, not {version}"
        return ""

    def _serves(self, name: str) -> tuple[str, str]:
        """As `served`, with what its supervisor last saw of one that does not answer."""
        version, why = served(self._layout, name)
        last = "" if version else self._services()[name].last
        return version, f"{why}, last: {last}" if last else why

    def _not_scraped(self, since: float) -> str:
        try:
            answer = httpx.get(
                f"{self._layout.url('prometheus')}/api/v1/query", params={"query": _SCRAPED.format(since=since)}, timeout=5.0,
                trust_env=False,
            ).raise_for_status()  # fmt: skip
        except httpx.HTTPError as error:
            return f"Prometheus: {error!r}"
        seen = {series["metric"]["replica"] for series in answer.json()["data"]["result"]}
        return f"Prometheus has scraped {', '.join(sorted(seen)) or 'neither'} of {', '.join(ARMS)}" if seen != set(ARMS) else ""

    def _not_ended(self, told: set[str]) -> str:
        there = [process for arm in ARMS if processes.alive(process := self._services()[arm].process)]
        for process in set(there) - told:
            # A stopped process acts on no signal before it is continued.
            processes.signal_process(process, SIGTERM)
            processes.signal_process(process, SIGCONT)
            told.add(process)
        return f"still running: {', '.join(there)}" if there else ""

    def _services(self) -> dict[str, state.ServiceState]:
        current = state.read(self._layout.home)
        if current is None:
            raise TargetUnavailable(f"the system of {self._layout.home} is gone; run `sre up`")
        return current.services


def served(layout: Layout, name: str) -> tuple[str, str]:
    """The version that a replica is ready to serve, or nothing and why."""
    try:
        answer = httpx.get(f"{layout.url(name)}/health/ready", timeout=2.0, trust_env=False)
        document = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return "", repr(error)
    if answer.status_code != httpx.codes.OK:
        return "", f"status {answer.status_code}, {document.get('detail')}"
    return str(document["model_version"]), ""


def _await(trouble: Callable[[], str], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while seen := trouble():
        if time.monotonic() > deadline:
            raise StepFailed(f"not within {within_s:.0f} s; last seen: {seen}")
        time.sleep(0.1)
