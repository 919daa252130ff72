"""PostgreSQL: a base backup, and the check of its own manifest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sre.errors import StepFailed
from sre.targets.local.layout import Layout
from sre.targets.local.programs import find

WITHIN_S = 600.0


def base_backup(layout: Layout, into: Path) -> None:
    """Copy the running cluster into an empty folder, with the WAL that makes it consistent and a SHA-256 manifest.

    Raises:
        StepFailed: pg_basebackup failed; the message holds its words.
    """
    _run(
        layout, "pg_basebackup",
        ["--dbname", layout.dsn("backup", "postgres"), "--pgdata", str(into), "--wal-method=stream",
         "--checkpoint=fast", "--manifest-checksums=SHA256", "--no-password"],
    )  # fmt: skip


def verify_backup(layout: Layout, folder: Path) -> None:
    """Check every file of a base backup, and its WAL, against the manifest.

    Raises:
        StepFailed: a file is missing, altered or added.
    """
    # It runs pg_waldump from its own folder; the backup itself needs no server.
    _run(layout, "pg_verifybackup", ["--exit-on-error", str(folder)])


def _run(layout: Layout, program: str, arguments: list[str]) -> None:
    postgres = find("postgres", layout.tools)
    environment = {**os.environ, **postgres.environment, "PGPASSFILE": str(layout.secrets / "passfile")}
    command = [str(postgres.companion(program)), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{program} did not end within {WITHIN_S:.0f} s") from error
    if done.returncode:
        raise StepFailed(f"{program} failed with {done.returncode}: {done.stderr.strip()[-600:]}")
