"""The folder of a run: where it lies and what is in it.

    evidence/<id>/
        run.json  journal.jsonl  environment.json      the record, what happened, on what
        drills/<name>/                                 raw files: samples.bin, samples.json, chaos-journal.json, ...
        report.html  report.txt  junit.xml             rebuilt from the record and the raw files
        checksums.sha256                               of every file above; `sha256sum -c` reads it
    attestation.json                               the result and every file above, signed; written last

A run that was cut short has a journal and raw files and is not signed: it is no evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sre.clock import Clock
from sre.errors import EvidenceDamaged, NothingSelected, UsageError
from sre.evidence import attest, codec, html, junit, text
from sre.evidence.files import CHECKSUMS, checksums
from sre.evidence.journal import Journal
from sre.evidence.schema import RunRecord

RUN, JOURNAL, ENVIRONMENT = "run.json", "journal.jsonl", "environment.json"
REPORT_HTML, REPORT_TEXT, JUNIT = "report.html", "report.txt", "junit.xml"

_ID = re.compile(r"\d{8}T\d{6}Z-[a-z0-9-]+")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Bundle:
    """The folder of a run that is under way.

    Attributes:
        id: of the run; the name of its folder.
        folder: of the run.
        journal: its journal.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.id = folder.name
        self.folder = folder
        self.journal = Journal(folder / JOURNAL, clock)

    def drill_folder(self, drill: str) -> Path:
        """The folder for a drill's raw files, made when missing. `DrillRecord.folder` is its path from the run's folder."""
        folder = self.folder / "drills" / drill
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def seal(self, record: RunRecord, key: Ed25519PrivateKey, render: Callable[[RunRecord, Path], str] = html.render) -> None:
        """Write the record, the reports, the checksums and last the attestation; nothing may change afterwards.

        Args:
            record: of the run.
            key: signs it.
            render: makes `report.html` from the record and the run's folder.
        """
        self.journal.write("sealed", outcome=record.outcome, exit_code=record.exit_code)
        environment = json.dumps(codec.plain(record.environment), indent=2, allow_nan=False) + "\n"
        self._write(ENVIRONMENT, environment)
        self._write(RUN, codec.dump(record))
        self._write(REPORT_TEXT, text.run_text(record))
        self._write(JUNIT, junit.render(record))
        self._write(REPORT_HTML, render(record, self.folder))
        self._write(CHECKSUMS, "".join(f"{digest}  {name}\n" for name, digest in checksums(self.folder).items()))
        attest.write(self.folder, record, key)

    def _write(self, name: str, content: str) -> None:
        # A tool's output may hold bytes that are no text; the record keeps them escaped, the reports show a question mark.
        (self.folder / name).write_text(content, encoding="utf-8", errors="replace")


def create(root: Path, name: str, clock: Clock) -> Bundle:
    """Make the folder of a new run, `YYYYMMDDTHHMMSSZ-name`; of two in one second the later one ends in `-2`.

    Args:
        root: folder of all runs, made when missing.
        name: what is run: lower-case letters, digits and hyphens.
        clock: decides the time in the id and in the journal.

    Raises:
        UsageError: the name has other characters.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"run name {name!r} is not usable; use lower-case letters, digits and hyphens")
    stem = f"{datetime.fromtimestamp(clock.wall(), UTC):%Y%m%dT%H%M%SZ}-{name}"
    root.mkdir(parents=True, exist_ok=True)
    count = 1
    while True:
        folder = root / (stem if count == 1 else f"{stem}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            count += 1
            continue
        return Bundle(folder, clock)


def load(folder: Path) -> RunRecord:
    """The record of a finished run. It is parsed, not verified: see `attest.problems`.

    Raises:
        EvidenceDamaged: `run.json` is missing, is not a record, or points outside the run's folder.
    """
    path = folder / RUN
    try:
        record = codec.parse(path.read_text(encoding="utf-8"), RUN)
    except FileNotFoundError as missing:
        raise EvidenceDamaged(
            f"{RUN} is missing from {folder.name}: the run did not finish; its journal says how far it came"
        ) from missing
    except UnicodeDecodeError as error:
        raise EvidenceDamaged(f"{RUN} is not text ({error}); restore it from a copy of the run") from error
    for drill in record.drills:
        inside = PurePosixPath(drill.folder)
        if inside.is_absolute() or ".." in inside.parts:
            raise EvidenceDamaged(f"{RUN}: the folder of drill {drill.name}, {drill.folder!r}, is outside the run")
    return record


def runs(root: Path) -> list[Path]:
    """The folders of all runs, finished or not, newest first."""
    if not root.is_dir():
        return []
    found = (path for path in root.iterdir() if path.is_dir() and _ID.fullmatch(path.name))
    return sorted(found, key=lambda path: path.name, reverse=True)


def find(root: Path, run: str) -> Path:
    """The folder of a run, given its id or a path to its folder.

    Raises:
        UsageError: there is none; the message lists the newest runs.
    """
    for folder in (root / run, Path(run).absolute()):
        if run and ((folder / RUN).is_file() or (folder / JOURNAL).is_file()):
            return folder
    newest = ", ".join(path.name for path in runs(root)[:5])
    remedy = f"the newest are {newest}" if newest else "there is no run yet"
    raise UsageError(f"run {run!r} does not exist in {root}; {remedy}")


def latest(root: Path) -> Path:
    """The folder of the newest run.

    Raises:
        NothingSelected: there is no run.
    """
    for folder in runs(root):
        return folder
    raise NothingSelected(f"there is no run in {root}; start one with `sre drill NAME` or `sre gameday`")
