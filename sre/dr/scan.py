"""A restored PostgreSQL read as a whole: every row and index entry by pg_amcheck, every page's checksum by pg_checksums."""

from __future__ import annotations

import re
from pathlib import Path

from sre.dr import commands
from sre.dr.commands import Ran
from sre.dr.pgbackrest_records import Damage
from sre.errors import StepFailed
from sre.targets.local.programs import Found

WITHIN_S = 1800.0
_PROGRESS = re.compile(r"(\d+)/(\d+) relations \(\s*\d+%\),\s*(\d+)/(\d+) pages")
_SUBJECT = re.compile(r'(?:heap table|btree index) "([^"]+)"(?:, block (\d+))?(?:, offset (\d+))?.*?:$')
_BAD_PAGE = re.compile(r'checksum verification failed in file "([^"]+)", block (\d+): (.*)')
_SUMMARY = re.compile(r"(Files scanned|Blocks scanned|Bad checksums):\s+(\d+)")


def relations(  # noqa: PLR0913 - what a command needs
    postgres: Found,
    dsn: str,
    passfile: Path,
    *,
    account: str | None = None,
    ran: Ran = lambda _: None,
    within_s: float = WITHIN_S,
) -> tuple[Damage, ...]:
    """Check every table and index of every database of a running server, with each row looked for in each index.

    Installs the extension `amcheck` where it is missing, so it is for restored copies. A page whose checksum is wrong shows as
    well, where a table or an index holds it.

    Args:
        postgres: `programs.find("postgres", tools)`.
        dsn: of a superuser, with a database.
        passfile: libpq password file.
        account: the program runs as this account; None is the caller's.
        ran: gets the command before it is run.
        within_s: deadline.

    Raises:
        StepFailed: it could not check, or did not check all.
    """
    command = [
        str(postgres.companion("pg_amcheck")), "--all", "--heapallindexed", "--install-missing", "--progress", "--no-password",
        f"--maintenance-db={dsn}",
    ]  # fmt: skip
    environment = {**postgres.environment, "PGPASSFILE": str(passfile)}
    done = commands.run(command, environment=environment, account=account, within_s=within_s, ran=ran)
    found, subject = list[Damage](), None
    for line in done.out.splitlines():
        if match := _SUBJECT.fullmatch(line.strip()):
            places = zip(("block", "offset"), match.groups()[1:], strict=True)
            subject = ", ".join([match[1], *(f"{name} {value}" for name, value in places if value)])
        elif subject and line.strip():
            found.append(Damage("pages", subject, line.strip()))
            subject = None
    counts = [tuple(map(int, item)) for item in _PROGRESS.findall(done.err)]
    # Exit status 2: damage was found, which the lines above must name.
    whole = bool(counts) and 0 < counts[-1][1] == counts[-1][0]
    if not whole or done.code not in {0, 2} or bool(found) != (done.code == 2):
        words = (done.err + done.out).strip()[-600:]
        raise StepFailed(f"pg_amcheck did not check everything (exit status {done.code}, {len(found)} findings): {words}")
    return tuple(found)


def pages(
    postgres: Found, data: Path, *, account: str | None = None, ran: Ran = lambda _: None, within_s: float = WITHIN_S
) -> tuple[Damage, ...]:
    """Check the checksum of every page of a stopped database.

    Args:
        postgres: `programs.find("postgres", tools)`.
        data: folder of a database that was shut down cleanly.
        account: the program runs as this account; None is the caller's.
        ran: gets the command before it is run.
        within_s: deadline.

    Raises:
        StepFailed: it could not check: the server runs, the database has no checksums, or no page was read.
    """
    command = [str(postgres.companion("pg_checksums")), "--check", f"--pgdata={data}"]
    done = commands.run(command, environment=postgres.environment, account=account, within_s=within_s, ran=ran)
    found = tuple(Damage("pages", f"{match[1]}, block {match[2]}", match[3]) for match in _BAD_PAGE.finditer(done.err))
    counts = {match[1]: int(match[2]) for match in _SUMMARY.finditer(done.out)}
    if not counts.get("Blocks scanned") or counts.get("Bad checksums") != len(found) or bool(found) != bool(done.code):
        words = (done.err + done.out).strip()[-600:]
        raise StepFailed(f"pg_checksums did not check {data} (exit status {done.code}): {words}")
    return found
