"""PostgreSQL: a base backup, and the check of its own manifest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from sre.errors import StepFailed
from sre.targets.local.layout import Layout
from sre.targets.local.programs import find

WITHIN_S = 600.0


Ran = Callable[[Sequence[str]], None]


def base_backup(layout: Layout, into: Path, ran: Ran = lambda _: None) -> None:
    """Copy the running cluster into an empty folder, with the WAL that makes it consistent and a SHA-256 manifest.

    Args:
        layout: of the running system.
        into: the empty folder.
        ran: gets the command before it is run.

    Raises:
        StepFailed: pg_basebackup failed; the message holds its words.
    """
    _run(
        layout, "pg_basebackup",
        ["--dbname", layout.dsn("backup", "postgres"), "--pgdata", str(into), "--wal-method=stream",
         "--checkpoint=fast", "--manifest-checksums=SHA256", "--no-password"], ran,
    )  # fmt: skip


def verify_backup(layout: Layout, folder: Path, ran: Ran = lambda _: None) -> None:
    """Check every file of a base backup, and its WAL, against the manifest.

    Args:
        layout: of the running system; its programs are used.
        folder: of the backup.
        ran: gets the command before it is run.

    Raises:
        StepFailed: a file is missing, altered or added.
    """
    # It runs pg_waldump from its own folder; the backup itself needs no server.
    _run(layout, "pg_verifybackup", ["--exit-on-error", str(folder)], ran)


def _run(layout: Layout, program: str, arguments: list[str], ran: Ran) -> None:
    postgres = find("postgres", layout.tools)
    environment = {**os.environ, **postgres.environment, "PGPASSFILE": str(layout.secrets / "passfile")}
    command = [str(postgres.companion(program)), *arguments]
    ran(command)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{program} did not end within {WITHIN_S:.0f} s") from error
    if done.returncode:
        raise StepFailed(f"{program} failed with {done.returncode}: {done.stderr.strip()[-600:]}")
