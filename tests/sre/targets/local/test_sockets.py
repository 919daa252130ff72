from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sre.targets.local.sockets import SocketTable, owners


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_a_port_listens_only_while_a_server_does(server: socket.socket) -> None:
    port = server.getsockname()[1]
    with SocketTable() as table, socket.create_connection(("127.0.0.1", port)):
        assert table.listening(port)
        server.shutdown(socket.SHUT_RD)
        assert not table.listening(port)


def test_a_server_of_both_families_listens_too() -> None:
    with SocketTable() as table, socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        assert table.listening(both.getsockname()[1])


def test_the_inode_of_a_client_is_found_until_it_closes(server: socket.socket) -> None:
    there = server.getsockname()
    with SocketTable() as table:
        with socket.create_connection(there) as client:
            address = client.getsockname()
            assert table.inode(address, there) == inode(client)
            client.shutdown(socket.SHUT_WR)
            assert table.inode(address, there) == inode(client)
        assert table.inode(address, there) == 0
        assert table.inode(("127.0.0.1", there[1]), ("127.0.0.1", 1)) == 0
        with socket.socket(socket.AF_INET6) as mapped:
            mapped.connect(("::ffff:127.0.0.1", there[1]))
            assert table.inode(("127.0.0.1", mapped.getsockname()[1]), there) == inode(mapped)


def test_a_socket_is_of_the_member_whose_process_holds_it(tmp_path: Path) -> None:
    folders = {name: (tmp_path / f"member-{name}", tmp_path / f"more-{name}") for name in "12"}
    ends = [socket.socket() for _ in range(6)]
    where = [
        ({"SRE_MEMBER": "1"}, tmp_path),
        ({}, folders["2"][1] / "base"),
        ({"SRE_MEMBER": "1"}, folders["2"][0]),  # it says so
        ({"SRE_MEMBER": "3"}, folders["2"][0]),  # of another system
        ({"NOT_SRE_MEMBER": "1"}, tmp_path / "member-10"),
    ]
    begun = []
    try:
        for end, (environment, folder) in zip(ends, where, strict=False):
            folder.mkdir(parents=True, exist_ok=True)
            begun.append(subprocess.Popen(["/bin/sleep", "1000"], env=environment, cwd=folder, pass_fds=[end.fileno()]))
        known = [inode(end) for end in ends]
        found = owners(set(known), folders)
        assert [found.get(one) for one in known] == ["1", "2", "1", "2", None, None]
        assert owners({known[0]}, folders) == {known[0]: "1"}
    finally:
        for process in begun:
            process.kill()
            process.wait()
        for end in ends:
            end.close()
    assert owners(set(known), folders) == {}
