"""A database of one's own on the session's PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from sre.dr import content
from sre.targets.local.prepare import SUPERUSER
from sre.targets.local.target import LocalTarget


@dataclass(frozen=True)
class Scratch:
    """A database that `content` reads in place of the system's."""

    dsn: str
    reader: str
    passfile: Path

    def execute(self, statement: LiteralString) -> None:
        """Change something in it."""
        with psycopg.connect(self.dsn, passfile=str(self.passfile)) as connection:
            connection.execute(statement)

    def rows(self) -> content.Rows:
        """What it holds now."""
        return content.rows(self.reader, self.passfile)


@pytest.fixture
def scratch(system: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    layout, name = system.layout, f"scratch_{uuid.uuid4().hex}"
    passfile = layout.secrets / "passfile"
    monkeypatch.setattr(content, "DATABASES", (name,))
    with psycopg.connect(layout.dsn(SUPERUSER, "postgres"), passfile=str(passfile), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield Scratch(layout.dsn(SUPERUSER, name), layout.dsn("backup", "postgres"), passfile)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
