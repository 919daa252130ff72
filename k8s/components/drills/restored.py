"""Restores the newest backup of the database beside the running one, with all WAL since, and judges what came back.

Who runs it may read the repository and nothing else. The last line of what it writes is a JSON document; the exit status is the
toolkit's: 0 kept, 1 broken, 4 could not run.
"""  # noqa: INP001 - a script

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = "ml.database-restore/1"
KEPT, BROKEN, CANNOT_RUN = 0, 1, 4
STANZA = "ml"
# Of the architecture document: restored in under 1 h, and less than 24 h of data lost.
RESTORED_WITHIN_S, REACH_S = 3600.0, 86_400.0
ASK_WITHIN_S = 120
# What the restored server runs with, and nothing of what it ran with before: its certificates and addresses are elsewhere.
# Without hot_standby recovery does not ask for as many connections as the primary had.
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
hba_file = '{folder}/hba.conf'
hot_standby = off
archive_mode = off
ssl = off
dynamic_shared_memory_type = mmap
max_connections = 20
"""


class Broken(Exception):
    """A promise is not kept; the message says which."""


class CannotRun(Exception):
    """Nothing can be said."""


def newest(stanza: Mapping[str, Any]) -> Mapping[str, Any]:
    """The newest backup that ended without an error, as `pgbackrest info` gives it.

    Raises:
        Broken: there is none.
    """
    whole = [one for one in stanza.get("backup", ()) if not one["error"]]
    if not whole:
        raise Broken(f"there is no backup to restore ({stanza.get('status', {}).get('message', 'no stanza')})")
    return max(whole, key=lambda one: one["timestamp"]["stop"])


def judge(measured: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """What is not as promised.

    Args:
        measured: `restored_s`, `lost_s` and `rows` by `database.schema.table`.
        wanted: tables that must be there.
    """
    wrong = [f"table {table} did not come back" for table in wanted if table not in measured["rows"]]
    if measured["restored_s"] >= RESTORED_WITHIN_S:
        wrong.append(f"restored after {measured['restored_s']:.0f} s; under {RESTORED_WITHIN_S:.0f} s are promised")
    if measured["lost_s"] >= REACH_S:
        wrong.append(f"what was written in the last {measured['lost_s']:.0f} s is lost; under {REACH_S:.0f} s are promised")
    return wrong


def _run(*command: str, within_s: float = ASK_WITHIN_S) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=within_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRun(f"{command[0]}: {error}") from error


def _asked() -> Mapping[str, Any]:
    done = _run("pgbackrest", f"--stanza={STANZA}", "--output=json", "info")
    try:
        found: list[Mapping[str, Any]] = json.loads(done.stdout) if not done.returncode else []
    except ValueError:
        # It quotes what it could not decrypt.
        found = []
    if not found or any(repo["status"]["code"] > 2 for repo in found[0]["repo"]):
        raise CannotRun(f"the repository cannot be asked: {(done.stderr or done.stdout).strip()[-500:]}")
    return found[0]


def _restore(folder: Path, within_s: float) -> None:
    data = folder / "data"
    done = _run("pgbackrest", f"--stanza={STANZA}", f"--pg1-path={data}", "--archive-mode=off", "restore", within_s=within_s)
    if done.returncode:
        raise Broken(f"pgbackrest restore exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")


def _start(folder: Path, within_s: float) -> None:
    """Until all WAL is replayed and the server takes connections."""
    (folder / "postgresql.conf").write_text(SETTINGS.format(folder=folder), encoding="utf-8")
    (folder / "hba.conf").write_text("local all all trust\n", encoding="utf-8")
    log = folder / "server.log"
    options = f"-c config_file={folder}/postgresql.conf"
    done = _run(
        "pg_ctl", "start", "--wait", f"--timeout={within_s:.0f}", f"--pgdata={folder / 'data'}", f"--log={log}", "-o", options,
        within_s=within_s + ASK_WITHIN_S,
    )  # fmt: skip
    # It takes connections when all WAL is replayed, and ends where some is missing.
    deadline = time.monotonic() + within_s
    while not done.returncode and time.monotonic() < deadline:
        if not _run("psql", "-h", str(folder), "-U", "postgres", "-d", "postgres", "-XtAc", "SELECT 1").returncode:
            return
        if _run("pg_ctl", "status", f"--pgdata={folder / 'data'}").returncode:
            break
        time.sleep(0.5)
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else done.stderr
    raise Broken(f"the restored server did not start: {said.strip()[-1000:]}")


def _asking(folder: Path, database: str, query: str) -> list[str]:
    done = _run("psql", "-h", str(folder), "-U", "postgres", "-d", database, "-XtAc", query)
    if done.returncode:
        raise Broken(f"the restored server does not answer in {database}: {done.stderr.strip()[-500:]}")
    return done.stdout.split()


def _rows(folder: Path) -> dict[str, int]:
    """Rows of each table of ours, counted, which reads every page of them."""
    tables = "SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables ORDER BY 1"
    databases = _asking(folder, "postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")
    return {
        f"{database}.{table}": int(_asking(folder, database, f"SELECT count(*) FROM {table}")[0])  # noqa: S608 - quoted by format
        for database in databases
        for table in _asking(folder, database, tables)
    }


def _check(folder: Path, within_s: float) -> None:
    """Every page of every table and index, by PostgreSQL's own program for that."""
    done = _run("pg_amcheck", "-h", str(folder), "-U", "postgres", "--all", "--install-missing", within_s=within_s)
    if done.returncode:
        raise Broken(f"pg_amcheck exited with {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}")


def measure(folder: Path, found: Mapping[str, Any], within_s: float) -> dict[str, Any]:
    """Restore into an empty folder, start, look at everything, stop.

    Args:
        folder: for data and socket.
        found: the newest backup.
        within_s: deadline of each part.

    Raises:
        Broken: it does not come back whole.
    """
    began = time.monotonic()
    _restore(folder, within_s)
    try:
        _start(folder, within_s)
        rows = _rows(folder)
        restored_s = time.monotonic() - began
        # A commit that was replayed; an idle system has none, and then at least the backup was reached.
        last = _asking(folder, "postgres", "SELECT coalesce(extract(epoch FROM pg_last_xact_replay_timestamp()), 0)")
        reached = max(float(last[0]), float(found["timestamp"]["stop"]))
        _check(folder, within_s)
    finally:
        _run("pg_ctl", "stop", "--mode=immediate", f"--pgdata={folder / 'data'}")
    return {"backup": found["label"], "restored_s": round(restored_s, 1), "lost_s": round(time.time() - reached, 1), "rows": rows}


def main() -> int:
    """Restore, judge, tell."""
    wanted = os.environ["RESTORE_TABLES"].split()
    measured: dict[str, Any] = {}
    try:
        measured = measure(Path(os.environ["RESTORE_FOLDER"]), newest(_asked()), RESTORED_WITHIN_S)
        wrong = judge(measured, wanted)
        code = BROKEN if wrong else KEPT
    except Broken as error:
        wrong, code = [str(error)], BROKEN
    except CannotRun as error:
        wrong, code = [str(error)], CANNOT_RUN
    sys.stdout.write(json.dumps({"schema": SCHEMA, "code": code, "wrong": wrong, **measured}) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
