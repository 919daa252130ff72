"""What pgBackRest says of a repository: its records, read, and judged without trust in its exit code or in its word `ok`.

`verify` of pgBackRest 2.45 exits 0 and prints `status: ok` for a repository without any WAL, with a gap in the WAL, or with a
manifest that cannot be read. So every line of its log that is not known to be harmless is damage, what it looked at is compared
with what should be there, and the chain of WAL segments is judged here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sre.errors import StepFailed

What = Literal[
    "file", "WAL segment", "missing WAL", "timeline history", "manifest", "backup", "half-written backup", "pages", "repository",
    "report",
]  # fmt: skip
_OK, _NO_BACKUP = 0, 2  # status codes of `info`
SEGMENT_BYTES = 0x1000000  # PostgreSQL's default
SEGMENTS_PER_FILE_NUMBER = 0x100000000 // SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is broken or absent.

    Attributes:
        what: kind.
        name: path in the repository, WAL segments, label of a backup, or relation and block.
        words: of the tool that found it, or ours where it says nothing.
    """

    what: What
    name: str
    words: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup that pgBackRest lists; it lists only whole ones.

    Attributes:
        label: its name.
        kind: full, diff (to the last full one) or incr (to the last of any kind).
        prior: label of the one it builds on; None for a full one.
        needs: labels of all that a restore of it reads beside it.
        started, stopped: seconds since the Unix epoch, whole.
        start_lsn, stop_lsn: places in the WAL, as `0/3000060`.
        first_wal, last_wal: segments that make it consistent.
        size: bytes of the database.
        stored: bytes of this backup alone in the repository.
        damaged_pages: pages failed PostgreSQL's own checksum when it was taken.
        system: PostgreSQL's identifier of the cluster.
    """

    label: str
    kind: Literal["full", "diff", "incr"]
    prior: str | None
    needs: tuple[str, ...]
    started: int
    stopped: int
    start_lsn: str
    stop_lsn: str
    first_wal: str
    last_wal: str
    size: int
    stored: int
    damaged_pages: bool
    system: int

    @property
    def timeline(self) -> int:
        """That the server wrote on."""
        return int(self.first_wal[:8], 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRange:
    """The archived WAL of one timeline.

    Attributes:
        timeline: number.
        oldest, newest: segments.
        segments: how many there are.
        complete: none is missing in between.
    """

    timeline: int
    oldest: str
    newest: str
    segments: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Answer of `info` for one repository.

    Attributes:
        repositories: keys of all that are configured.
        busy: a backup or an expiry is running on this host.
        backups: oldest first.
    """

    repositories: tuple[int, ...]
    busy: bool
    backups: tuple[Backup, ...]


def read_info(text: str, repo: int | None) -> Info:
    """Read `info --output=json` of one stanza.

    Args:
        text: that it printed.
        repo: key of the repository whose state counts; None: no state does.

    Raises:
        StepFailed: the answer is not understood, or the repository is not usable; the message holds pgBackRest's words.
    """
    try:
        (stanza,) = json.loads(text, strict=False)
        for item in stanza["repo"]:
            if item["key"] == repo and item["status"]["code"] not in {_OK, _NO_BACKUP}:
                raise StepFailed(f"repository {repo} of stanza {stanza['name']}: {printable(item['status']['message'])}")
        systems = {(item["repo-key"], item["id"]): item["system-id"] for item in stanza["db"]}
        return Info(
            repositories=tuple(item["key"] for item in stanza["repo"]),
            busy=stanza["status"]["lock"]["backup"]["held"],
            backups=tuple(_backup(item, systems) for item in stanza["backup"] if item["database"]["repo-key"] == repo),
        )
    except (ValueError, KeyError, TypeError) as error:
        words = f"{error!r}: {printable(text)[:300]}"
        raise StepFailed(f"`pgbackrest info` gave an answer that is not understood: {words}") from error


def _backup(item: Mapping[str, Any], systems: Mapping[tuple[int, int], int]) -> Backup:
    return Backup(
        label=item["label"],
        kind=item["type"],
        prior=item["prior"],
        needs=tuple(item["reference"] or ()),
        started=item["timestamp"]["start"],
        stopped=item["timestamp"]["stop"],
        start_lsn=item["lsn"]["start"],
        stop_lsn=item["lsn"]["stop"],
        first_wal=item["archive"]["start"],
        last_wal=item["archive"]["stop"],
        size=item["info"]["size"],
        stored=item["info"]["repository"]["delta"],
        damaged_pages=bool(item["error"]),
        system=systems[item["database"]["repo-key"], item["database"]["id"]],
    )


_SEGMENT = re.compile(r"(?:^|/)([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?$")
_HISTORY = re.compile(r"(?:^|/)([0-9A-F]{8})\.history(?:-[0-9a-f]{40})?(?:\.\w+)?$")


@dataclass(frozen=True, slots=True)
class Archive:
    """Files of the WAL archive, by name.

    Attributes:
        segments: numbers of the segments that are there, per timeline.
        histories: timelines whose history file is there.
    """

    segments: Mapping[int, frozenset[int]]
    histories: frozenset[int]

    @classmethod
    def read(cls, names: Iterable[str]) -> Archive:
        """From paths in the repository."""
        segments: dict[int, set[int]] = {}
        histories = set()
        for name in names:
            if match := _SEGMENT.search(name):
                segments.setdefault(int(match[1][:8], 16), set()).add(number(match[1]))
            elif match := _HISTORY.search(name):
                histories.add(int(match[1], 16))
        return cls({timeline: frozenset(numbers) for timeline, numbers in sorted(segments.items())}, frozenset(histories))

    def ranges(self) -> tuple[ArchiveRange, ...]:
        """Per timeline."""
        return tuple(
            ArchiveRange(
                timeline=timeline,
                oldest=segment(timeline, min(numbers)),
                newest=segment(timeline, max(numbers)),
                segments=len(numbers),
                complete=len(numbers) == max(numbers) - min(numbers) + 1,
            )
            for timeline, numbers in self.segments.items()
        )

    def gaps(self, backups: Sequence[Backup], replayable_fulls: int | None) -> list[Damage]:
        """WAL and histories that a restore would ask for in vain.

        Every backup needs its own WAL to be consistent. From the oldest full backup that shall be replayable to any later
        moment, all WAL is needed: on each timeline up to where the next one begins.
        """
        needed = [(item.timeline, number(item.first_wal), number(item.last_wal)) for item in backups]
        fulls = [item for item in backups if item.kind == "full"]
        if replayable_fulls:
            fulls = fulls[-replayable_fulls:]
        found = []
        if fulls:
            begin = fulls[0].timeline
            timelines = sorted({begin, *(timeline for timeline in self.segments if timeline > begin)})
            for timeline, after in zip(timelines, (*timelines[1:], None), strict=True):
                have = self.segments.get(timeline, frozenset())
                first = number(fulls[0].first_wal) if timeline == begin else min(have)
                last = min(self.segments[after]) - 1 if after else max(have, default=first)
                needed.append((timeline, first, last))
                if timeline > 1 and timeline not in self.histories:
                    words = "the archive holds its WAL but not its history: no restore would follow it"
                    found.append(Damage("timeline history", f"{timeline:08X}.history", words))
        return found + [
            Damage("missing WAL", segment(*first) if first == last else f"{segment(*first)} to {segment(*last)}", _GAP)
            for first, last in _runs(sorted({
                (timeline, item)
                for timeline, first, last in needed
                for item in range(first, last + 1)
                if item not in self.segments.get(timeline, frozenset())
            }))
        ]  # fmt: skip


_GAP = "not in the archive, and a backup that is kept needs it"


def number(name: str) -> int:
    """Running number of a WAL segment, counted over file numbers, without its timeline."""
    return int(name[8:16], 16) * SEGMENTS_PER_FILE_NUMBER + int(name[16:24], 16)


def segment(timeline: int, running: int) -> str:
    """Name of a WAL segment."""
    return f"{timeline:08X}{running // SEGMENTS_PER_FILE_NUMBER:08X}{running % SEGMENTS_PER_FILE_NUMBER:08X}"


def _runs(items: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    runs: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for item in items:
        if runs and runs[-1][1] == (item[0], item[1] - 1):
            runs[-1] = (runs[-1][0], item)
        else:
            runs.append((item, item))
    return runs


_LOG = re.compile(r"P\d+\s+(?:ERROR|WARN|INFO|DETAIL): (?:\[\d+\]: )?(.*)", re.DOTALL)
# After two failovers within seconds a timeline began and ended within one segment, and its folder holds a partial segment only.
# Whether that leaves a gap, `Archive.gaps` decides.
_HARMLESS = re.compile(
    r"verify command (?:begin |end: completed successfully)|archiveId: \S+, wal start: |stanza: "
    r"|path '\S+' does not contain any valid WAL to be processed"
)
_INVALID = re.compile(r"(invalid checksum|invalid size|file missing) '(.+?)'|(invalid result) (\S+?)'?: (.*)", re.DOTALL)
_BACKUP = r"\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?"
_MANIFEST = re.compile(rf"(?:^|['/ ])({_BACKUP})['/].*manifest|manifest missing for '({_BACKUP})'")
_ARCHIVE_RESULT = re.compile(r"archiveId: (\S+), total WAL checked: (\d+), total valid WAL: (\d+)")
_BACKUP_RESULT = re.compile(rf"backup: ({_BACKUP}), status: ([\w -]+), total files checked: (\d+), total valid files: (\d+)")
_PLAIN = re.compile(r"stanza: \S+|status: (?:ok|error)|missing: \d+, checksum invalid: \d+, size invalid: \d+, other: \d+")
_CONTINUED = " " * 12  # width of `P00   INFO: `


@dataclass(frozen=True, slots=True)
class Report:
    """Output of `verify --output=text --verbose` with its log in detail, without time stamps, on one stream.

    Attributes:
        log: messages, with their continuation lines.
        results: lines of the report proper, without indentation.
    """

    log: tuple[str, ...]
    results: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Report:
        """Part the two."""
        log, results = list[str](), list[str]()
        for line in text.splitlines():
            if match := _LOG.fullmatch(line):
                log.append(match[1])
            elif line.startswith(_CONTINUED) and log:
                log[-1] += f"\n{line.strip()}"
            elif line.strip():
                results.append(line.strip())
        return cls(tuple(log), tuple(results))

    def damages(self, backups: Sequence[Backup], later: Sequence[Backup], *, busy: bool) -> list[Damage]:
        """What the report tells, and what it should tell and does not.

        Args:
            backups: that were listed before, and so must be whole.
            later: that are listed since.
            busy: a backup was being written meanwhile; one that is not finished is not held against it.
        """
        half = {match[1] for line in self.results if (match := _BACKUP_RESULT.match(line)) and match[2] == "in-progress"}
        told = [line for line in self.log if not _HARMLESS.match(line) and not any(label in line for label in half)]
        found = [self._log_damage(line) for line in told]
        found += self._result_damages({item.label for item in backups}, {item.label for item in later}, busy=busy)
        found += [
            Damage("pages", item.label, "PostgreSQL's own page checksums failed in its data when this backup was taken")
            for item in backups
            if item.damaged_pages
        ]
        if not any(line.startswith("verify command end: completed successfully") for line in self.log):
            found.append(Damage("report", "verify", "it did not say that it completed"))
        if not backups:
            found.append(Damage("repository", "backup", "it holds no backup"))
        if not found and "status: ok" not in self.results:
            found.append(Damage("report", "verify", f"no `status: ok` in {' | '.join(self.results)[:300] or 'an empty report'}"))
        return list(dict.fromkeys(found))

    @staticmethod
    def _log_damage(line: str) -> Damage:
        words = printable(line)
        if match := _INVALID.match(line):
            path, reason = (match[2], match[1]) if match[2] else (match[4], printable(match[5]))
            is_wal = _SEGMENT.search(path)
            return Damage("WAL segment", is_wal[1], reason) if is_wal else Damage("file", path, reason)
        if match := _MANIFEST.search(line):
            return Damage("manifest", match[1] or match[2], words)
        return Damage("repository", "verify", words)

    def _result_damages(self, listed: set[str], later: set[str], *, busy: bool) -> list[Damage]:
        found, seen = list[Damage](), set[str]()
        for line in self.results:
            if match := _BACKUP_RESULT.fullmatch(line):
                label, status, checked, valid = match[1], match[2], int(match[3]), int(match[4])
                seen.add(label)
                if status == "in-progress" and label not in listed:
                    if not busy:
                        words = "it was never finished; pgBackRest does not list it, and the next backup resumes or removes it"
                        found.append(Damage("half-written backup", label, words))
                elif status != "valid" or checked != valid or not checked:
                    found.append(Damage("backup", label, f"{status}, {valid} of {checked} files valid"))
                elif label not in listed | later:
                    words = "its files are there, but it was cut off before it was listed; the next backup adds it"
                    found.append(Damage("half-written backup", label, words))
            elif match := _ARCHIVE_RESULT.fullmatch(line):
                if match[2] != match[3] or not int(match[2]):
                    found.append(Damage("repository", f"archive {match[1]}", f"{match[3]} of {match[2]} WAL segments valid"))
            elif not _PLAIN.fullmatch(line):
                found.append(Damage("repository", "verify", printable(line)))
        return found + [Damage("backup", label, "listed, but verify did not look at it") for label in sorted(listed - seen)]


def printable(text: str) -> str:
    """Damaged files are quoted in messages: what cannot be printed becomes `?`, lines become one."""
    joined = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in joined)
