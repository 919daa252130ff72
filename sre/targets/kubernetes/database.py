"""The database cluster of a system on a cluster: what its members are, and what a drill may do to them.

A member is a pod of StatefulSet `postgres`, and its host is that pod. Its agent holds its place in the agreement: the store is
the API server. What is done to a server is done from inside its container, by commands.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sre.errors import CannotRun, StepFailed, UsageError
from sre.readings import Member
from sre.targets import patroni
from sre.targets.kubernetes.agents import Agents
from sre.targets.kubernetes.client import Api, Ended
from sre.targets.kubernetes.network import NO_PROBE

NAMESPACE = "data"
MEMBERS = ("postgres-0", "postgres-1", "postgres-2")
POSTGRES_PORT, _AGENT_PORT = 5432, 8008
CONTAINER = "postgres"
# Keeps the object of a pod that has ended, and so its name: the StatefulSet makes no other pod of that name meanwhile.
HELD = "sre.drills/lost"
_PODS = "/api/v1/namespaces/{}/pods"
_SELECTED = f"?labelSelector=app.kubernetes.io%2Fname%3Dpostgres{NO_PROBE}"
_CONFIG = "/api/v1/namespaces/{}/configmaps/ml-config"
_CLAIM = "/api/v1/namespaces/{}/persistentvolumeclaims/data-{}"
_SWITCH_WITHIN_S = 45.0
# The container's first process is Patroni's too: it only waits for the other, and no signal from inside can end it.
_COMMANDS = r"""
called() {
  for one in /proc/[0-9]*; do
    read -r name 2>/dev/null < "$one/comm" && [ "$name" = "$1" ] && [ "$one" != /proc/1 ] && echo "${one#/proc/}"
  done
}
identity() {
  read -r pid 2>/dev/null < /var/lib/postgresql/data/postmaster.pid && read -r line 2>/dev/null < "/proc/$pid/stat" || return 1
  case $line in *"(postgres) Z"*) return 1 ;; *"(postgres)"*) ;; *) return 1 ;; esac
  set -- ${line##*) }
  echo "$pid ${20}"
}
postmaster() { set -- $(identity); echo "$1"; }
sent() { number=$1; shift; [ $# -gt 0 ] && kill -"$number" "$@" 2>/dev/null; [ $# -gt 0 ]; }
crash() { sent 9 $(postmaster); }
freeze() { sent 19 $(postmaster) && sent 19 $(called postgres); }
thaw() { sent 18 $(called postgres) $(called patroni); true; }
# The agent first: it would see its server gone and tell the others.
off() { sent 19 $(called patroni); sent 9 $(called postgres); true; }
receiver() {
  for pid in $(called postgres); do
    tr '\0' ' ' 2>/dev/null < "/proc/$pid/cmdline" | grep -q walreceiver && found="$found $pid"
  done
  sent "$1" $found
}
limit() {
  for pid in $(called postgres) $(called patroni); do
    prlimit --pid="$pid" --fsize="$1" || [ ! -d "/proc/$pid" ] || return 1
  done
}
"$@"
"""
# patronictl asks the same, and needs ten times the processor time before it does, which would count as outage.
_SWITCH = """
import http.client, json, ssl, sys
trust = ssl.create_default_context(cafile="/etc/postgres/authority/ca.crt")
trust.load_cert_chain("/etc/postgres/tls/tls.crt", "/etc/postgres/tls/tls.key")
agent = http.client.HTTPSConnection("localhost", 8008, context=trust)
agent.request("POST", "/switchover", json.dumps({"leader": sys.argv[1], "candidate": sys.argv[2]}))
answer = agent.getresponse()
print(answer.status, answer.read().decode())
"""
_STOP, _CONTINUE = "19", "18"
# The soft limit, in bytes; the hard one stays as it is.
_NOTHING, _EVERYTHING = "1:", "unlimited:"


class KubernetesDatabase:
    """The members in one namespace.

    Args:
        api: of the cluster.
        ca_file: certificate authority of the system.
        namespace: of the StatefulSet.
    """

    def __init__(self, api: Api, ca_file: Path, namespace: str = NAMESPACE) -> None:
        self._api = api
        self._namespace = namespace
        self._agents = Agents(lambda member: api.connect(namespace, member, _AGENT_PORT), ca_file)

    @property
    def synchronous(self) -> bool:
        """Whether a commit waits for a standby."""
        kept = self._api.get(_CONFIG.format(self._namespace))
        return bool(json.loads(kept["metadata"]["annotations"]["config"]).get("synchronous_mode"))

    def members(self) -> tuple[Member, ...]:
        """All members, as the first agent that answers knows them."""
        pods = self._pods()
        with ThreadPoolExecutor(1 + len(MEMBERS)) as pool:
            known = pool.submit(self._cluster, [name for name in MEMBERS if running(pods.get(name))])
            identities = dict(zip(MEMBERS, pool.map(lambda name: self._identity(name, pods.get(name)), MEMBERS), strict=True))
        items = {item["name"]: item for item in known.result()}
        return tuple(patroni.member(name, identities[name], items.get(name, {})) for name in MEMBERS)

    def primary(self) -> Member | None:
        """The primary that the agents agree on."""
        return next((member for member in self.members() if member.role == "primary"), None)

    def store_trouble(self, member: str) -> str:
        """What its agent says of its own loop, which needs the API server."""
        try:
            status, _ = self._agents.ask(_known(member), "/liveness")
        except (OSError, http.client.HTTPException) as error:
            return f"the agent of {member} does not answer ({type(error).__name__})"
        return "" if status == http.client.OK else f"the agent of {member} says {status}"

    def volume(self, member: str) -> str:
        """Its claim's UID; empty while there is none."""
        claim = self._api.find(_CLAIM.format(self._namespace, _known(member)))
        return "" if claim is None else str(claim["metadata"]["uid"])

    def crash(self, member: str) -> None:
        """SIGKILL the postmaster; its children end when they notice."""
        self._do(member, "crash")

    def freeze(self, member: str) -> None:
        """SIGSTOP every process of the server, the one that would start more first."""
        self._do(member, "freeze")

    def thaw(self, member: str) -> None:
        """SIGCONT to all of them, and to the agent."""
        self._take_back(member, "thaw")

    def lose(self, member: str) -> None:
        """Hold its pod's name, end its server and freeze its agent, and delete the pod without grace: nobody says goodbye."""
        path = f"{_PODS.format(self._namespace)}/{self._running(member)}"
        self._api.patch(path, {"metadata": {"finalizers": [HELD]}})
        self._do(member, "off")
        self._api.delete(f"{path}?gracePeriodSeconds=0")

    def bring_back(self, member: str) -> None:
        """Release its name; the StatefulSet makes a pod, which finds its volume."""
        pod = self._pods().get(_known(member))
        if pod is None or HELD not in pod["metadata"].get("finalizers", ()):
            return
        path = f"{_PODS.format(self._namespace)}/{member}"
        self._api.patch(path, {"metadata": {"$deleteFromPrimitiveList/finalizers": [HELD]}})
        if "deletionTimestamp" not in pod["metadata"]:
            # Whoever held it came no further.
            self.thaw(member)

    def lose_volume(self, member: str) -> None:
        """Delete its claim while its pod is away; the StatefulSet makes both anew."""
        self.lose(member)
        self._api.delete(_CLAIM.format(self._namespace, member))
        self.bring_back(member)

    def cut(self, member: str) -> None:
        """Not here."""
        raise CannotRun(
            f"the cable of {_known(member)} cannot be pulled: a network policy lets live on what is connected; use target local"
        )

    def mend(self) -> None:
        """There is nothing to put back."""

    def lose_store(self, members: Sequence[str]) -> None:
        """Not here."""
        names = ", ".join(map(_known, members))
        raise CannotRun(f"{names} have no store of their own: they agree by the cluster's API server; use target local")

    def refuse_writes(self, member: str) -> None:
        """Limit the size of files for the server and its agent: a write answers EFBIG, as it answers ENOSPC on a full disk."""
        self._do(member, "limit", _NOTHING)

    def allow_writes(self, member: str) -> None:
        """Lift the limit."""
        self._take_back(member, "limit", _EVERYTHING)

    def hold_back(self, member: str) -> None:
        """SIGSTOP the WAL receiver."""
        self._do(member, "receiver", _STOP)

    def catch_up(self, member: str) -> None:
        """SIGCONT it; one that was started meanwhile was never stopped."""
        self._take_back(member, "receiver", _CONTINUE, absent=True)

    def switch_over(self, to: str) -> None:
        """Ask the agents, from where the certificate is that they want for a change.

        Raises:
            StepFailed: they refuse, or there is no primary; the message holds their words.
        """
        leader = self.primary() if _known(to) else None
        if leader is None:
            raise StepFailed(f"there is no primary to switch over from (to {to})")
        command = ["python", "-c", _SWITCH, leader.name, to]
        ended = self._api.run(self._namespace, leader.name, CONTAINER, command, within_s=_SWITCH_WITHIN_S)
        if not ended.output.startswith("200 "):
            words = " ".join(ended.output.split())[-500:]
            raise StepFailed(f"switchover from {leader.name} to {to} was answered {words or ended.code}")

    def _cluster(self, asked: Sequence[str]) -> list[dict[str, Any]]:
        for member in asked:
            try:
                status, found = self._agents.ask(member, "/cluster")
                if status == http.client.OK:
                    return list(found["members"])
            except (OSError, http.client.HTTPException, KeyError, TypeError):
                continue
        return []

    def _identity(self, member: str, pod: Mapping[str, Any] | None) -> str:
        container = running(pod)
        if not container:
            return ""
        try:
            ended = self._command(member, "identity")
        except StepFailed:
            return ""
        pid, _, began = ended.output.strip().partition(" ")
        return f"{pid}@{container}.{began}" if ended.code == 0 and began else ""

    def _running(self, member: str) -> str:
        if not running(self._pods().get(_known(member))):
            raise StepFailed(f"{member} has no pod whose container {CONTAINER} runs")
        return member

    def _do(self, member: str, *words: str) -> None:
        ended = self._command(self._running(member), *words)
        if ended.code != 0:
            raise StepFailed(
                f"{member} runs no database server for `{' '.join(words)}` (status {ended.code}): {ended.output.strip()[-300:]}"
            )

    def _take_back(self, member: str, *words: str, absent: bool = False) -> None:
        # What a container did not survive needs no taking back.
        if not running(self._pods().get(_known(member))):
            return
        ended = self._command(member, *words)
        if ended.code != 0 and not absent:
            raise StepFailed(f"`{' '.join(words)}` failed on {member} (status {ended.code}): {ended.output.strip()[-300:]}")

    def _command(self, member: str, *words: str) -> Ended:
        return self._api.run(self._namespace, member, CONTAINER, ["sh", "-c", _COMMANDS, "member", *words])

    def _pods(self) -> dict[str, dict[str, Any]]:
        found = self._api.get(_PODS.format(self._namespace) + _SELECTED)["items"]
        return {pod["metadata"]["name"]: pod for pod in found}


def running(pod: Mapping[str, Any] | None) -> str:
    """The short id of a pod's running database container; empty when none runs.

    Args:
        pod: as the API gives it; None when there is none.
    """
    statuses = () if pod is None else pod["status"].get("containerStatuses", ())
    for one in statuses:
        if one["name"] == CONTAINER and "running" in one.get("state", {}):
            return str(one.get("containerID", "")).rpartition("/")[2][:12]
    return ""


def _known(member: str) -> str:
    if member not in MEMBERS:
        raise UsageError(f"database member {member!r} does not exist; there are {', '.join(MEMBERS)}")
    return member
