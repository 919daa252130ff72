"""The database cluster of a local system: what its members are, and what a drill may do to them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import Any

import httpx
import psutil

from sre.errors import StepFailed, TargetUnavailable, UsageError
from sre.readings import Member
from sre.targets import patroni
from sre.targets.local import cables, processes, state
from sre.targets.local.files import run_as
from sre.targets.local.layout import MEMBERS, Layout, number_of

_ASK_WITHIN_S, _SWITCH_WITHIN_S = 2.0, 30.0
_LIMIT_WITHIN_S = 10.0
# The soft limit, in bytes; the hard one stays as it is.
_NOTHING = "1:"


class LocalDatabase:
    """Three members on this machine.

    Args:
        layout: of a whole system.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._control = layout.run / "cables"

    @property
    def synchronous(self) -> bool:
        """Whether a commit waits for a standby."""
        return self._layout.synchronous != "off"

    def members(self) -> tuple[Member, ...]:
        """All members, as the first agent that answers knows them."""
        known = {item["name"]: item for item in self._cluster()}
        return tuple(self._member(name, known.get(name, {})) for name in MEMBERS)

    def primary(self) -> Member | None:
        """The primary that the agents agree on."""
        return next((member for member in self.members() if member.role == "primary"), None)

    def store_trouble(self, member: str) -> str:
        """What its etcd says of its own health, which takes a quorum."""
        store = _store(self._known(member))
        try:
            with self._client(_ASK_WITHIN_S) as client:
                answer = client.get(f"https://{self._layout.address(store)}/health")
        except httpx.HTTPError as error:
            return f"{store} does not answer ({type(error).__name__})"
        return "" if answer.status_code == httpx.codes.OK else f"{store} says {answer.text.strip()}"

    def volume(self, member: str) -> str:
        """Number of its data folder's inode."""
        try:
            return str(self._layout.data(self._known(member)).stat().st_ino)
        except FileNotFoundError:
            return ""

    def crash(self, member: str) -> None:
        """SIGKILL the postmaster; its children end when they notice."""
        self._signal(member, [self._postmaster(member)], SIGKILL)

    def freeze(self, member: str) -> None:
        """SIGSTOP every process of the server, the one that would start more first."""
        postmaster = self._postmaster(member)
        self._signal(member, [postmaster], SIGSTOP)
        self._signal(member, postmaster.children(recursive=True), SIGSTOP)

    def thaw(self, member: str) -> None:
        """SIGCONT to all that work in its folder: frozen children outlive a postmaster that was killed meanwhile."""
        folder = self._layout.data(self._known(member)).parent
        for process in psutil.process_iter():
            try:
                if process.name() == "postgres" and Path(process.cwd()).is_relative_to(folder):
                    _send(process, SIGCONT)
            except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                continue

    def lose(self, member: str) -> None:
        """Hold agent and store, then end both and the server."""
        for service in (self._known(member), _store(member)):
            state.hold(self._layout.home, service)
        server = self._server(member)
        services = self._services((member, _store(member)))
        # The agent first: it would see its server gone and tell the others.
        self._signal(member, [*services, *server], SIGKILL)

    def bring_back(self, member: str) -> None:
        """Release agent and store; the supervisor starts them. What a lost volume held goes for good."""
        self._known(member)
        for service in (member, _store(member)):
            state.release(self._layout.home, service)
        shutil.rmtree(self._lost(member), ignore_errors=True)

    def lose_volume(self, member: str) -> None:
        """Lose its host, put its data folder aside, and let the host start."""
        if not self.volume(member):
            raise StepFailed(f"{member} has no data to lose ({self._layout.data(member)} does not exist)")
        self.lose(member)
        lost = self._lost(member)
        shutil.rmtree(lost, ignore_errors=True)
        # Kept until `bring_back`, so that the new folder cannot get the same inode.
        self._layout.data(member).rename(lost)
        for service in (member, _store(member)):
            state.release(self._layout.home, service)

    def cut(self, member: str) -> None:
        """Pull the cable of its host."""
        cables.cut(self._control, [number_of(self._known(member))])

    def mend(self) -> None:
        """Put every cable back."""
        cables.mend(self._control)

    def lose_store(self, members: Sequence[str]) -> None:
        """Hold and end the etcd of these hosts."""
        stores = [_store(self._known(member)) for member in members]
        for store in stores:
            state.hold(self._layout.home, store)
        self._signal(", ".join(members), self._services(stores), SIGKILL)

    def refuse_writes(self, member: str) -> None:
        """Limit the size of files for the server and its agent: a write answers EFBIG, as it answers ENOSPC on a full disk."""
        self._limit(member, _NOTHING)

    def allow_writes(self, member: str) -> None:
        """Lift the limit."""
        self._limit(member, "unlimited:")

    def hold_back(self, member: str) -> None:
        """SIGSTOP the WAL receiver."""
        self._signal(member, self._receivers(member), SIGSTOP)

    def catch_up(self, member: str) -> None:
        """SIGCONT it; one that was started meanwhile was never stopped."""
        for process in self._receivers(self._known(member)):
            _send(process, SIGCONT)

    def switch_over(self, to: str) -> None:
        """Ask the agents.

        Raises:
            StepFailed: they refuse, or there is no primary; the message holds their words.
        """
        self._known(to)
        leader = self.primary()
        if leader is None:
            raise StepFailed(f"there is no primary to switch over from (to {to})")
        number = number_of(leader.name)
        wish = {"leader": leader.name, "candidate": to}
        try:
            with self._client(_SWITCH_WITHIN_S) as client:
                answer = client.post(f"https://{self._layout.address(f'patroni-{number}')}/switchover", json=wish)
        except httpx.HTTPError as error:
            raise StepFailed(f"switchover from {leader.name} to {to} was not answered: {type(error).__name__} {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise StepFailed(f"switchover from {leader.name} to {to} was answered {answer.status_code}: {answer.text.strip()}")

    def _cluster(self) -> list[dict[str, Any]]:
        with self._client(_ASK_WITHIN_S) as client:
            for number in map(number_of, MEMBERS):
                try:
                    answer = client.get(f"https://{self._layout.address(f'patroni-{number}')}/cluster")
                    if answer.status_code == httpx.codes.OK:
                        return list(answer.json()["members"])
                except (httpx.HTTPError, ValueError, KeyError):
                    continue
        return []

    def _client(self, within: float) -> httpx.Client:
        trust = ssl.create_default_context(cafile=self._layout.config / "ca.pem")
        trust.load_cert_chain(self._layout.config / "toolkit.pem", self._layout.secrets / "toolkit.key")
        return httpx.Client(verify=trust, timeout=within, trust_env=False)

    def _member(self, name: str, known: dict[str, Any]) -> Member:
        try:
            identity = processes.identity(self._postmaster(name).pid)
        except StepFailed:
            identity = ""
        return patroni.member(name, identity, known)

    def _lost(self, member: str) -> Path:
        return self._layout.data(member).with_suffix(".lost")

    def _known(self, member: str) -> str:
        if member not in MEMBERS:
            raise UsageError(f"database member {member!r} does not exist; there are {', '.join(MEMBERS)}")
        return member

    def _postmaster(self, member: str) -> psutil.Process:
        file = self._layout.data(self._known(member)) / "postmaster.pid"
        try:
            process = psutil.Process(int(file.read_text(encoding="utf-8").split("\n", 1)[0]))
            if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (OSError, ValueError, psutil.NoSuchProcess):
            pass
        raise StepFailed(f"{member} runs no database server (looked for the process of {file})")

    def _server(self, member: str) -> list[psutil.Process]:
        try:
            postmaster = self._postmaster(member)
            return [postmaster, *postmaster.children(recursive=True)]
        except (StepFailed, psutil.NoSuchProcess):
            return []

    def _receivers(self, member: str) -> list[psutil.Process]:
        return [process for process in self._server(member) if "walreceiver" in " ".join(process.cmdline())]

    def _services(self, names: Iterable[str]) -> list[psutil.Process]:
        current = state.read(self._layout.home)
        if current is None:
            raise TargetUnavailable(f"the system of {self._layout.home} is gone; run `sre up`")
        found = (current.services[name].process for name in names)
        return [psutil.Process(int(process.partition("@")[0])) for process in found if processes.alive(process)]

    def _limit(self, member: str, limit: str) -> None:
        found = [*self._services([self._known(member)]), *self._server(member)]
        if not found:
            raise StepFailed(f"{member} has no process whose writes could be limited")
        for process in found:
            # As the account itself: root without CAP_SYS_RESOURCE may not change the limits of another's process.
            done = subprocess.run(
                ["prlimit", f"--pid={process.pid}", f"--fsize={limit}"], **run_as(self._layout.account),
                capture_output=True, text=True, timeout=_LIMIT_WITHIN_S, check=False,
            )  # fmt: skip
            if done.returncode and process.is_running():
                raise StepFailed(f"the limit of {member}'s process {process.pid} cannot be changed: {done.stderr.strip()}")

    def _signal(self, what: str, targets: Sequence[psutil.Process], number: Signals) -> None:
        # Every process gets it: a list, not `any`, which would stop at the first.
        if not any([_send(process, number) for process in targets]):  # noqa: C419 - the reason stands above
            raise StepFailed(f"{what} has no process to send {number.name} to")


def _send(process: psutil.Process, number: Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _store(member: str) -> str:
    return f"etcd-{number_of(member)}"
