"""pgBackRest: backups of a PostgreSQL, its archived WAL, and restores to any moment of it.

Success is read from pgBackRest's records (`info`, `repo-ls`, the text of `verify`); an exit code alone never counts.
"""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sre.clock import iso
from sre.dr import commands
from sre.dr.commands import Output, Ran, silent
from sre.dr.pgbackrest_records import Archive, ArchiveRange, Backup, Damage, Info, Report, printable, read_info
from sre.dr.recovery import Target, place
from sre.errors import StepFailed, UsageError

ASK_WITHIN_S = 60.0
CREATE_WITHIN_S = 180.0
LONG_WITHIN_S = 3600.0  # for what reads or writes the whole database; some 50 MB/s make 180 GB
_PERCENT = re.compile(r"\((?:[^()]*, )?(\d+)(?:\.\d+)?%\)")
_ERROR = re.compile(r"ERROR: \[\d+\]: .*", re.DOTALL)
_LABEL = re.compile(r"new backup label = (\S+)")
_NEWS = re.compile(r"P\d+\s+(?:INFO|WARN): (?!\w[\w-]* command |execute |backup st|check archive)(.+)")


@dataclass(frozen=True, slots=True)
class Stanza:
    """One PostgreSQL, its repositories, and the pgBackRest that knows both.

    Attributes:
        program: pgbackrest.
        environment: variables that it needs: libraries, `PGPASSFILE`.
        config: configuration file; it holds the cipher passes, so no command line does.
        name: of the stanza.
        account: pgBackRest runs as this account; None is the caller's.
        replayable_fulls: from so many of the newest full backups on, any later moment can be restored; older backups keep only
            the WAL that makes them consistent. None: from every backup that is kept.
        ran: gets each command before it is run.
    """

    program: Path
    environment: Mapping[str, str]
    config: Path
    name: str = "ml"
    account: str | None = None
    replayable_fulls: int | None = None
    ran: Ran = silent

    def create(self, *, within_s: float = CREATE_WITHIN_S) -> None:
        """Make the stanza in every repository, unless it is there, and see one WAL segment arrive in each.

        Raises:
            StepFailed: it cannot be made, or WAL does not arrive; the message holds pgBackRest's words.
        """
        self._done("stanza-create", within_s=within_s)
        self._done("check", within_s=within_s)

    def repositories(self) -> tuple[int, ...]:
        """Keys of the repositories that the configuration names."""
        return self._info(None).repositories

    def backup(
        self, kind: Literal["full", "diff", "incr"], say: Callable[[str], None] = silent, *, within_s: float = LONG_WITHIN_S
    ) -> dict[int, Backup]:
        """Back up the running server to every repository, one after the other, since pgBackRest writes to one per call.

        A repository that fails does not keep the others from their backup. Without a full backup to build on, pgBackRest makes a
        full one whatever was asked for.

        Args:
            kind: what is wanted.
            say: gets progress.
            within_s: deadline per repository.

        Returns:
            The new backup, by key of the repository.

        Raises:
            StepFailed: a repository has no new backup; the message says which, and which have.
        """
        made, failed = dict[int, Backup](), list[str]()
        for repo in self.repositories():
            try:
                say(f"repository {repo}: {kind} backup begins")
                progress = _progress(f"repository {repo}", say)
                done = self._done("backup", f"--type={kind}", repo=repo, within_s=within_s, line=progress)
                made[repo] = self._made(repo, done)
                say(f"repository {repo}: {made[repo].label} is whole, {made[repo].stored} bytes of {made[repo].size}")
            except StepFailed as error:
                failed.append(f"repository {repo}: {error}")
        if failed:
            have = "; ".join(f"repository {repo} has {item.label}" for repo, item in made.items())
            raise StepFailed("; ".join(failed) + (f" ({have})" if have else ""))
        return made

    def backups(self, repo: int = 1) -> tuple[Backup, ...]:
        """Whole backups, oldest first.

        Raises:
            StepFailed: the repository cannot be read; the message holds pgBackRest's words.
        """
        return self._info(repo).backups

    def archive(self, repo: int = 1) -> tuple[ArchiveRange, ...]:
        """The archived WAL, per timeline.

        Raises:
            StepFailed: the repository cannot be listed.
        """
        return self._archive(repo).ranges()

    def verify(self, repo: int = 1, *, within_s: float = LONG_WITHIN_S) -> tuple[Damage, ...]:
        """Read every file of every backup and of the WAL archive, and judge what is there and what is missing.

        Returns:
            All damage; none means that every listed backup can be restored, and rolled forward as far as `replayable_fulls` says.

        Raises:
            StepFailed: pgBackRest could not run.
        """
        try:
            before = self._info(repo)
            archive = self._archive(repo)
        except StepFailed as error:
            words = f"{error}; is this the cipher pass that it was made with?"
            return (Damage("repository", f"repository {repo}", words), *self._report(repo, within_s).damages((), (), busy=False))
        report = self._report(repo, within_s)
        after = self._info(repo)
        found = report.damages(before.backups, after.backups, busy=before.busy or after.busy)
        if any(item.what == "repository" for item in found):
            found += self._lists(repo)
        return (*found, *archive.gaps(before.backups, self.replayable_fulls))

    def restore(  # noqa: PLR0913 - each is a choice of its own
        self, into: Path, target: Target, repo: int = 1, *, label: str | None = None,
        say: Callable[[str], None] = silent, within_s: float = LONG_WITHIN_S,
    ) -> Backup:  # fmt: skip
        """Write a backup into an empty folder, ready to be started, rolled forward to the target and promoted.

        The restored server archives nothing: its WAL must never reach the repository of the one it came from. It fetches WAL with
        this very configuration, which must stay readable until it has left recovery (see `recovery.wait_for_target`).

        Args:
            into: an empty folder, or one to be made in an existing one.
            target: where recovery stops.
            repo: repository that is read.
            label: backup to begin from; None: the newest that ended before the target, the oldest full one where that is unknown.
            say: gets progress.
            within_s: deadline of the copy.

        Returns:
            The backup that was used.

        Raises:
            UsageError: the folder is not empty, or no backup fits the target.
            StepFailed: the copy failed; the message holds pgBackRest's words.
        """
        if into.exists() and any(into.iterdir()):
            raise UsageError(f"{into} is not empty; a restore writes into an empty folder only")
        chosen = choose(self.backups(repo), target, label)
        self._make(into)
        options = [f"--pg1-path={into}", f"--set={chosen.label}", "--archive-mode=off"]
        if target.kind == "latest":
            options.append("--type=default")
        else:
            options += [f"--type={target.kind}", "--target-action=promote"]
            options += [f"--target={target.value}"] if target.value else []
        self._done("restore", *options, repo=repo, within_s=within_s, line=_progress(f"restore of {chosen.label}", say))
        if not (into / "PG_VERSION").exists() or not (into / "recovery.signal").exists():
            raise StepFailed(f"pgbackrest restore ended without an error, yet {into} holds no database to recover")
        return chosen

    def expire(self, label: str, repo: int = 1, *, within_s: float = LONG_WITHIN_S) -> tuple[str, ...]:
        """Remove one backup, all that build on it, and the WAL that no backup needs any more.

        Returns:
            Labels of the backups that are gone.

        Raises:
            UsageError: it is not listed, or it holds the last full backup.
            StepFailed: pgBackRest failed, or other backups are gone than these.
        """
        before = self.backups(repo)
        if label not in {item.label for item in before}:
            raise UsageError(f"repository {repo} holds no backup {label}; it has {_labels(before)}")
        doomed = {item.label for item in before if label in {item.label, *item.needs}}
        fulls = sum(item.kind == "full" and item.label not in doomed for item in before)
        if not fulls:
            raise UsageError(f"{label} is the last full backup of repository {repo}; make another before this one goes")
        # Without this number pgBackRest keeps all WAL for ever; with it, what the so many newest full backups do not need goes.
        keep = min(fulls, self.replayable_fulls or fulls)
        options = (f"--set={label}", f"--repo{repo}-retention-archive={keep}", f"--repo{repo}-retention-archive-type=full")
        self._done("expire", *options, repo=repo, within_s=within_s)
        gone = {item.label for item in before} - {item.label for item in self.backups(repo)}
        if gone != doomed:
            raise StepFailed(f"expire of {label}: {sorted(gone)} are gone, {sorted(doomed)} should be")
        return tuple(sorted(gone))

    def _made(self, repo: int, done: Output) -> Backup:
        label = _LABEL.search(done.out)
        for item in self.backups(repo):
            if label and item.label == label[1]:
                return item
        words = f"{label[1]} is not" if label else "no new backup is"
        raise StepFailed(f"pgbackrest backup ended without an error, yet {words} listed")

    def _info(self, repo: int | None) -> Info:
        return read_info(self._document("info", "--output=json", repo=repo), repo)

    def _archive(self, repo: int) -> Archive:
        text = self._document("repo-ls", "--recurse", "--output=json", repo=repo, arguments=(f"archive/{self.name}",))
        return Archive.read(json.loads(text))

    def _lists(self, repo: int) -> list[Damage]:
        """Damage of pgBackRest's own lists, which it tells without their names; each has a copy of the same content beside it."""
        found = []
        for name in (f"archive/{self.name}/archive.info", f"backup/{self.name}/backup.info"):
            first, second = (self._content(repo, path) for path in (name, f"{name}.copy"))
            if first is None or first != second:
                found.append(Damage("file", name, "it and its .copy are not the same; one of the two is damaged or missing"))
        return found

    def _content(self, repo: int, path: str) -> str | None:
        try:
            return self._document("repo-get", repo=repo, arguments=(path,))
        except StepFailed:
            return None

    def _report(self, repo: int, within_s: float) -> Report:
        # A file that does not decrypt or decompress is tried again after 15 s otherwise, each of them.
        options = ("--output=text", "--verbose", "--job-retry=0")
        return Report.read(self._done("verify", *options, repo=repo, within_s=within_s).out)

    def _make(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.account:
            entry = pwd.getpwnam(self.account)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def _document(self, command: str, *options: str, repo: int | None, arguments: tuple[str, ...] = ()) -> str:
        quiet = ("--log-level-console=off", "--log-level-stderr=error")
        return self._command(command, *quiet, *options, repo=repo, within_s=ASK_WITHIN_S, arguments=arguments).out

    def _done(
        self, command: str, *options: str, within_s: float, repo: int | None = None, line: Callable[[str], None] = silent
    ) -> Output:
        # One stream, so that messages stay in order with what follows them.
        loud = ("--log-level-console=detail", "--log-level-stderr=off")
        return self._command(command, *loud, *options, repo=repo, within_s=within_s, line=line)

    def _command(
        self, command: str, *options: str, within_s: float, repo: int | None,
        arguments: tuple[str, ...] = (), line: Callable[[str], None] = silent,
    ) -> Output:  # fmt: skip
        argv = [
            str(self.program), f"--config={self.config}", f"--stanza={self.name}", *([f"--repo={repo}"] if repo else []),
            "--log-timestamp=n", *options, command, *arguments,
        ]  # fmt: skip
        done = commands.run(argv, environment=self.environment, account=self.account, within_s=within_s, ran=self.ran, line=line)
        if done.code:
            errors = _ERROR.search(done.out) or _ERROR.search(done.err)
            words = printable(errors[0] if errors else (done.err or done.out)[-600:])[:600]
            raise StepFailed(f"pgbackrest {command} failed with {done.code}: {words or 'it said nothing'}")
        return done


def choose(backups: tuple[Backup, ...], target: Target, label: str | None) -> Backup:
    """The backup that a restore begins from.

    Raises:
        UsageError: none fits; the message says which there are.
    """
    if label:
        fitting = [item for item in backups if item.label == label]
    elif target.kind == "lsn":
        fitting = [item for item in backups if place(item.stop_lsn) <= place(target.value)]
    elif target.at is not None:
        # A backup is consistent only from its end on, which is known in whole seconds.
        fitting = [item for item in backups if item.stopped + 1 <= target.at]
    elif target.kind in {"latest", "immediate"}:
        fitting = list(backups)
    else:
        fitting = [item for item in backups if item.kind == "full"][:1]
    if not fitting:
        wanted = f"backup {label}" if label else f"backup that ended before {iso(target.at) if target.at else target}"
        raise UsageError(f"no {wanted}; there is {_labels(backups)}")
    return fitting[-1]


def _labels(backups: tuple[Backup, ...]) -> str:
    return ", ".join(f"{item.label} (ended {iso(item.stopped)})" for item in backups) or "none"


def _progress(subject: str, say: Callable[[str], None]) -> Callable[[str], None]:
    """Of thousands of lines: each tenth of the work, and what is not about a single file."""
    tenth = 0

    def line(text: str) -> None:
        nonlocal tenth
        if match := _PERCENT.search(text):
            if int(match[1]) // 10 > tenth:
                tenth = int(match[1]) // 10
                say(f"{subject}: {tenth * 10} %")
        elif match := _NEWS.fullmatch(text):
            say(f"{subject}: {printable(match[1])}")

    return line
