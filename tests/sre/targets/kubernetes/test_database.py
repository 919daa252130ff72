"""The members over plain API objects, the commands over a made-up table of processes, and all of it on a real system."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sre.errors import CannotRun, StepFailed, UsageError
from sre.faults.database import trouble
from sre.readings import Member
from sre.targets.kubernetes import database
from sre.targets.kubernetes.client import Api
from sre.targets.kubernetes.database import HELD, MEMBERS, KubernetesDatabase, running
from sre.targets.kubernetes.target import KubernetesTarget
from tests.sre.targets.kubernetes.conftest import Served
from tests.sre.targets.kubernetes.objects import ending

PODS = "/api/v1/namespaces/data/pods?labelSelector=app.kubernetes.io%2Fname%3Dpostgres%2C%21sre-probe"
POD = "/api/v1/namespaces/data/pods/postgres-1"
CLAIM = "/api/v1/namespaces/data/persistentvolumeclaims/data-postgres-1"
WHOLE_WITHIN_S = 120.0


def member_pod(name: str, *, runs: bool = True, finalizers: tuple[str, ...] = ()) -> Any:
    """A pod of the StatefulSet."""
    state = {"running": {}} if runs else {"waiting": {"reason": "CrashLoopBackOff"}}
    container = {"name": "postgres", "state": state, "containerID": f"containerd://{name[-1] * 64}"}
    sidecar = {"name": "exporter", "state": {"running": {}}, "containerID": "containerd://other"}
    kept = {"finalizers": list(finalizers)} if finalizers else {}
    return {"metadata": {"name": name, **kept}, "status": {"containerStatuses": [sidecar, container]}}


@pytest.fixture
def members(served: Served, api: Api, tmp_path: Path) -> KubernetesDatabase:
    """Two of three pods, of which one has a container that runs."""
    served.objects[PODS] = {"items": [member_pod("postgres-1", runs=False), member_pod("postgres-2")]}
    return KubernetesDatabase(api, tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("pod", "container"),
    [
        (None, ""),
        ({"metadata": {"name": "postgres-1"}, "status": {}}, ""),
        (member_pod("postgres-1", runs=False), ""),
        (member_pod("postgres-1"), "1" * 12),
        (ending(member_pod("postgres-2")), "2" * 12),
    ],
)
def test_a_server_can_only_be_in_a_container_that_runs(pod: Any, container: str) -> None:
    assert running(pod) == container


def test_of_a_cluster_that_nobody_answers_for_nothing_is_known(members: KubernetesDatabase) -> None:
    assert members.members() == tuple(Member(name, "", "", "unknown", 0, None) for name in MEMBERS)
    assert members.primary() is None
    assert members.store_trouble("postgres-1") == "the agent of postgres-1 does not answer (ConnectionError)"
    with pytest.raises(StepFailed, match=r"there is no primary to switch over from \(to postgres-2\)"):
        members.switch_over("postgres-2")


@pytest.mark.parametrize("change", ["crash", "freeze", "lose", "lose_volume", "refuse_writes", "hold_back"])
def test_without_a_container_there_is_nothing_to_act_upon(members: KubernetesDatabase, served: Served, change: str) -> None:
    for name in ("postgres-0", "postgres-1"):
        with pytest.raises(StepFailed, match=f"{name} has no pod whose container postgres runs"):
            getattr(members, change)(name)
    assert served.changes == []


@pytest.mark.parametrize("change", ["thaw", "bring_back", "allow_writes", "catch_up"])
def test_what_a_container_did_not_survive_is_taken_back_already(members: KubernetesDatabase, served: Served, change: str) -> None:
    for name in ("postgres-0", "postgres-1"):
        getattr(members, change)(name)
    members.mend()
    assert served.changes == []


def test_a_fault_whose_command_cannot_be_run_leaves_the_pod_there(members: KubernetesDatabase, served: Served) -> None:
    served.objects["/api/v1/namespaces/data/pods/postgres-2"] = {}
    with pytest.raises(StepFailed, match="sh cannot be run in postgres of pod postgres-2"):
        members.lose("postgres-2")
    assert [(method, path) for method, path, _, _ in served.changes] == [("PATCH", "/api/v1/namespaces/data/pods/postgres-2")]


def test_a_lost_pod_s_name_is_released_once(members: KubernetesDatabase, served: Served) -> None:
    served.objects[PODS] = {"items": [ending(member_pod("postgres-1", runs=False, finalizers=(HELD,)))]}
    served.objects[POD] = {}
    members.bring_back("postgres-1")
    merge = "application/strategic-merge-patch+json"
    assert served.changes == [("PATCH", POD, merge, {"metadata": {"$deleteFromPrimitiveList/finalizers": [HELD]}})]
    served.objects[PODS] = {"items": [ending(member_pod("postgres-1", finalizers=("another/one",)))]}
    members.bring_back("postgres-1")
    assert len(served.changes) == 1


def test_a_release_that_is_refused_is_tried_again_by_whoever_undoes(members: KubernetesDatabase, served: Served) -> None:
    served.objects[PODS] = {"items": [ending(member_pod("postgres-1", runs=False, finalizers=(HELD,)))]}
    served.objects[POD] = 409
    with pytest.raises(StepFailed, match=f"cluster testbed refused PATCH {POD}: 409"):
        members.bring_back("postgres-1")


def test_a_volume_is_the_claim_that_was_made_for_it(members: KubernetesDatabase, served: Served) -> None:
    assert members.volume("postgres-1") == ""
    served.objects[CLAIM] = {"metadata": {"uid": "11b4"}}
    assert members.volume("postgres-1") == "11b4"


@pytest.mark.parametrize(("config", "synchronous"), [('{"synchronous_mode": true}', True), ('{"ttl": 20}', False)])
def test_a_commit_waits_for_a_standby_when_the_agents_agreed_so(
    members: KubernetesDatabase, served: Served, config: str, *, synchronous: bool
) -> None:
    served.objects["/api/v1/namespaces/data/configmaps/ml-config"] = {"metadata": {"annotations": {"config": config}}}
    assert members.synchronous is synchronous


def test_what_cannot_be_done_here_is_said_and_an_unknown_member_is_named(members: KubernetesDatabase) -> None:
    with pytest.raises(CannotRun, match=r"the cable of postgres-1 cannot be pulled: .*; use target local"):
        members.cut("postgres-1")
    with pytest.raises(CannotRun, match=r"postgres-0, postgres-1 have no store of their own: .*; use target local"):
        members.lose_store(["postgres-0", "postgres-1"])
    for change in (members.cut, members.crash, members.volume, members.store_trouble, members.bring_back, members.switch_over):
        with pytest.raises(UsageError, match="'postgres-9' does not exist; there are postgres-0, postgres-1, postgres-2"):
            change("postgres-9")


class Processes:
    """A made-up /proc, and what the commands do in it: `kill` and `prlimit` only say what they were told."""

    def __init__(self, folder: Path) -> None:
        self._proc, self._data = folder / "proc", folder / "data"
        self._data.mkdir()

    def add(self, pid: int, name: str, *, state: str = "S", began: int = 700, command: str = "") -> None:
        place = self._proc / str(pid)
        place.mkdir(parents=True)
        (place / "comm").write_text(f"{name}\n")
        (place / "stat").write_text(f"{pid} ({name}) {state} " + "0 " * 18 + f"{began} 0 0\n")
        (place / "cmdline").write_bytes(command.replace(" ", "\0").encode())

    def postmaster(self, pid: int) -> None:
        (self._data / "postmaster.pid").write_text(f"{pid}\n/var/lib/postgresql/data\n")

    def run(self, *words: str) -> tuple[int, list[str]]:
        commands = database._COMMANDS.replace("/proc", str(self._proc)).replace("/var/lib/postgresql/data", str(self._data))
        said = 'kill() { echo "kill $*"; }; prlimit() { echo "prlimit $*"; }\n'
        done = subprocess.run(
            ["sh", "-c", said + commands, "member", *words], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.stderr == ""
        return done.returncode, [re.sub(r"\s+", " ", line) for line in done.stdout.splitlines()]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    """A member as it is: two processes of the agent, a server with its children, a shell."""
    made = Processes(tmp_path)
    made.add(1, "patroni")
    made.add(8, "patroni")
    made.add(32, "postgres", began=5844708, command="/usr/lib/postgresql/15/bin/postgres -D /data")
    made.add(33, "postgres", command="postgres: ml: checkpointer")
    made.add(37, "postgres", command="postgres: ml: walreceiver streaming 0/10000060")
    made.add(115, "sh")
    made.postmaster(32)
    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("identity",), ["32 5844708"]),
        (("crash",), ["kill -9 32"]),
        (("freeze",), ["kill -19 32", "kill -19 32 33 37"]),
        (("thaw",), ["kill -18 32 33 37 8"]),
        (("off",), ["kill -19 8", "kill -9 32 33 37"]),
        (("receiver", "19"), ["kill -19 37"]),
        (("limit", "1:"), [f"prlimit --pid={pid} --fsize=1:" for pid in (32, 33, 37, 8)]),
    ],
)
def test_a_command_reaches_those_whom_it_is_meant_for(processes: Processes, words: tuple[str, ...], said: list[str]) -> None:
    assert processes.run(*words) == (0, said)


@pytest.mark.parametrize(
    ("name", "state"), [("postgres", "Z"), ("python", "S"), ("", "")], ids=["a zombie", "another program", "nobody"]
)
def test_a_process_that_has_a_dead_server_s_number_is_never_taken_for_it(tmp_path: Path, name: str, state: str) -> None:
    made = Processes(tmp_path)
    made.add(1, "patroni")
    if name:
        made.add(32, name, state=state)
    made.postmaster(32)
    assert made.run("identity") == (1, [])
    assert made.run("crash") == (1, [])
    assert made.run("freeze") == (1, [])


def test_without_a_server_only_the_agent_is_left_to_end_and_nothing_is_held_back(tmp_path: Path) -> None:
    made = Processes(tmp_path)
    made.add(1, "patroni")
    made.add(9, "patroni")
    assert made.run("identity") == (1, [])
    assert made.run("off") == (0, ["kill -19 9"])
    assert made.run("receiver", "19") == (1, [])
    assert made.run("thaw") == (0, ["kill -18 9"])


@pytest.mark.cluster
@pytest.mark.timeout(600)
class TestOnTheCluster:
    """The members of the overlay `dev`; every test leaves them whole."""

    @pytest.fixture
    def real(self, system_on_cluster: KubernetesTarget) -> Iterator[KubernetesTarget]:
        _wait(system_on_cluster, lambda: trouble(system_on_cluster.database) == "")
        yield system_on_cluster
        for name in MEMBERS:
            for undo in ("bring_back", "thaw", "catch_up", "allow_writes"):
                getattr(system_on_cluster.database, undo)(name)
        _wait(system_on_cluster, lambda: trouble(system_on_cluster.database) == "")

    def test_a_crashed_primary_gives_way_to_who_has_every_write(self, real: KubernetesTarget) -> None:
        victim, heir = _with_role(real, "primary"), _with_role(real, "sync_standby")
        real.database.crash(victim.name)
        _wait(real, lambda: trouble(real.database) == "" and _with_role(real, "primary").name != victim.name)
        assert _with_role(real, "primary").name == heir.name
        after = _named(real, victim.name)
        assert after.identity not in {"", victim.identity}
        assert after.timeline == victim.timeline + 1

    def test_a_frozen_server_is_the_same_until_it_goes_on(self, real: KubernetesTarget) -> None:
        victim = _with_role(real, "standby")
        real.database.freeze(victim.name)
        assert _named(real, victim.name).identity == victim.identity
        assert _states(real, victim.name) == {"T"}
        real.database.thaw(victim.name)
        assert "T" not in _states(real, victim.name)

    def test_a_lost_member_stays_away_until_it_is_brought_back_and_keeps_its_volume(self, real: KubernetesTarget) -> None:
        victim, volume = _with_role(real, "standby"), real.database.volume(_with_role(real, "standby").name)
        real.database.lose(victim.name)
        assert _named(real, victim.name).identity == ""
        _wait(real, lambda: "does not answer" in real.database.store_trouble(victim.name))
        real.clock.sleep(10.0)
        assert _named(real, victim.name).identity == ""
        with pytest.raises(StepFailed, match=f"{victim.name} has no pod whose container postgres runs"):
            real.database.crash(victim.name)
        real.database.bring_back(victim.name)
        _wait(real, lambda: trouble(real.database) == "")
        assert _named(real, victim.name).identity not in {"", victim.identity}
        assert real.database.volume(victim.name) == volume

    def test_a_member_that_loses_its_volume_is_built_anew(self, real: KubernetesTarget) -> None:
        victim, volume = _with_role(real, "standby"), real.database.volume(_with_role(real, "standby").name)
        real.database.lose_volume(victim.name)
        _wait(real, lambda: real.database.volume(victim.name) not in {"", volume} and trouble(real.database) == "")
        assert _named(real, victim.name).identity not in {"", victim.identity}

    def test_a_full_disk_is_one_for_server_and_agent_and_ends(self, real: KubernetesTarget) -> None:
        victim = _with_role(real, "standby")
        assert _limits(real, victim.name) == {"unlimited"}
        real.database.refuse_writes(victim.name)
        assert _limits(real, victim.name) == {"1"}
        real.database.allow_writes(victim.name)
        assert _limits(real, victim.name) == {"unlimited"}

    def test_a_standby_that_is_held_back_is_stopped_where_it_receives(self, real: KubernetesTarget) -> None:
        victim, primary = _with_role(real, "standby"), _with_role(real, "primary")
        with pytest.raises(StepFailed, match=f"{primary.name} runs no database server for `receiver 19`"):
            real.database.hold_back(primary.name)
        real.database.hold_back(victim.name)
        assert "T" in _states(real, victim.name)
        real.database.catch_up(victim.name)
        _wait(real, lambda: "T" not in _states(real, victim.name))

    def test_a_switchover_goes_where_it_is_asked_to_or_is_told_in_the_agents_words(self, real: KubernetesTarget) -> None:
        leader, to = _with_role(real, "primary"), _with_role(real, "sync_standby")
        with pytest.raises(StepFailed, match=rf"switchover from {leader.name} to {leader.name} was answered 4\d\d \w+"):
            real.database.switch_over(leader.name)
        assert _with_role(real, "primary") == leader
        real.database.switch_over(to.name)
        _wait(real, lambda: trouble(real.database) == "" and _with_role(real, "primary").name == to.name)
        assert _with_role(real, "primary").timeline == leader.timeline + 1


def _wait(system: KubernetesTarget, condition: Callable[[], bool]) -> None:
    deadline = system.clock.now() + WHOLE_WITHIN_S
    while not condition():
        assert system.clock.now() < deadline, f"not within {WHOLE_WITHIN_S:.0f} s, last seen: {system.database.members()}"
        system.clock.sleep(0.5)


def _with_role(system: KubernetesTarget, role: str) -> Member:
    return next(member for member in system.database.members() if member.role == role)


def _named(system: KubernetesTarget, name: str) -> Member:
    return next(member for member in system.database.members() if member.name == name)


def _inside(system: KubernetesTarget, name: str, command: str) -> list[str]:
    return system.api.run("data", name, "postgres", ["sh", "-c", command]).output.split()


def _states(system: KubernetesTarget, name: str) -> set[str]:
    """States of the server's processes, as the kernel shows them."""
    return set(_inside(system, name, "sed -n 's/.*(postgres) \\(.\\).*/\\1/p' /proc/[0-9]*/stat 2>/dev/null"))


def _limits(system: KubernetesTarget, name: str) -> set[str]:
    """Soft limits on the size of files of everything but the container's first process and what is asking."""
    asked = "for one in /proc/[0-9]*; do grep -qE 'postgres|patroni' $one/comm && [ $one != /proc/1 ] && "
    return set(_inside(system, name, asked + "sed -n 's/^Max file size *\\([^ ]*\\).*/\\1/p' $one/limits; done 2>/dev/null"))
