"""What every target promises to drills, and every set of observers: one suite for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from secrets import token_urlsafe

import pytest

from sre.dr import velero
from sre.dr.rebuild import rebuild as make_again
from sre.dr.velero import Watch
from sre.drills import session
from sre.drills.secrets_rotation import FOLLOWED_WITHIN_S
from sre.drills.world import World
from sre.errors import CannotRun, StepFailed, UsageError
from sre.faults.model import Place as Models
from sre.faults.model import register
from sre.judges import rebuild
from sre.judges import velero as judges
from sre.judges.manifests import ways
from sre.measure.quantiles import answered
from sre.measure.samples import read
from sre.readings import Alert, LoadPlan, Replica, Split
from sre.targets.backups import NAMESPACES
from sre.targets.base import Capability, Observers, Removal, Target
from sre.targets.keys import KNOWN, UNKNOWN
from sre.targets.kubernetes import target as kubernetes
from sre.targets.kubernetes.target import KubernetesTarget
from sre.targets.local.prepare import ANSWER_TIMEOUT_S, SCRAPE_INTERVAL_S
from sre.targets.local.target import LocalTarget
from sre.targets.memory import MemoryTarget
from sre.targets.registry import PRODUCTION, Registry
from tests.cluster import Cluster, cluster, kubectl
from tests.contract.versions import register_copy, versions
from tests.kubernetes_system import system_on_cluster
from tests.velero_store import velero_on_cluster

__all__ = ["cluster", "kubectl", "system_on_cluster", "velero_on_cluster"]

VICTIM = "serving-2"
READY_WITHIN_S = 60.0
SOURCE, COPY = "volumes-contract", "volumes-contract-copy"
BACKUP_WITHIN_S = 180.0
PLAN = LoadPlan(rate=25.0, seconds=3.0, seed=4)


@dataclass(frozen=True)
class Place:
    target: Target
    observers: Observers

    def replica(self, name: str = VICTIM) -> Replica:
        return next(replica for replica in self.target.replicas() if replica.name == name)

    def wait_for(self, condition: Callable[[], bool], within: float = READY_WITHIN_S) -> None:
        deadline = self.target.clock.now() + within
        while not condition():
            assert self.target.clock.now() < deadline, f"not within {within:.0f} s, last seen: {self.target.replicas()}"
            self.target.clock.sleep(0.1)

    def whole(self) -> bool:
        return [replica.ready for replica in self.target.replicas()] == [True] * 3


@pytest.fixture(
    params=[
        "memory",
        pytest.param("local", marks=pytest.mark.local),
        pytest.param("kubernetes", marks=[pytest.mark.cluster, pytest.mark.timeout(600)]),
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        memory = MemoryTarget()
        yield from _whole(Place(memory, memory))
    elif request.param == "local":
        system: LocalTarget = request.getfixturevalue("system")
        yield from _whole(Place(system, World(system.endpoints, float(SCRAPE_INTERVAL_S), float(ANSWER_TIMEOUT_S))))
    else:
        on_cluster: KubernetesTarget = request.getfixturevalue("with_fresh_replicas")
        with on_cluster.watched() as endpoints:
            world = World(
                endpoints, float(kubernetes.SCRAPE_INTERVAL_S), float(kubernetes.ANSWER_TIMEOUT_S), session.USERS_NICENESS
            )
            yield from _whole(Place(on_cluster, world))


def _whole(place: Place) -> Iterator[Place]:
    place.wait_for(place.whole)
    yield place
    if place.replica().identity:
        place.target.resume(VICTIM)
    place.wait_for(place.whole)


@pytest.fixture(scope="session")
def with_fresh_replicas(cluster: Cluster, system_on_cluster: KubernetesTarget) -> KubernetesTarget:
    """The same with other pods: the kubelet waits long before it begins a container again that was often killed of late."""
    for change in ("restart", "status"):
        cluster.run("rollout", change, "deployment", "ml-api", "-n", "ml-system")
    return system_on_cluster


def require(place: Place, capability: Capability) -> None:
    if capability not in place.target.capabilities:
        pytest.skip(f"target {place.target.name} has no {capability}")


def test_replicas_come_in_the_order_of_their_names_and_keep_them(place: Place) -> None:
    first, second = place.target.replicas(), place.target.replicas()
    assert [replica.name for replica in first] == ["serving-1", "serving-2", "serving-3"]
    assert [(item.name, item.identity, item.restarts) for item in first] == [
        (item.name, item.identity, item.restarts) for item in second
    ]
    assert len({replica.identity for replica in first}) == 3


def test_a_killed_replica_is_replaced_by_a_new_one(place: Place) -> None:
    before = place.replica()
    place.target.kill(VICTIM)
    place.wait_for(lambda: place.replica().identity != before.identity, within=5.0)
    place.wait_for(lambda: place.replica().ready)
    after = place.replica()
    assert after.identity not in {"", before.identity}
    assert after.restarts == before.restarts + 1
    assert place.whole()


def test_a_paused_replica_is_the_same_process_and_not_ready(place: Place) -> None:
    before = place.replica()
    place.target.pause(VICTIM)
    paused = place.replica()
    assert not paused.ready
    assert (paused.identity, paused.restarts) == (before.identity, before.restarts)
    place.target.resume(VICTIM)
    place.wait_for(lambda: place.replica().ready)
    assert place.replica() == before


def test_resuming_a_replica_that_runs_changes_nothing(place: Place) -> None:
    before = place.replica()
    place.target.resume(VICTIM)
    assert place.replica() == before


@pytest.mark.parametrize("change", ["kill", "pause", "resume"])
def test_an_unknown_replica_is_a_wrong_request(place: Place, change: str) -> None:
    before = place.target.replicas()
    with pytest.raises(UsageError, match=r"'serving-9' does not exist; there are serving-1, serving-2, serving-3"):
        getattr(place.target, change)("serving-9")
    assert place.target.replicas() == before


def test_the_description_is_json_and_holds_no_secret(place: Place) -> None:
    text = json.dumps(place.target.describe(), allow_nan=False)
    assert json.loads(text)["target"] == place.target.name
    for secret in _secrets(place.target):
        assert secret not in text


def test_the_handle_leads_to_the_target_or_is_none(place: Place) -> None:
    handle = place.target.handle
    assert handle is None or handle.startswith(f"{place.target.name}:/")


def test_capabilities_are_those_of_the_table(place: Place) -> None:
    assert {Capability.REPLICAS, Capability.ALERTS} <= place.target.capabilities
    assert (Capability.BACKUPS in place.target.capabilities) == isinstance(place.target, LocalTarget)
    assert (Capability.TRAINING in place.target.capabilities) == isinstance(place.target, LocalTarget)
    assert (Capability.DATABASE_CLUSTER in place.target.capabilities) != isinstance(place.target, MemoryTarget)
    assert (Capability.CABLES in place.target.capabilities) == isinstance(place.target, LocalTarget)
    assert (Capability.STORES in place.target.capabilities) == isinstance(place.target, LocalTarget)
    assert (Capability.VOLUME_BACKUPS in place.target.capabilities) == (not isinstance(place.target, LocalTarget))
    assert (Capability.NETWORK in place.target.capabilities) == (not isinstance(place.target, LocalTarget))
    assert Capability.KEYS in place.target.capabilities
    assert (Capability.REBUILD in place.target.capabilities) == (not isinstance(place.target, LocalTarget))


def test_a_target_has_the_cluster_that_it_promises_or_says_that_it_has_none(place: Place) -> None:
    if Capability.DATABASE_CLUSTER not in place.target.capabilities:
        with pytest.raises(CannotRun, match="database cluster; use target local"):
            _ = place.target.database
        return
    members = place.target.database.members()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert len({member.identity for member in members}) == len(members) == 3
    assert place.target.database.primary() in members
    assert sorted(member.role for member in members) == ["primary", "standby", "sync_standby"]
    assert len({place.target.database.volume(member.name) for member in members} - {""}) == 3


def test_a_target_has_the_nodes_that_it_promises_or_says_that_it_has_none(place: Place) -> None:
    if Capability.NODES not in place.target.capabilities:
        with pytest.raises(CannotRun, match="no nodes to lose; use target kubernetes"):
            _ = place.target.nodes
        return
    nodes = place.target.nodes.all()
    assert [node.name for node in nodes] == sorted(node.name for node in nodes)
    assert all(node.ready and node.open for node in nodes)
    assert sorted(name for node in nodes for name in node.replicas) == ["serving-1", "serving-2", "serving-3"]
    for change in (place.target.nodes.lose, place.target.nodes.bring_back):
        with pytest.raises(UsageError, match=f"'node-99' does not exist; there are {nodes[0].name}, "):
            change("node-99", "drain")
    # A node that is not lost is not changed.
    place.target.nodes.bring_back(nodes[0].name, "drain")
    assert place.target.nodes.all() == nodes


def test_a_target_with_an_autoscaler_says_how_many_replicas_it_wants(place: Place) -> None:
    if Capability.SCALING not in place.target.capabilities:
        with pytest.raises(CannotRun, match="no autoscaler; use target kubernetes"):
            place.target.scale()
        return
    scale = place.target.scale()
    assert scale.least <= scale.wanted <= scale.most
    assert scale.ready >= 3


@pytest.mark.parametrize("how", ["delete", "evict"])
def test_a_removed_pod_is_replaced_by_another(place: Place, how: Removal) -> None:
    if Capability.PODS not in place.target.capabilities:
        with pytest.raises(CannotRun, match=f"no pod to {how} for {VICTIM}; use target kubernetes"):
            place.target.remove(VICTIM, how)
        return
    with pytest.raises(UsageError, match="'serving-9' does not exist; there are serving-1"):
        place.target.remove("serving-9", how)
    before = {replica.name: replica.identity for replica in place.target.replicas()}
    place.target.remove(VICTIM, how)
    place.wait_for(lambda: place.replica().identity != before[VICTIM], within=5.0)
    place.wait_for(lambda: place.replica().ready)
    after = {replica.name: replica.identity for replica in place.target.replicas()}
    assert after.pop(VICTIM) not in before.values()
    assert after == {name: identity for name, identity in before.items() if name != VICTIM}


def test_a_rollout_replaces_every_replica(place: Place) -> None:
    if Capability.ROLLOUTS not in place.target.capabilities:
        with pytest.raises(CannotRun, match="use target kubernetes"):
            place.target.roll_out()
        return
    before = {replica.identity for replica in place.target.replicas()}
    place.target.roll_out()
    place.wait_for(lambda: place.whole() and before.isdisjoint(one.identity for one in place.target.replicas()), within=180.0)


def test_probes_try_every_listed_way_and_are_gone_at_the_end(place: Place) -> None:
    if Capability.NETWORK not in place.target.capabilities:
        with pytest.raises(CannotRun, match="no network policies; use target kubernetes"):
            _ = place.target.network
        return
    network = place.target.network
    assert network.left() == ""
    network.end()
    roles = network.begin()
    try:
        assert {*ways.WAYS, ways.STRANGER} - ways.SOMETIMES <= {*roles}
        place.wait_for(lambda: network.waiting() == "", within=120.0)
        assert network.left() != ""
        tries = network.tries()
        assert {one.source for one in tries} == {*roles}
        tried = {(one.to, one.port) for one in tries}
        assert {(way.to, way.port) for way in ways.between(roles)} <= tried
        assert {ways.DNS, ways.API_SERVER, ways.METADATA, ways.NODE, ways.ELSEWHERE} <= {to for to, _ in tried}
        servers = {one.at for one in tries if not one.to.startswith(ways.BEYOND)}
        assert servers <= {at for at, _ in network.listening()}
    finally:
        network.end()
        place.wait_for(lambda: network.left() == "", within=60.0)
    network.end()


def test_a_key_is_known_to_every_replica_after_a_while_and_forgotten_after_another(place: Place) -> None:
    keys, holder = place.target.keys, "contract"
    first, second = token_urlsafe(32), token_urlsafe(32)

    def all_say(key: str, status: int) -> bool:
        return list(keys.ask(key).items()) == [(f"serving-{number}", status) for number in (1, 2, 3)]

    try:
        assert all_say(first, UNKNOWN)
        keys.grant(holder, [first, second])
        assert keys.held(holder) == 2
        place.wait_for(lambda: all_say(first, KNOWN) and all_say(second, KNOWN), within=FOLLOWED_WITHIN_S)
        keys.grant(holder, [second])
        place.wait_for(lambda: all_say(first, UNKNOWN), within=FOLLOWED_WITHIN_S)
        assert all_say(second, KNOWN)
    finally:
        keys.grant(holder, ())
    assert keys.held(holder) == 0
    assert place.observers.user_probe()[0] == 200


def test_users_with_a_key_of_their_own_are_served_and_move_to_another(place: Place, tmp_path: Path) -> None:
    keys, holder = place.target.keys, "contract"
    first, second = token_urlsafe(32), token_urlsafe(32)
    keys.grant(holder, [first, second])
    try:
        place.wait_for(lambda: {*keys.ask(first).values(), *keys.ask(second).values()} == {KNOWN}, within=FOLLOWED_WITHIN_S)
        load = place.observers.start_load(LoadPlan(25.0, 300.0, 1), tmp_path / "load", first)
        place.target.clock.sleep(1.0)
        load.show(second)
        place.target.clock.sleep(1.0)
        load.stop()
    finally:
        keys.grant(holder, ())
    _, samples = read(tmp_path / "load")
    assert len(samples) > 0
    assert answered(samples).all()
    for key in (first, second):
        assert not any(key.encode() in path.read_bytes() for path in (tmp_path / "load").iterdir())
    place.wait_for(lambda: KNOWN not in keys.ask(second).values(), within=FOLLOWED_WITHIN_S)
    refused = place.observers.start_load(PLAN, tmp_path / "refused", second)
    refused.wait()
    assert set(read(tmp_path / "refused")[1]["status"]) == {UNKNOWN}


MEMBER_CHANGES = ("crash", "freeze", "thaw", "lose", "lose_volume", "bring_back", "cut", "refuse_writes", "allow_writes",
                  "hold_back", "catch_up", "switch_over")  # fmt: skip


@pytest.mark.parametrize("change", MEMBER_CHANGES)
def test_an_unknown_member_is_a_wrong_request(place: Place, change: str) -> None:
    if Capability.DATABASE_CLUSTER not in place.target.capabilities:
        return
    before = place.target.database.members()
    names = [member.name for member in before]
    with pytest.raises(UsageError, match=f"member 'postgres-9' does not exist; there are {', '.join(names)}"):
        getattr(place.target.database, change)("postgres-9")
    with pytest.raises(UsageError, match="'postgres-9' does not exist"):
        place.target.database.lose_store([names[0], "postgres-9"])
    assert [member.identity for member in place.target.database.members()] == [member.identity for member in before]


def test_what_a_target_cannot_do_to_its_cluster_it_says_and_does_not_do(place: Place) -> None:
    require(place, Capability.DATABASE_CLUSTER)
    database = place.target.database
    before = [(member.name, member.identity, member.role) for member in database.members()]
    name = before[0][0]
    changes = {Capability.CABLES: partial(database.cut, name), Capability.STORES: partial(database.lose_store, [name])}
    for capability in changes.keys() - place.target.capabilities:
        with pytest.raises(CannotRun, match=f"{name} .*; use target local"):
            changes[capability]()
    assert [(member.name, member.identity, member.role) for member in database.members()] == before


def test_taking_back_what_was_never_done_changes_nothing(place: Place) -> None:
    if Capability.DATABASE_CLUSTER not in place.target.capabilities:
        return
    database = place.target.database
    before = [(member.name, member.identity, member.role) for member in database.members()]
    for member, _, _ in before:
        for undo in (database.thaw, database.bring_back, database.allow_writes, database.catch_up):
            undo(member)
    database.mend()
    assert [(member.name, member.identity, member.role) for member in database.members()] == before


@pytest.fixture
def volumes(place: Place, request: pytest.FixtureRequest) -> Iterator[Watch]:
    """Who backs up, with what a test makes gone afterwards."""
    require(place, Capability.VOLUME_BACKUPS)
    if isinstance(place.target, KubernetesTarget):
        request.getfixturevalue("velero_on_cluster")
    watch = Watch(place.target.volumes, place.target.clock, BACKUP_WITHIN_S, lambda _: None)
    yield watch
    watch.volumes.forget(SOURCE, [SOURCE, COPY])
    assert watch.until(lambda: watch.volumes.left(SOURCE, [SOURCE, COPY]), "everything to be gone") == ""
    watch.volumes.forget(SOURCE, [SOURCE, COPY])


def test_a_place_can_back_up_volumes_or_says_that_it_cannot(place: Place) -> None:
    if Capability.VOLUME_BACKUPS not in place.target.capabilities:
        with pytest.raises(CannotRun, match="no namespaces to back up; use target kubernetes"):
            _ = place.target.volumes


def test_a_namespace_is_backed_up_and_brought_back_on_other_nodes(volumes: Watch) -> None:
    assert volumes.volumes.trouble() == ""
    assert len(volumes.volumes.nodes()) >= 2
    files = velero.sample(volumes, SOURCE)
    assert len(files) == 2
    assert all(files.values())
    taken = velero.back_up(volumes, SOURCE, [SOURCE])
    assert list(judges.backup(taken["backup"], taken["words"])) == []
    assert list(judges.items(taken["before"]["items"], taken["after"]["items"], taken["archived"])) == []
    pods = taken["after"]["pods"]
    assert list(judges.volumes(pods, taken["after"]["claims"], taken["after"]["volumes"], taken["made"])) == []
    away_from = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in pods}
    brought = velero.bring_back(volumes, SOURCE, SOURCE, {SOURCE: COPY}, away_from)
    assert brought["late"] == ""
    into = {SOURCE: COPY}
    assert list(judges.restore(brought["restore"], brought["words"], taken["made"], brought["brought"], into)) == []
    assert list(judges.returned(taken["archived"], brought["after"]["items"], into)) == []
    assert list(judges.placement(pods, brought["after"]["pods"])) == []
    assert volumes.volumes.files(COPY) == volumes.volumes.files(SOURCE) == files
    assert (
        volumes.volumes.left(SOURCE, [SOURCE, COPY]) == f"namespace {SOURCE}, namespace {COPY}, backup {SOURCE}, restore {SOURCE}"
    )


def test_what_was_never_backed_up_cannot_be_read(volumes: Watch) -> None:
    with pytest.raises(StepFailed):
        volumes.volumes.archived("never-made", [SOURCE])
    assert volumes.volumes.left("never-made", [SOURCE]) == ""
    assert volumes.volumes.files(SOURCE) == {}
    assert volumes.volumes.living([SOURCE]).pods == ()


def test_there_is_a_place_for_backups_and_schedules_are_kept_as_promised(volumes: Watch) -> None:
    records = volumes.volumes.records
    assert list(judges.location(records("backupstoragelocations"))) == []
    assert list(judges.schedules(records("schedules"), records("backups"), volumes.clock.wall())) == []


def test_a_place_is_a_cluster_that_can_be_made_again_or_says_that_it_is_none(place: Place) -> None:
    if Capability.REBUILD not in place.target.capabilities:
        with pytest.raises(CannotRun, match="no cluster that could be made again; use target kubernetes"):
            _ = place.target.site
        return
    site = place.target.site
    identity, doors = site.identity(), site.doors()
    assert (site.missing(), site.misfits()) == ("", "")
    assert len(doors) == 2
    assert site.answering(doors) == ", ".join(doors)
    assert all(name in site.holds() for name in NAMESPACES)
    # What is there is not made again.
    site.create()
    assert site.identity() == identity != ""


def test_every_object_of_a_cluster_is_read_the_same_twice(place: Place) -> None:
    require(place, Capability.REBUILD)
    first, second = place.target.site.contents(), place.target.site.contents()
    assert {key for key in first if key.startswith("ml-models-production/")}
    steady = rebuild.judged(first, second)
    assert list(rebuild.objects(first, second, second)) == []
    assert {key.partition("/")[0] for key in steady} <= {"ml-datasets", "ml-models-staging", "ml-models-production", "ml-backups"}


def test_a_cluster_that_runs_is_not_made_again(place: Place) -> None:
    require(place, Capability.REBUILD)
    before = place.target.site.identity()
    for lost in ("", before):
        with pytest.raises(CannotRun):
            make_again(place.target, "", lambda _: None, lambda **_: None, lost=lost)
    assert (place.target.site.identity(), place.target.site.missing()) == (before, "")


def test_time_goes_forward_and_sleeping_takes_at_least_as_long_as_asked(place: Place) -> None:
    clock = place.target.clock
    before, wall = clock.now(), clock.wall()
    clock.sleep(0.125)
    assert clock.now() - before >= 0.125
    assert clock.wall() > wall


def test_a_user_is_served(place: Place) -> None:
    status, seen = place.observers.user_probe()
    assert status == 200
    assert seen


def test_alerts_are_a_tuple_and_none_is_active_on_a_whole_system(place: Place) -> None:
    def silent() -> bool:
        held = place.observers.alerts()
        assert isinstance(held, tuple)
        assert all(isinstance(alert, Alert) for alert in held)
        return not any(alert.name == "LowReplicaCount" and alert.active for alert in held)

    place.wait_for(silent)


def test_a_load_leaves_a_recording_and_the_servers_count_exactly_that(place: Place, tmp_path: Path) -> None:
    clock = place.target.clock
    clock.sleep(place.observers.settle_s)
    begin = clock.wall()
    load = place.observers.start_load(PLAN, tmp_path / "load")
    assert load.running()
    load.wait()
    assert not load.running()
    recording, samples = read(tmp_path / "load")
    assert (recording.rate, recording.seconds, recording.seed) == (PLAN.rate, PLAN.seconds, PLAN.seed)
    assert len(samples) == recording.planned > 0
    assert answered(samples).all()
    assert not recording.stopped
    assert load.progress() == f"{len(samples)} requests, 0 failed"
    clock.sleep(place.observers.settle_s)
    counts = place.observers.server_counts(begin, clock.wall())
    assert counts is not None
    assert (counts.requests, counts.errors, counts.resets) == (len(samples), 0.0, 0)
    assert counts.start <= begin <= counts.end <= clock.wall()
    assert counts.p95 is not None
    assert 0.0 < counts.p95 < 10.0
    assert counts.queries


def test_a_load_can_be_stopped_early_and_twice(place: Place, tmp_path: Path) -> None:
    load = place.observers.start_load(LoadPlan(25.0, 300.0, 1), tmp_path / "load")
    place.target.clock.sleep(1.0)
    load.stop()
    load.stop()
    assert not load.running()
    recording, samples = read(tmp_path / "load")
    assert recording.stopped
    assert len(samples) == recording.planned < 300


def test_the_same_seed_plans_the_same_requests(place: Place, tmp_path: Path) -> None:
    planned = []
    for name in ("a", "b"):
        load = place.observers.start_load(LoadPlan(25.0, 1.0, 9), tmp_path / name)
        load.wait()
        recording, samples = read(tmp_path / name)
        planned.append((samples["planned"] - recording.started).round(3).tolist())
    assert planned[0] == planned[1]


def test_nothing_is_counted_where_there_is_no_data(place: Place) -> None:
    assert place.observers.server_counts(1_000_000.0, 1_000_060.0) is None


def _secrets(target: Target) -> list[str]:
    if isinstance(target, KubernetesTarget):
        return [target.place.api_key_file.read_text(encoding="utf-8")]
    if not isinstance(target, LocalTarget):
        return []
    lines = [line for path in target.layout.secrets.iterdir() for line in path.read_text(encoding="utf-8").splitlines()]
    words = [line.rpartition(":")[2] for line in lines if not line.startswith("-----")]
    assert len(words) >= 2, "the system has no secrets to look for"
    return words


@dataclass(frozen=True)
class Versions:
    """The version in production, and one that can take its place."""

    production: str
    candidate: str


@pytest.fixture
def of(place: Place) -> Iterator[Versions]:
    """Afterwards there is no canary and production is as before."""
    require(place, Capability.WEIGHTS)
    found = _versions(place.target)
    yield found
    place.target.router.end()
    place.target.router.demote(found.production)


def _versions(target: Target) -> Versions:
    if isinstance(target, LocalTarget):
        return Versions("1", next(iter(versions(target.layout) - {"1"}), "") or register_copy(target.layout))
    if isinstance(target, KubernetesTarget):
        return _versions_on_cluster(target)
    return Versions("1", "2")


@cache
def _versions_on_cluster(target: KubernetesTarget) -> Versions:
    """One version is registered for all tests: it stays there for good."""
    with target.reach("mlflow") as url, target.objects() as objects:
        models = Models(objects, Registry(url))
        return Versions(models.named(PRODUCTION).number, register(models, "none"))


def _split(place: Place) -> Split:
    split = place.target.router.split()
    assert split is not None
    return split


def test_a_place_can_split_its_traffic_or_says_that_it_cannot(place: Place) -> None:
    if Capability.WEIGHTS not in place.target.capabilities:
        with pytest.raises(CannotRun, match="does not split traffic; use target local"):
            _ = place.target.router
        return
    assert place.target.router.split() is None


def test_a_canary_begins_without_traffic_and_beside_the_replicas(place: Place, of: Versions) -> None:
    before = [replica.identity for replica in place.target.replicas()]
    place.target.router.begin(of.candidate)
    split = _split(place)
    assert (split.version, split.production, split.canary, split.control) == (of.candidate, of.production, 0.0, 0.0)
    assert [(item.name, item.ready, item.restarts) for item in split.replicas] == [("canary-1", True, 0), ("control-1", True, 0)]
    assert len({item.identity for item in split.replicas} | set(before)) == 5
    assert [replica.identity for replica in place.target.replicas()] == before
    with pytest.raises(UsageError, match=f"version {of.candidate} is a canary already; end it first"):
        place.target.router.begin(of.production)


def test_no_request_is_lost_while_weights_change_and_a_canary_dies(place: Place, of: Versions, tmp_path: Path) -> None:
    router, clock = place.target.router, place.target.clock
    router.begin(of.candidate)
    load = place.observers.start_load(LoadPlan(rate=50.0, seconds=16.0, seed=8), tmp_path / "load")
    for canary, control in ((0.1, 0.1), (0.5, 0.5), (1.0, 0.0), (0.5, 0.5)):
        router.shift(canary, control)
        split = _split(place)
        assert (split.canary, split.control) == (canary, control)
        clock.sleep(1.0)
    before = split.replicas[0]
    place.target.kill(before.name)
    place.wait_for(lambda: _split(place).replicas[0].ready and _split(place).replicas[0].identity != before.identity)
    assert _split(place).replicas[0].restarts == 1
    router.end()
    load.wait()
    _, samples = read(tmp_path / "load")
    assert len(samples) > 500
    assert answered(samples).all()


def test_a_candidate_is_promoted_and_demoted_and_the_shares_stay(place: Place, of: Versions) -> None:
    router = place.target.router
    router.begin(of.candidate)
    router.shift(0.25, 0.25)
    router.promote()
    assert (_split(place).version, _split(place).production) == (of.candidate, of.candidate)
    assert (_split(place).canary, _split(place).control) == (0.25, 0.25)
    router.demote(of.production)
    assert _split(place).production == of.production
    router.demote(of.production)
    assert _split(place).production == of.production


def test_an_ended_canary_is_gone_and_another_can_begin(place: Place, of: Versions) -> None:
    router = place.target.router
    router.end()
    router.begin(of.candidate)
    first = _split(place)
    router.shift(0.5, 0.5)
    router.end()
    router.end()
    assert router.split() is None
    with pytest.raises(UsageError, match="'canary-1' does not exist; there are serving-1, serving-2, serving-3"):
        place.target.kill("canary-1")
    router.begin(of.candidate)
    second = _split(place)
    assert (second.canary, second.control) == (0.0, 0.0)
    assert {item.identity for item in first.replicas}.isdisjoint(item.identity for item in second.replicas)


def test_without_a_canary_nothing_can_be_split_or_promoted(place: Place) -> None:
    require(place, Capability.WEIGHTS)
    router = place.target.router
    with pytest.raises(UsageError, match="there is no canary; begin one first"):
        router.shift(0.1, 0.1)
    with pytest.raises(UsageError, match="there is no canary; begin one first"):
        router.promote()
    assert router.split() is None


def test_shares_that_are_none_change_nothing(place: Place, of: Versions) -> None:
    router = place.target.router
    router.begin(of.candidate)
    router.shift(0.25, 0.25)
    with pytest.raises(UsageError, match="cannot be given"):
        router.shift(0.75, 0.5)
    assert (_split(place).canary, _split(place).control) == (0.25, 0.25)


@pytest.mark.parametrize("version", ["9999", "x"])
def test_an_unknown_version_is_a_wrong_request(place: Place, version: str) -> None:
    require(place, Capability.WEIGHTS)
    for change in (place.target.router.begin, place.target.router.demote):
        with pytest.raises(UsageError, match=f"the registry has no version '{version}'"):
            change(version)
    assert place.target.router.split() is None
