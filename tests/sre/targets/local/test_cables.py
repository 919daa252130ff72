from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sre.errors import StepFailed, TargetUnavailable, UsageError
from sre.targets.local import cables, processes
from sre.targets.local.cables import CableState
from tests.sre.targets.local.ports import free_port

# A process of a member: `PORT WORDS` sends the words over its connection to that port, and every line that comes back is told.
CLIENT = """
import socket, sys, threading
ends = {}
def tell(port):
    for line in ends[port].makefile():
        print(port, line, end="", flush=True)
for line in sys.stdin:
    port, _, words = line.partition(" ")
    if port not in ends:
        ends[port] = socket.create_connection(("127.0.0.1", int(port)))
        threading.Thread(target=tell, args=(port,), daemon=True).start()
    ends[port].sendall(words.encode())
"""
PATIENCE_S = 20.0


async def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.01)


class Network:
    """Three members of one server each, which answers a line with itself, and the process of the cables before them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.control, self.plan = folder, folder / "control", folder / "plan.json"
        self.listen = {name: free_port() for name in "123"}
        self.received: dict[str, list[str]] = {name: [] for name in "123"}
        self.servers: dict[str, asyncio.Server] = {}
        self.writers: dict[str, list[StreamWriter]] = {name: [] for name in "123"}
        self.outside: list[StreamWriter] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: dict[str, Process] = {}

    async def begin(self, *, answer: Any = None) -> None:
        for name in "123":
            self.servers[name] = await asyncio.start_server(
                lambda *ends, name=name: (answer or self.echo)(name, *ends), "127.0.0.1"
            )
            (self.folder / f"postgres-{name}" / "base").mkdir(parents=True)
        to = {name: server.sockets[0].getsockname()[1] for name, server in self.servers.items()}
        plan = {
            "control": str(self.control),
            "cables": [{"name": f"postgres-{n}", "member": n, "listen": self.listen[n], "to": to[n]} for n in "123"],
            "members": {name: [str(self.folder / f"postgres-{name}")] for name in "123"},
        }
        self.plan.write_text(json.dumps(plan))
        await self.start()

    async def start(self) -> None:
        self.process = self.spawn()
        known = processes.identity(self.process.pid)
        await until(lambda: (seen := cables._read(self.control)) is not None and seen.process == known, self.words)

    def spawn(self) -> subprocess.Popen[bytes]:
        with (self.folder / "words").open("ab") as words:
            return subprocess.Popen([sys.executable, "-m", "sre.targets.local.cables", str(self.plan)], stderr=words)

    def words(self) -> str:
        return (self.folder / "words").read_text()

    def signal(self, number: signal.Signals) -> int | None:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S) if number in {signal.SIGTERM, signal.SIGKILL} else None

    async def echo(self, name: str, reader: StreamReader, writer: StreamWriter) -> None:
        self.writers[name].append(writer)
        while line := await reader.readline():
            self.received[name].append(line.decode().strip())
            writer.write(line)
        self.received[name].append("END")
        writer.close()

    async def open(self, name: str) -> tuple[StreamReader, StreamWriter]:
        """A connection of the test itself, which belongs to no member."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listen[name])
        self.outside.append(writer)
        return reader, writer

    async def member(self, name: str, *, by: str) -> None:
        """A process of a member, marked by its environment or by its folder."""
        environment = {**os.environ, "SRE_MEMBER": name} if by == "environment" else dict(os.environ)
        folder = self.folder / f"postgres-{name}" / "base" if by == "folder" else self.folder
        command = (sys.executable, "-S", "-E", "-c", CLIENT)
        self.clients[name] = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment, cwd=folder)

    def send(self, name: str, to: str, words: str) -> None:
        stdin = self.clients[name].stdin
        assert stdin is not None
        stdin.write(f"{self.listen[to]} {words}\n".encode())

    async def heard(self, name: str, to: str, words: str) -> None:
        stdout = self.clients[name].stdout
        assert stdout is not None
        line = await asyncio.wait_for(stdout.readline(), PATIENCE_S)
        assert line.decode() == f"{self.listen[to]} {words}\n"

    async def talk(self, name: str, to: str, words: str) -> None:
        self.send(name, to, words)
        await self.heard(name, to, words)

    async def cut(self, *members: str) -> cables.Cut:
        return await asyncio.to_thread(cables.cut, self.control, members)

    async def mend(self) -> None:
        await asyncio.to_thread(cables.mend, self.control)

    def status(self) -> CableState:
        return cables.status(self.control)

    async def until_held(self, connections: int, waiting: int) -> None:
        await until(lambda: (self.status().held, self.status().held_bytes) == (connections, waiting), self.status)

    async def end(self) -> None:
        for writer in (*self.outside, *(one for several in self.writers.values() for one in several)):
            writer.close()
        for server in self.servers.values():
            server.close()
        for client in self.clients.values():
            client.kill()
            await client.communicate()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        await asyncio.sleep(0)


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    one = Network(tmp_path)
    yield one
    await one.end()


async def say(connection: tuple[StreamReader, StreamWriter], words: str) -> None:
    connection[1].write(words.encode() + b"\n")
    assert await asyncio.wait_for(connection[0].readline(), PATIENCE_S) == words.encode() + b"\n"


async def all_members_talk(net: Network) -> None:
    await net.member("1", by="environment")
    await net.member("2", by="folder")
    await net.member("3", by="environment")
    for name in "123":
        for to in "123":
            await net.talk(name, to, f"before {name}{to}")


async def test_a_cut_member_reaches_itself_alone_and_the_others_go_on(network: Network) -> None:
    await network.begin()
    await all_members_talk(network)
    outside = {name: await network.open(name) for name in "123"}
    for name in "123":
        await say(outside[name], "before")
    await until(lambda: network.status().connections == 12, network.status)
    await network.until_held(0, 0)
    assert network.status().cut is None

    for name in "12":  # by the environment, then by the folder
        received = {to: len(network.received[to]) for to in "123"}
        others = [other for other in "123" if other != name]
        cut = await network.cut(name)
        assert cut.members == (name,)
        assert cut.since < time.monotonic()
        for other in others:
            network.send(name, other, "there")
            network.send(other, name, "back")
            await network.talk(other, other, "own")
            await say(outside[other], "hello")
        await network.talk(others[0], others[1], "on")
        outside[name][1].write(b"from outside\n")
        await network.talk(name, name, "own")
        # Two ways out, two ways in, and the user; the lengths of their words.
        await network.until_held(5, 2 * 6 + 2 * 5 + 13)
        seen = {to: network.received[to][received[to] :] for to in "123"}
        assert seen == {name: ["own"], others[0]: ["own", "hello"], others[1]: ["own", "hello", "on"]}

        await network.mend()
        assert network.status().cut is None
        for other in others:
            await network.heard(other, name, "back")
        assert {(await network.clients[name].stdout.readline()).decode() for _ in others} == {  # type: ignore[union-attr]
            f"{network.listen[other]} there\n" for other in others
        }
        assert await asyncio.wait_for(outside[name][0].readline(), PATIENCE_S) == b"from outside\n"
        await network.until_held(0, 0)
        assert sorted(network.received[name][received[name] :]) == sorted(["own", "back", "back", "from outside"])


async def test_what_a_server_sends_and_what_a_client_ends_is_held_too(network: Network) -> None:
    await network.begin()
    reader, writer = await network.open("1")
    await say((reader, writer), "before")
    await network.cut("1")
    network.writers["1"][0].write(b"news\n")
    writer.write_eof()
    await network.until_held(1, 5)
    assert network.received["1"] == ["before"]
    await network.mend()
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b"news\n"
    assert network.received["1"] == ["before", "END"]


async def test_new_connections_hang_in_a_cut_and_go_on_when_it_is_mended(network: Network) -> None:
    await network.begin()
    await network.member("1", by="folder")
    await network.member("2", by="environment")
    await network.cut("1")
    network.send("1", "2", "out")
    network.send("2", "1", "in")
    reader, writer = await network.open("1")
    writer.write(b"outside\n")
    await network.until_held(3, 4 + 3 + 8)
    await network.talk("1", "1", "own")
    await network.talk("2", "3", "others")
    assert (network.received["1"], network.received["2"], len(network.writers["1"])) == (["own"], [], 1)
    await network.mend()
    await network.heard("1", "2", "out")
    await network.heard("2", "1", "in")
    assert await asyncio.wait_for(reader.readline(), PATIENCE_S) == b"outside\n"


async def test_who_gave_up_before_it_arrived_never_arrives(network: Network) -> None:
    await network.begin()
    await network.cut("1", "2")
    for name in "12":
        _, writer = await network.open(name)
        writer.write(b"write this\n")
        await network.until_held(1, 11)
        writer.close()
        await network.until_held(0, 0)
    _, late = await network.open("1")
    late.write(b"nor this\n")
    await network.until_held(1, 9)
    late.close()
    await late.wait_closed()
    await network.mend()
    await say(await network.open("1"), "after")
    assert (network.received["1"], network.received["2"]) == (["after"], [])


async def test_members_that_are_cut_off_are_cut_off_from_each_other_and_another_cut_takes_its_place(network: Network) -> None:
    await network.begin()
    await all_members_talk(network)
    await network.cut("1", "2")
    network.send("1", "2", "held")
    network.send("3", "2", "held")
    await network.until_held(6, 10)
    await network.talk("1", "1", "own")
    await network.talk("3", "3", "own")
    await network.cut("3")
    await network.heard("1", "2", "held")
    await network.until_held(4, 5)
    network.send("3", "1", "held")
    await network.until_held(4, 10)


async def test_from_a_cut_member_comes_no_refusal(network: Network) -> None:
    await network.begin()
    network.servers["1"].close()
    await until(lambda: refused(network.listen["1"]), lambda: "the port listens without its server")
    await network.cut("1")
    await network.open("1")
    await network.until_held(1, 0)
    await network.mend()
    await until(lambda: refused(network.listen["1"]), lambda: "the port listens without its server")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_fifty_megabytes_both_ways_through_a_cut_are_the_same_bytes(network: Network) -> None:
    there, back, digest = random.Random(1).randbytes(50_000_000), random.Random(2).randbytes(50_000_000), hashlib.sha256()

    async def answer(_: str, reader: StreamReader, writer: StreamWriter) -> None:
        network.writers["1"].append(writer)
        writer.write(back)
        while data := await reader.read(1 << 20):
            digest.update(data)
        writer.write_eof()

    await network.begin(answer=answer)
    reader, writer = await network.open("1")
    writer.write(there)
    writer.write_eof()
    got = hashlib.sha256(await reader.readexactly(10_000_000))
    await network.cut("1")
    await until(lambda: network.status().held == 1 and network.status().held_bytes > 0, network.status)
    await network.mend()
    while data := await asyncio.wait_for(reader.read(1 << 20), PATIENCE_S):
        got.update(data)
    assert digest.digest() == hashlib.sha256(there).digest()
    assert got.digest() == hashlib.sha256(back).digest()


async def test_a_restart_finds_the_cut_in_force(network: Network) -> None:
    await network.begin()
    first = await network.cut("1")
    network.signal(signal.SIGKILL)
    with pytest.raises(TargetUnavailable, match="no process of the cables serves"):
        network.status()
    await network.start()
    now = network.status().cut
    assert now is not None
    assert (now.members, now.since > first.since) == (("1",), True)
    _, writer = await network.open("1")
    writer.write(b"held\n")
    await network.until_held(1, 5)
    await say(await network.open("2"), "passes")


async def test_what_is_mended_while_no_process_runs_is_not_cut_afterwards(network: Network) -> None:
    await network.begin()
    await network.cut("1")
    network.signal(signal.SIGKILL)
    await network.mend()
    await network.start()
    assert network.status().cut is None
    await say(await network.open("1"), "passes")


async def test_a_cut_that_is_not_confirmed_says_so(network: Network) -> None:
    await network.begin()
    network.signal(signal.SIGSTOP)
    with pytest.raises(StepFailed, match=r"cut of 1, 3 not confirmed within 0.2 s \(last seen: .*cut=None"):
        cables.cut(network.control, ("3", "1"), within=0.2)
    with pytest.raises(StepFailed, match=r"mending of the cables not confirmed within 0.2 s \(last seen: .*cut=None"):
        cables.mend(network.control, within=0.2)
    document = json.loads((network.control / "state.json").read_text())
    (network.control / "state.json").write_text(json.dumps({**document, "written": document["written"] - 60}))
    with pytest.raises(TargetUnavailable, match=r"has said nothing for 6\d\.\d s"):
        network.status()
    (network.control / "state.json").write_text(json.dumps({**document, "schema": "sre.cables/0"}))
    with pytest.raises(TargetUnavailable, match=r"is not of schema sre.cables/1"):
        network.status()
    network.signal(signal.SIGCONT)


async def test_members_that_do_not_exist_and_wishes_that_are_none_change_nothing(network: Network) -> None:
    await network.begin()
    await network.cut("1")
    with pytest.raises(UsageError, match=r"member '4' has no cable; name one of 1, 2, 3"):
        cables.cut(network.control, ("1", "4"))
    with pytest.raises(UsageError, match=r"no member named to cut off; name one of 1, 2, 3"):
        cables.cut(network.control, ())
    for words, said in (("no", "is no wish"), ("[]", "is no wish"), ('{"token": "t", "members": ["7"]}', "names '7', which has")):
        (network.control / "wish.json").write_text(words)
        await until(lambda said=said: said in network.status().trouble, network.status)  # type: ignore[misc]
        assert network.status().cut is not None
        assert said in network.words()
    (network.control / "wish.json").unlink()
    await until(lambda: network.status().cut is None, network.status)
    assert network.status().trouble == ""


async def test_a_state_that_cannot_be_written_stops_nothing(network: Network) -> None:
    await network.begin()
    (network.control / "state.json").unlink()
    (network.control / "state.json").mkdir()
    await until(lambda: "state.json cannot be written: Is a directory" in network.words(), network.words)
    await say(await network.open("1"), "passes")


async def test_sigterm_ends_it(network: Network) -> None:
    await network.begin()
    reader, _ = connection = await network.open("1")
    await say(connection, "before")
    assert network.signal(signal.SIGTERM) == 0
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    assert refused(network.listen["1"])
    assert network.words() == ""


def test_without_a_process_there_is_nothing_to_cut_or_to_mend(tmp_path: Path) -> None:
    cables.mend(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    with pytest.raises(TargetUnavailable, match=r"no process of the cables serves .* \(last seen: None\); begin the system"):
        cables.cut(tmp_path, ("1",))
    assert not list(tmp_path.iterdir())
    cables.mend(tmp_path)
    assert json.loads((tmp_path / "wish.json").read_text())["members"] == []


GOOD: dict[str, Any] = {
    "control": "control",
    "cables": [{"name": "a", "member": "1", "listen": 20_011, "to": 20_012}, {"name": "b", "member": "1", "listen": 1, "to": 2}],
    "members": {"1": []},
}


def changed(**fields: object) -> str:
    return json.dumps({**GOOD, "cables": [{**GOOD["cables"][0], **fields}, GOOD["cables"][1]]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (None, "No such file or directory; name the plan"),
        ("{", "Invalid JSON"),
        (json.dumps({**GOOD, "cables": []}), "cables: Tuple should have at least 1 item"),
        (json.dumps({**GOOD, "speed": 9}), "speed is 9: Extra inputs are not permitted; correct it there"),
        (changed(listen=70_000), "cables.0.listen is 70000: Input should be less than or equal to 65535"),
        (changed(to="x"), "cables.0.to is 'x': Input should be a valid integer"),
        (changed(name="b"), "name b stands twice"),
        (changed(listen=2), "port 2 stands twice"),
        (changed(member="4"), "member 4 of a cable is not among members 1"),
    ],
)
def test_a_wrong_plan_is_named_with_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str | None, said: str
) -> None:
    plan = tmp_path / "plan.json"
    if words is not None:
        plan.write_text(words)
    monkeypatch.setattr(sys, "argv", ["cables", str(plan)])
    assert cables.main() == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"cables: plan {plan}: ")
    assert said in printed


def test_a_port_that_is_taken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cable = {"name": "postgres-1", "member": "1", "listen": port, "to": 1}
        (tmp_path / "plan.json").write_text(json.dumps({"control": str(tmp_path), "cables": [cable], "members": {"1": []}}))
        monkeypatch.setattr(sys, "argv", ["cables", str(tmp_path / "plan.json")])
        assert cables.main() == 4
    assert f"cable postgres-1: port {port}: Address already in use; end what holds it" in capsys.readouterr().err
