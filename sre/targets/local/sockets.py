"""What the kernel knows of TCP sockets of this machine, for the price of the one that is asked about, and whose they are.

The kernel answers by netlink (sock_diag(7), `struct inet_diag_req_v2`). Files such as /proc/net/tcp list every socket of the
machine, so their price grows with connections that are none of ours.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from sre.errors import CannotRun

LOOPBACK = "127.0.0.1"
OWNER_VARIABLE = "SRE_MEMBER"
Address = tuple[str, int]

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR = 4, 20, 1, 2
_HEADER, _REQUEST, _PORTS = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("!HH")
_ANY_INTERFACE_AND_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_REQUEST_BYTES, _STATE_AT, _INODE_AT, _LISTEN = 72, 17, 84, 10


class SocketTable:
    """Asks the kernel about one socket at a time. Use as a context manager."""

    def __init__(self) -> None:
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            CannotRun: the kernel does not answer such questions.
        """
        self._kernel.connect((0, 0))
        with socket.create_server((LOOPBACK, 0)) as known:
            # A kernel without the module answers as for a socket that does not exist.
            if not self.listening(known.getsockname()[1]):
                raise CannotRun("the kernel does not find a socket that listens; load its module with `modprobe tcp_diag`")

        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()

    def listening(self, port: int) -> bool:
        """Whether a socket listens for connections to 127.0.0.1 at `port`."""
        state, _ = self._ask((LOOPBACK, port), ("0.0.0.0", 0))  # noqa: S104 - nothing is bound; it says `no peer`
        return state == _LISTEN

    def inode(self, local: Address, remote: Address) -> int:
        """Inode of the connected IPv4 (or mapped IPv6) socket of that address; 0 once no process holds it any more."""
        state, inode = self._ask(local, remote)
        return 0 if state == _LISTEN else inode

    def _ask(self, local: Address, remote: Address) -> tuple[int, int]:
        self._kernel.send(
            _HEADER.pack(_REQUEST_BYTES, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
            + _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
            + _PORTS.pack(local[1], remote[1])
            + socket.inet_aton(local[0]).ljust(16, b"\0")
            + socket.inet_aton(remote[0]).ljust(16, b"\0")
            + _ANY_INTERFACE_AND_COOKIE
        )
        # The kernel has answered when send returns.
        answer = self._kernel.recv(4096, socket.MSG_DONTWAIT)
        if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
            return 0, 0
        return answer[_STATE_AT], struct.unpack_from("=I", answer, _INODE_AT)[0]


def owners(inodes: AbstractSet[int], members: Mapping[str, Sequence[Path]]) -> dict[int, str]:
    """Whose sockets they are.

    A process belongs to a member if its environment says so (`SRE_MEMBER`), or, because PostgreSQL overwrites the memory in
    which the kernel finds that, if it works below one of the member's folders.

    Args:
        inodes: of the sockets in question.
        members: folders by member, without links in them.

    Returns:
        The member by inode. Sockets of processes of no member are left out.
    """
    found: dict[int, str] = {}
    for process in psutil.pids():
        # One that has ended or closed since has nothing to say; nor has another user's, which is not of our system.
        with suppress(OSError):
            if member := _member(process, members):
                with os.scandir(f"/proc/{process}/fd") as entries:
                    found |= dict.fromkeys(inodes & {_socket(entry) for entry in entries}, member)
    return found


def _socket(entry: os.DirEntry[str]) -> int:
    with suppress(OSError):
        status = entry.stat()
        return status.st_ino if stat.S_ISSOCK(status.st_mode) else 0
    return 0


def _member(process: int, members: Mapping[str, Sequence[Path]]) -> str:
    environment = b"\0" + Path(f"/proc/{process}/environ").read_bytes()
    _, marked, rest = environment.partition(f"\0{OWNER_VARIABLE}=".encode())
    if marked and (named := rest.partition(b"\0")[0].decode(errors="replace")) in members:
        return named
    folder = Path(f"/proc/{process}/cwd").readlink()
    return next((name for name, folders in members.items() if any(folder.is_relative_to(root) for root in folders)), "")
