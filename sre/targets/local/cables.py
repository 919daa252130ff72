"""The network of the local cluster: every connection to a member goes through it, and a member's cable can be pulled.

Runs as a process of its own (`python -m sre.targets.local.cables PLAN.json`), needs no root and leaves nothing in the kernel.
Whoever wants a cut writes it into the control folder (`wish.json`), and the process says there what is in force (`state.json`):
so a cut outlives the command that made it, and a restart of the process, and anyone can mend it.

It is what a pulled cable does, with two limits: the kernel of this machine goes on to acknowledge segments and keepalive probes,
so whoever waits for an answer learns of the cut by a time limit of its own and not by TCP's; and while a member is cut off, its
own connections to a dead server of its own are reset where they would be refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import uvloop
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sre.errors import SreError, StepFailed, TargetUnavailable, UsageError
from sre.targets.local import processes
from sre.targets.local.relay import Cable, Relay

SCHEMA = "sre.cables/1"
WISH_NAME, STATE_NAME = "wish.json", "state.json"
CONFIRMED_WITHIN_S = 5.0
_LOOK_EVERY_S, _STALE_AFTER_S = 0.05, 5.0
_WRITE_EVERY_S, _WRITE_IN_CUT_EVERY_S = 0.5, 0.1


class Plan(BaseModel):
    """What the process carries.

    Attributes:
        control: folder of the wish and of the state.
        cables: every way to a server of a member.
        members: by name, the folders below which a member's processes work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    control: Path
    cables: tuple[Cable, ...] = Field(min_length=1)
    members: dict[str, tuple[Path, ...]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = Counter(cable.name for cable in self.cables)
        ports = Counter(port for cable in self.cables for port in (cable.listen, cable.to))
        for what, counter in (("name", names), ("port", ports)):
            if twice := [value for value, count in counter.items() if count > 1]:
                raise ValueError(f"{what} {twice[0]} stands twice")
        if strange := {cable.member for cable in self.cables} - self.members.keys():
            raise ValueError(f"member {min(strange)} of a cable is not among members {', '.join(sorted(self.members))}")
        return self


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut in force.

    Attributes:
        members: cut off from everyone, each other included.
        since: monotonic seconds, when the first byte was held back.
        since_wall: the same moment in seconds since the epoch.
    """

    members: tuple[str, ...]
    since: float
    since_wall: float


@dataclass(frozen=True, slots=True)
class CableState:
    """What the process of the cables last said, at most half a second ago.

    Attributes:
        process: its identity.
        written: monotonic seconds.
        members: all that there are.
        wish: the wish that is in force, by its token; empty if there never was one.
        trouble: why it does not follow the wish on disk; empty if it does.
        cut: None when everything passes.
        connections: open now.
        held: of these, how many are held back.
        held_bytes: waiting in those: sent, and not delivered.
    """

    process: str
    written: float
    members: tuple[str, ...]
    wish: str
    trouble: str
    cut: Cut | None
    connections: int
    held: int
    held_bytes: int


def cut(control: Path, members: Iterable[str], *, within: float = CONFIRMED_WITHIN_S) -> Cut:
    """Cut members off from everyone else, instead of any cut in force, and return when nothing passes any more.

    Args:
        control: the folder of the plan.
        members: names; traffic inside each goes on.
        within: seconds until it must be confirmed. A wish that is not stays on disk until it is mended.

    Raises:
        UsageError: no member is named, or one that does not exist.
        TargetUnavailable: there is no process that could.
        StepFailed: it was not confirmed in time.
    """
    known, wanted = status(control).members, sorted(set(members))
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"member {unknown[0]!r} has no cable; name one of {', '.join(known)}")
    if not wanted:
        raise UsageError(f"no member named to cut off; name one of {', '.join(known)}")
    token, deadline = _wish(control, wanted), time.monotonic() + within
    while (seen := status(control)).wish != token or seen.cut is None:
        if time.monotonic() > deadline:
            raise StepFailed(f"cut of {', '.join(wanted)} not confirmed within {within:g} s (last seen: {seen})")
        time.sleep(_LOOK_EVERY_S / 2)
    return seen.cut


def mend(control: Path, *, within: float = CONFIRMED_WITHIN_S) -> None:
    """Let everything pass; what was held goes on where it was. Idempotent, and without a process there is nothing to wait for.

    Raises:
        StepFailed: it was not confirmed in time.
    """
    if not control.is_dir():
        return
    token, deadline = _wish(control, []), time.monotonic() + within
    while (seen := _read(control)) is not None and processes.alive(seen.process) and seen.wish != token:
        if time.monotonic() > deadline:
            raise StepFailed(f"mending of the cables not confirmed within {within:g} s (last seen: {seen})")
        time.sleep(_LOOK_EVERY_S / 2)


def status(control: Path) -> CableState:
    """What passes and what is held now.

    Raises:
        TargetUnavailable: no process is there to say it, or it has not done so for 5 s.
    """
    seen = _read(control)
    if seen is None or not processes.alive(seen.process):
        raise TargetUnavailable(f"no process of the cables serves {control} (last seen: {seen}); begin the system with `sre up`")
    if (silent := time.monotonic() - seen.written) > _STALE_AFTER_S:
        raise TargetUnavailable(f"the process of the cables has said nothing for {silent:.1f} s (last seen: {seen}); end it")
    return seen


def read_plan(path: Path) -> Plan:
    """The plan.

    Raises:
        UsageError: it is missing or wrong.
    """
    try:
        return Plan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"plan {path}: {error.strerror}; name the plan of the cables") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        value = "" if isinstance(first["input"], dict | list | bytes) else f" is {first['input']!r}"
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"plan {path}: {where}{value}: {first['msg']}; correct it there and begin again") from error


class _Control:
    """Follows the wish, and says what is in force."""

    def __init__(self, plan: Plan, relay: Relay) -> None:
        self.folder, self.relay, self.members = plan.control, relay, tuple(sorted(plan.members))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = processes.identity(os.getpid())
        self.read: tuple[int, ...] = ()
        self.wish = self.trouble = ""
        self.cut: Cut | None = None
        self.write_at = 0.0

    def tick(self) -> None:
        """Look for another wish and say what is in force."""
        self.relay.follow()
        if self._follow() or time.monotonic() >= self.write_at:
            self._write()

    def _follow(self) -> bool:
        version: tuple[int, ...] = ()
        token, wanted = "", []
        try:
            with (self.folder / WISH_NAME).open(encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                if (version := (status.st_ino, status.st_mtime_ns)) == self.read:
                    return False
                document = json.load(file)
            token, wanted = document["token"], document["members"]
        except FileNotFoundError:
            if not self.read:
                return False
        except (ValueError, KeyError, TypeError) as error:
            return self._refuse(version, f"{self.folder / WISH_NAME} is no wish ({error!r}); mend or cut again")
        if unknown := [name for name in wanted if name not in self.members]:
            return self._refuse(version, f"{self.folder / WISH_NAME} names {unknown[0]!r}, which has no cable; mend or cut again")
        # Nothing passes while we look for those who are cut off.
        self.cut = Cut(tuple(wanted), time.monotonic(), time.time()) if wanted else None
        self.relay.cut(wanted)
        self.read, self.wish, self.trouble = version, token, ""
        return True

    def _refuse(self, version: tuple[int, ...], why: str) -> bool:
        self.read, self.trouble = version, why
        _say(why)
        return True

    def _write(self) -> None:
        now, counts = time.monotonic(), self.relay.counts()
        self.write_at = now + (_WRITE_IN_CUT_EVERY_S if self.cut else _WRITE_EVERY_S)
        state = CableState(
            self.process, now, self.members, self.wish, self.trouble, self.cut,
            counts.connections, counts.held, counts.held_bytes,
        )  # fmt: skip
        try:
            _replace(self.folder / STATE_NAME, {"schema": SCHEMA, **asdict(state)})
        except OSError as error:
            # A full disk may be the very fault that is tried; whoever waits for the state hears of it by its absence.
            _say(f"{self.folder / STATE_NAME} cannot be written: {error.strerror}")


def _wish(control: Path, members: Sequence[str]) -> str:
    token = uuid.uuid4().hex
    _replace(control / WISH_NAME, {"token": token, "members": members})
    return token


def _read(control: Path) -> CableState | None:
    try:
        document = json.loads((control / STATE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if document.pop("schema", None) != SCHEMA:
        raise TargetUnavailable(
            f"{control / STATE_NAME} is not of schema {SCHEMA}; end that system with the version that began it"
        )
    found = document.pop("cut")
    in_force = Cut(**{**found, "members": tuple(found["members"])}) if found else None
    return CableState(**{**document, "members": tuple(document["members"]), "cut": in_force})


def _replace(path: Path, document: dict[str, Any]) -> None:
    # Several may write a wish at the same time.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")
    temporary.replace(path)


def _say(words: str) -> None:
    sys.stderr.write(f"cables: {words}\n")
    sys.stderr.flush()


async def _run(plan: Plan) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with Relay(plan.cables, plan.members) as relay:
        control = _Control(plan, relay)
        while not stopping.is_set():
            control.tick()
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _LOOK_EVERY_S)


def main() -> int:
    """Carry connections until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(read_plan(parser.parse_args().plan)))
    except SreError as error:
        _say(str(error))
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
