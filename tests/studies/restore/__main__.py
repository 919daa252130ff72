"""The restore study: a gigabyte of rows and artifacts in a system, and how long the restore drill takes to serve from it again.

    python -m tests.studies.restore                            some ten minutes on two cores
    python -m tests.studies.restore --megabytes 20             to try it

Exit status: 0 when all nine points passed and a bit-equal prediction came within AIM_S, 1 when not, 4 when it could not run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from sre.config import PROJECT, Settings
from sre.errors import ExitCode
from sre.targets.local import target
from sre.targets.local.layout import Layout

AIM_S = 300.0
MEGABYTE = 10**6
ROWS_SHARE = 0.7  # of the bytes; the rest are artifacts
OBJECT_BYTES = 4 * MEGABYTE
BATCH = 100_000
WITHIN_S = 3600.0
_ROWS = """
    INSERT INTO predictions (request_id, at, replica, model_version, label, probabilities, input_sha256, media_type, duration_ms)
    SELECT md5(n::text || %(batch)s), now(), 'study', '1', (n %% 10)::text, array_fill(random()::real, ARRAY[10]),
           sha256(n::text::bytea), 'image/jpeg', random()::real
    FROM generate_series(1, %(count)s) AS n"""


def fill(layout: Layout, megabytes: int) -> tuple[int, int]:
    """Put so much into database and buckets; nothing that compresses well among the artifacts.

    Returns:
        What the database then holds, indexes included, and the new artifacts, bytes.
    """
    passfile = layout.secrets / "passfile"
    wanted, batch = megabytes * MEGABYTE * ROWS_SHARE, 0
    with psycopg.connect(layout.dsn("serving", "predictions"), passfile=str(passfile), autocommit=True) as connection:
        while (held := _database_bytes(connection)) < wanted:
            connection.execute(_ROWS, {"batch": str(batch), "count": BATCH})
            batch += 1
    chance, count = random.Random(1), max(1, round(megabytes * MEGABYTE * (1 - ROWS_SHARE) / OBJECT_BYTES))
    folder = layout.objects / "ml-models-production" / "restore-study"
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"artifact-{number}").write_bytes(chance.randbytes(OBJECT_BYTES))
    return held, count * OBJECT_BYTES


def _database_bytes(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


def drill(home: Path, evidence: Path) -> dict[str, Any]:
    """The record of the restore drill against the running system of a home.

    Raises:
        ValueError: it printed no record.
    """
    environment = {**os.environ, "SRE_HOME": str(home), "SRE_EVIDENCE": str(evidence)}
    command = [sys.executable, "-c", "from sre.cli.main import main; main()", "drill", "restore", "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=WITHIN_S, check=False, cwd=PROJECT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def conclusion(record: dict[str, Any]) -> tuple[ExitCode, list[str]]:
    """What a record shows, a line per verdict, and whether the restore is as good as it must be."""
    verdicts = {verdict["promise"]: verdict for one in record.get("drills", ()) for verdict in one["verdicts"]}
    lines = [f"{name}: {verdict['outcome']}, {verdict['why']}" for name, verdict in verdicts.items()]
    if "restore-time" not in verdicts:
        return ExitCode.CANNOT_RUN, [*lines, "the drill came to no verdict on its time"]
    kept = all(verdict["outcome"] == "kept" for verdict in verdicts.values())
    seconds = verdicts["restore-time"]["measured"]
    in_time = seconds is not None and seconds <= AIM_S
    lines.append(f"{seconds if seconds is None else round(seconds, 1)} s of {AIM_S:.0f} s to a bit-equal prediction")
    return ExitCode.KEPT if kept and in_time else ExitCode.BROKEN, lines


def main(megabytes: Annotated[int, typer.Option(min=1, help="Rows and artifacts, together.")] = 1000) -> None:
    """Fill a system of its own, restore it by the drill, and say what that took."""
    folder = Path(tempfile.mkdtemp(prefix="restore-study-"))
    folder.chmod(0o755)
    home = folder / "home"

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        begun, _ = target.up(home, Settings().tools, say=say)
        rows, artifacts = fill(begun.layout, megabytes)
        say(f"{rows / MEGABYTE:,.0f} MB of rows and indexes, {artifacts / MEGABYTE:,.0f} MB of artifacts")
        code, lines = conclusion(drill(home, folder / "evidence"))
    finally:
        target.down(home, purge=True)
        shutil.rmtree(folder, ignore_errors=True)
    typer.echo("\n".join(lines))
    sys.exit(code)


if __name__ == "__main__":
    typer.run(main)
