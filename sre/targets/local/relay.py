"""Carries TCP connections to the servers behind, and holds back those between a member that is cut off and anyone else.

It stays in the path of replication and of every commit, so bytes go from socket to socket through one shared buffer, and a
connection keeps only what its slow side has not taken. What has been handed to the kernel of the receiving side before a cut
counts as arrived.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from sre.errors import CannotRun
from sre.targets.local.sockets import LOOPBACK, Address, SocketTable, owners

_BUFFER = bytearray(256 * 1024)
_VIEW = memoryview(_BUFFER)
_BACKLOG = 1024
_ACCEPT_AGAIN_S = 0.1
# Looking through all processes may take at most this share of our time.
_LOOK_SHARE = 0.1
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cable(BaseModel):
    """One way to a server.

    Attributes:
        name: unique, for people.
        member: whose server it is.
        listen: port at which clients come in.
        to: port at which the server listens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    member: str = Field(min_length=1)
    listen: int = Field(ge=1, le=65_535)
    to: int = Field(ge=1, le=65_535)


@dataclass(frozen=True, slots=True)
class Counts:
    """Connections of a relay now: all, those held back, and the bytes that wait in these."""

    connections: int
    held: int
    held_bytes: int


class Relay:
    """All cables of one system. Use as a context manager; when it is left every connection ends.

    Args:
        cables: what it carries.
        members: folders whose processes are of a member, by member.
    """

    def __init__(self, cables: Sequence[Cable], members: Mapping[str, Sequence[Path]]) -> None:
        self.loop = asyncio.get_running_loop()
        self.members = {name: tuple(folder.resolve() for folder in folders) for name, folders in members.items()}
        self.cut_off: frozenset[str] = frozenset()
        self.connections: set[_Connection] = set()
        self.cables = cables
        self._strangers: list[_Connection] = []
        self._look_again_at = 0.0
        self._ports: list[_Port] = []

    def __enter__(self) -> Self:
        """Take the ports.

        Raises:
            CannotRun: one is taken, or the kernel does not tell what we must know.
        """
        with ExitStack() as ends:
            self.table = ends.enter_context(SocketTable())
            for cable in self.cables:
                self._ports.append(_Port(self, cable))
                ends.callback(self._ports[-1].close)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in list(self.connections):
            connection.close()
        self._ends.close()

    def follow(self) -> None:
        """Refuse clients exactly where the server behind would."""
        for port in self._ports:
            port.follow()

    def cut(self, members: Collection[str]) -> None:
        """Cut these members off from everyone, each other included, and nobody else; none mends what was cut.

        When this returns nothing passes any more, and what may pass again goes on where it was held.
        """
        self.cut_off = frozenset(members)
        if self.cut_off:
            self._identify([connection for connection in self.connections if connection.owner is None])
        for connection in list(self.connections):
            if not self._passes(connection):
                connection.hold()
            elif connection.given_up():
                connection.close()
            elif connection.held:
                connection.release()
        self.follow()

    def counts(self) -> Counts:
        """How many connections there are and are held, and forget those whose client gave up before it reached a server."""
        held = [connection for connection in self.connections if connection.held]
        for connection in filter(_Connection.given_up, held):
            connection.close()
        waiting = [connection for connection in held if connection in self.connections]
        return Counts(len(self.connections), len(waiting), sum(connection.bytes_held() for connection in waiting))

    def take(self, port: _Port, client: socket.socket, address: Address) -> None:
        """Begin a connection, or keep it silent until its owner is known to be on the right side of a cut."""
        connection = _Connection(port, client, address)
        self.connections.add(connection)
        if not self.cut_off:
            connection.release()
            return
        if not self._strangers:
            self.loop.call_later(max(0.0, self._look_again_at - time.monotonic()), self._look)
        self._strangers.append(connection)

    def _look(self) -> None:
        strangers = [connection for connection in self._strangers if connection in self.connections and connection.held]
        self._strangers = []
        self._identify(strangers)
        for connection in strangers:
            if self._passes(connection):
                connection.release()

    def _identify(self, connections: Sequence[_Connection]) -> None:
        # CPU time: on a busy machine the clock on the wall says how busy the others are.
        began = time.thread_time()
        inodes = {connection: inode for connection in connections if (inode := connection.inode())}
        found = owners(set(inodes.values()), self.members) if inodes else {}
        for connection, inode in inodes.items():
            connection.owner = found.get(inode, "")
        self._look_again_at = time.monotonic() + (time.thread_time() - began) / _LOOK_SHARE

    def _passes(self, connection: _Connection) -> bool:
        if not self.cut_off or connection.owner == connection.cable.member:
            return True
        # A client that has closed has no owner any more; it may have been on the other side.
        return connection.owner is not None and self.cut_off.isdisjoint((connection.owner, connection.cable.member))


class _Port:
    """Where clients of one cable come in.

    A relay that accepted first and then found no server would make a dead server look like one that fails its clients, and
    libpq goes on to the next host only when a connection is refused. So the port listens only while the server does.
    """

    def __init__(self, relay: Relay, cable: Cable) -> None:
        self.relay, self.cable, self.open = relay, cable, False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.socket.bind((LOOPBACK, cable.listen))
        except OSError as error:
            self.socket.close()
            raise CannotRun(f"cable {cable.name}: port {cable.listen}: {error.strerror}; end what holds it") from error

    def follow(self) -> None:
        # From a pulled cable comes no refusal.
        wanted = self.cable.member in self.relay.cut_off or self.relay.table.listening(self.cable.to)
        if wanted and not self.open:
            self.socket.listen(_BACKLOG)
            self.relay.loop.add_reader(self.socket.fileno(), self._accept)
        elif self.open and not wanted:
            self.relay.loop.remove_reader(self.socket.fileno())
            # Ends the listening and keeps the port.
            self.socket.shutdown(socket.SHUT_RD)
        self.open = wanted

    def close(self) -> None:
        self.relay.loop.remove_reader(self.socket.fileno())
        self.open = False
        self.socket.close()

    def _accept(self) -> None:
        try:
            client, address = self.socket.accept()
        except BlockingIOError:
            return
        except OSError:
            # No file left for it: ready again at once, and no better.
            self.relay.loop.remove_reader(self.socket.fileno())
            self.relay.loop.call_later(_ACCEPT_AGAIN_S, self._again)
            return
        self.relay.take(self, client, address)

    def _again(self) -> None:
        if self.open:
            self.relay.loop.add_reader(self.socket.fileno(), self._accept)


class _Connection:
    """A client and the server that it is carried to; held until it is released."""

    __slots__ = ("address", "cable", "client", "held", "loop", "owner", "port", "server", "ways")

    def __init__(self, port: _Port, client: socket.socket, address: Address) -> None:
        self.port, self.cable, self.loop, self.client, self.address = port, port.cable, port.relay.loop, client, address
        self.server: socket.socket | None = None
        self.ways: tuple[_Way, ...] = ()
        self.owner: str | None = None
        self.held = True
        _prepare(client)

    def hold(self) -> None:
        self.held = True
        if self.server is not None and not self.ways:
            self.loop.remove_writer(self.server.fileno())
        for way in self.ways:
            way.stop()

    def release(self) -> None:
        self.held = False
        if self.server is None:
            self._connect()
        elif not self.ways:
            self.loop.add_writer(self.server.fileno(), self._connected, self.server)
        for way in self.ways:
            way.go()

    def inode(self) -> int:
        """Of the client's socket; 0 once no process holds that any more."""
        return self.port.relay.table.inode(self.address, (LOOPBACK, self.cable.listen))

    def given_up(self) -> bool:
        """Whether its client left while it was held and had reached no server; over a real network it never would have."""
        return self.held and self.server is None and not self.inode()

    def bytes_held(self) -> int:
        waiting = sum(len(way.rest) for way in self.ways)
        for end in (self.client, self.server):
            if end is not None:
                waiting += struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, bytes(4)))[0]
        return waiting

    def close(self, *, reset: bool = False) -> None:
        self.port.relay.connections.discard(self)
        self.hold()
        for end in (self.client, self.server):
            if end is not None:
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                end.close()

    def _connect(self) -> None:
        try:
            self.server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            self.close(reset=True)
            return
        _prepare(self.server)
        status = self.server.connect_ex((LOOPBACK, self.cable.to))
        if status in {0, errno.EINPROGRESS}:
            self.loop.add_writer(self.server.fileno(), self._connected, self.server)
        else:
            self.close(reset=True)

    def _connected(self, server: socket.socket) -> None:
        self.loop.remove_writer(server.fileno())
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.port.follow()
            self.close(reset=True)
            return
        there, back = _Way(self, self.client, server), _Way(self, server, self.client)
        there.back, back.back = back, there
        self.ways = (there, back)
        for way in self.ways:
            way.go()


class _Way:
    """One direction of a connection."""

    __slots__ = ("back", "broken", "connection", "ended", "loop", "rest", "sink", "source")
    back: _Way

    def __init__(self, connection: _Connection, source: socket.socket, sink: socket.socket) -> None:
        self.connection, self.source, self.sink, self.loop = connection, source, sink, connection.loop
        self.rest = b""
        self.ended = self.broken = False

    def go(self) -> None:
        if self.rest:
            self.loop.add_writer(self.sink.fileno(), self._flush)
        elif not self.ended:
            self.loop.add_reader(self.source.fileno(), self._carry)

    def stop(self) -> None:
        self.loop.remove_reader(self.source.fileno())
        self.loop.remove_writer(self.sink.fileno())

    def _carry(self) -> None:
        try:
            count = self.source.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self._before_bad_news()
            self.connection.close(reset=True)
            return
        if not count:
            self._end()
            return
        try:
            sent = self.sink.send(_VIEW[:count])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(broken=True)
            return
        if sent < count:
            self.rest = bytes(_VIEW[sent:count])
            self.stop()
            self.go()

    def _flush(self) -> None:
        try:
            self.rest = self.rest[self.sink.send(self.rest) :]
        except BlockingIOError:
            return
        except OSError:
            self._end(broken=True)
            return
        if not self.rest:
            self.stop()
            self.go()

    def _end(self, *, broken: bool = False) -> None:
        """Nothing more goes this way: the source has ended, or the sink takes no more.

        The last words of a sink that was reset may still be on their way, so the other direction ends by itself.
        """
        self.ended, self.broken, self.rest = True, broken, b""
        self.stop()
        if not self.back.ended:
            self._before_bad_news()
        if not (self.broken or self.back.broken):
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError:
                self.broken = True
        if self.back.ended:
            self.connection.close(reset=self.broken or self.back.broken)

    def _before_bad_news(self) -> None:
        # The client that hears of it may come back at once, and must be refused if the server has gone.
        if self.source is self.connection.server:
            self.connection.port.follow()


def _prepare(end: socket.socket) -> None:
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
