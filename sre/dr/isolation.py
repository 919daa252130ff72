"""A restored place on its own: what ties it to the system that it came from is cut, and what is left of that is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

import psutil
from psycopg import sql

from sre.targets.local import prepare, processes
from sre.targets.local.database import ROLES, SUPERUSER, all_roles, superuser
from sre.targets.local.files import secret
from sre.targets.local.layout import Layout

# Settings of the toolkit's own command line, which no service reads, and where the caller's shell stood.
_IDLE = re.compile(r"SRE_.*|PWD|OLDPWD")
_SETTINGS = "SELECT name, setting FROM pg_settings WHERE setting <> '' AND source NOT IN ('default', 'override')"


def sever(layout: Layout) -> None:
    """Cut what a finished recovery needed: the superuser's password, and the way to the archived WAL.

    Args:
        layout: of a running place whose recovery has ended.

    Raises:
        psycopg.Error: the server refuses.
    """
    with superuser(layout) as connection:
        (layout.secrets / f"{SUPERUSER}.password").unlink()
        # The owners of databases were given passwords when the place began.
        for role in (role for role in all_roles() if role not in ROLES):
            password = sql.Literal(secret(layout.secrets / f"{role}.password"))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), password))
        prepare.passwords(layout)
    with superuser(layout) as connection:
        connection.autocommit = True
        connection.execute("ALTER SYSTEM RESET restore_command")
        connection.execute("SELECT pg_reload_conf()")


def ties(source: Layout, layout: Layout) -> tuple[list[str], int]:
    """A sentence for everything by which a place could reach the system that it was restored from.

    Looked at are ports, secrets, the server's settings, and of every process command, environment and connections.

    Args:
        source: of that system.
        layout: of the place, which runs.

    Returns:
        The sentences, and how many processes were looked at.

    Raises:
        psycopg.Error: the place's server cannot be asked.
    """
    traces, looked = Traces(source, layout), 0
    found = [f"it shares port {port} with the running system" for port in {*source.ports.values()} & {*layout.ports.values()}]
    theirs = {path.read_bytes() for path in source.secrets.iterdir()}
    found += [
        f"it has the running system's secret {path.name}" for path in layout.secrets.iterdir() if path.read_bytes() in theirs
    ]
    for process in processes.of_system(layout.home):
        try:
            found += [f"{process.name()} {why}" for why in traces.of_process(process)]
            looked += 1
        except psutil.NoSuchProcess:
            continue
    with superuser(layout) as connection:
        row = connection.execute("SELECT current_setting('archive_mode')").fetchone()
        if row != ("off",):
            found.append(f"its server has archive_mode {row[0] if row else 'unknown'}")
        for name, setting in connection.execute(_SETTINGS).fetchall():
            found += [f"its server's {name} names {trace}" for trace in traces.within(setting)]
    return sorted(set(found)), looked


class Traces:
    """Finds names of the running system in what belongs to a place."""

    def __init__(self, source: Layout, layout: Layout) -> None:
        self._ports = {port: name for name, port in source.ports.items()}
        self._source = re.compile(re.escape(str(source.home.resolve())) + r"(?![\w.-])")
        # The place lies below the system's home, and both use the same programs.
        self._own = (str(layout.home.resolve()), str(layout.tools.resolve()))

    def within(self, text: str) -> Iterator[str]:
        """Every address and path of the running system in a text."""
        text = unquote(text)
        for port in map(int, re.findall(r"(?:127\.0\.0\.1|localhost):(\d+)", text)):
            if port in self._ports:
                yield f"{self._ports[port]} of the running system"
        for own in self._own:
            text = text.replace(own, "")
        if self._source.search(text):
            yield "a path of the running system"

    def of_process(self, process: psutil.Process) -> Iterator[str]:
        """What its command, its environment and its connections have to do with the running system."""
        for part in process.cmdline():
            yield from (f"was started with {trace}" for trace in self.within(part))
        for name, value in process.environ().items():
            if not _IDLE.fullmatch(name):
                yield from (f"has {trace} in {name}" for trace in self.within(value))
        for connection in process.net_connections("tcp"):
            if connection.raddr and connection.raddr.port in self._ports:  # type: ignore[redundant-expr] # () while it listens
                yield f"is connected to {self._ports[connection.raddr.port]} of the running system"
