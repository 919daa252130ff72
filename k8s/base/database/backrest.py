"""Backs the database up where this member is the primary, when the schedule says so, and tells Prometheus of the repositories.

What is due is read from the repositories and not remembered: whoever becomes the primary goes on, and makes up for what was
missed.
"""  # noqa: INP001 - a script

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

PORT = 9854
STANZA = "ml"
LOOK_EVERY_S = 15
# After a backup that failed; the next one may find a store that is back.
AGAIN_AFTER_S = 600
ASK_WITHIN_S = 120
BACKUP_WITHIN_S = 4 * 3600
# A full backup is as good as a differential one, and so on.
STRENGTH = {"incr": 0, "diff": 1, "full": 2}
# Of a repository, as `pgbackrest info` tells it.
_OK, _NO_STANZA, _EMPTY, _NO_STANZA_DATA = range(4)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def planned(slot: Mapping[str, str], now: float) -> float:
    """The last time, s since the epoch, at which a slot of the schedule was due; its times are UTC.

    Args:
        slot: `at` as HH:MM, and `day` of the week where it is not every day.
        now: s since the epoch.
    """
    hour, minute = map(int, slot["at"].split(":"))
    last = datetime.fromtimestamp(now, UTC).replace(hour=hour, minute=minute, second=0, microsecond=0)
    while last.timestamp() > now or slot.get("day", _WEEKDAYS[last.weekday()]) != _WEEKDAYS[last.weekday()]:
        last -= timedelta(days=1)
    return last.timestamp()


def good(stanza: Mapping[str, Any], repo: int) -> list[Mapping[str, Any]]:
    """Backups of one repository that ended without an error, as `pgbackrest info` gives them."""
    return [one for one in stanza.get("backup", ()) if one["database"]["repo-key"] == repo and not one["error"]]


def due(schedule: Mapping[str, Mapping[str, str]], backups: Sequence[Mapping[str, Any]], now: float) -> str | None:
    """The kind of backup to make now, None when there is none to make. A repository without backups gets a full one at once.

    Args:
        schedule: slots by name, each with its `kind`.
        backups: of one repository.
        now: s since the epoch.
    """
    if not any(one["type"] == "full" for one in backups):
        return "full"
    wanted = [
        slot["kind"]
        for slot in schedule.values()
        if not any(
            STRENGTH[one["type"]] >= STRENGTH[slot["kind"]] and one["timestamp"]["start"] >= planned(slot, now) for one in backups
        )
    ]
    return max(wanted, key=STRENGTH.__getitem__, default=None)


def metrics(stanza: Mapping[str, Any] | None, failed: int) -> str:
    """For Prometheus: when the newest backup of each kind ended in each repository, and how many failed here.

    Args:
        stanza: None when the repositories cannot be asked, which leaves the times out.
        failed: backups of this member since it began.
    """
    lines = ["# TYPE pgbackrest_backup_failed_total counter", f"pgbackrest_backup_failed_total {failed}"]
    if stanza is not None:
        lines.append("# TYPE pgbackrest_backup_newest_timestamp_seconds gauge")
        lines += _newest(stanza)
    return "\n".join(lines) + "\n"


def _newest(stanza: Mapping[str, Any]) -> Iterator[str]:
    for repo in repositories(stanza):
        for kind in ("full", "diff"):
            ends = [one["timestamp"]["stop"] for one in good(stanza, repo) if STRENGTH[one["type"]] >= STRENGTH[kind]]
            # Never is long ago, so that its age is too much.
            yield f'pgbackrest_backup_newest_timestamp_seconds{{repo="{repo}",type="{kind}"}} {max(ends, default=0)}'


def repositories(stanza: Mapping[str, Any], *codes: int) -> list[int]:
    """Numbers of the repositories whose status is one of these; of those that can be asked and hold the stanza without any."""
    return [repo["key"] for repo in stanza.get("repo", ()) if repo["status"]["code"] in (codes or (_OK, _EMPTY))]


def _run(*command: str, within_s: float = ASK_WITHIN_S) -> str | None:
    """What a program wrote; None when it failed, and then its words are in the log."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        _say(str(error))
        return None
    if done.returncode:
        _say(f"{' '.join(command)} exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-1000:]}")
        return None
    return done.stdout


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _primary() -> bool:
    answer = _run("psql", "-h", "/run/postgresql", "-U", "backup", "-d", "postgres", "-tAc", "SELECT pg_is_in_recovery()")
    return answer is not None and answer.strip() == "f"


class Keeper:
    """Looks once at a time.

    Args:
        schedule: as in `due`.

    Attributes:
        page: what Prometheus is answered.
    """

    def __init__(self, schedule: Mapping[str, Mapping[str, str]]) -> None:
        self._schedule = schedule
        self._failed = 0
        self._not_before: dict[int, float] = {}
        self.page = metrics(None, 0)

    def look(self, now: float) -> None:
        """Make the stanza where it is missing, else at most one backup in each repository."""
        primary, stanza = _primary(), _info()
        self.page = metrics(stanza, self._failed)
        if stanza is None or not primary:
            return
        if repositories(stanza, _NO_STANZA, _NO_STANZA_DATA):
            # Without it no WAL is archived.
            _run("pgbackrest", f"--stanza={STANZA}", "stanza-create")
            return
        for repo in repositories(stanza):
            kind = due(self._schedule, good(stanza, repo), now)
            if kind and now >= self._not_before.get(repo, 0.0):
                self._back_up(kind, repo, now)
                self.page = metrics(_info(), self._failed)

    def _back_up(self, kind: str, repo: int, now: float) -> None:
        command = ("pgbackrest", f"--stanza={STANZA}", f"--repo={repo}", f"--type={kind}", "backup")
        done = _run(*command, within_s=BACKUP_WITHIN_S)
        if done is None:
            self._failed += 1
            self._not_before[repo] = now + AGAIN_AFTER_S
        else:
            _say(f"{kind} backup in repository {repo}")


def _info() -> Mapping[str, Any] | None:
    answer = _run("pgbackrest", f"--stanza={STANZA}", "--output=json", "info")
    try:
        found: list[Mapping[str, Any]] = [] if answer is None else json.loads(answer)
    except ValueError:
        # It quotes what it could not decrypt.
        _say(f"pgbackrest info: {answer!r}"[:1000])
        found = []
    return found[0] if found else None


def serve(keeper: Keeper, port: int) -> ThreadingHTTPServer:
    """Answer Prometheus, and the probes, from another thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = keeper.page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            del format, args

    server = ThreadingHTTPServer(("", port), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Look until the container ends."""
    keeper = Keeper(json.loads(Path(os.environ["BACKUP_SCHEDULE"]).read_text(encoding="utf-8")))
    serve(keeper, PORT)
    while True:
        keeper.look(time.time())
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
