"""Every way in which a command of the toolkit can end without a verdict, and the exit codes.

* SreError                     something the toolkit can name; the leaf says its exit code
  x UsageError            2    the request itself is wrong: unknown drill, bad duration
  x NothingSelected       5    a valid request that names nothing
  + CannotRun             4    the surroundings do not allow it
    - MissingProgram           a program is not installed; the remedy is `sre tools install`
    - TargetUnavailable        no system is running, or another process holds it
    - StepFailed               a step of a drill did not reach what it waited for
    - FaultWithoutEffect       a fault was injected and an observer saw nothing
    - ExperimentFailed         the chaos journal does not show every activity as succeeded
    - EvidenceDamaged          a file of a run is missing, altered or of another schema
  + UndoIncomplete        6    something that a drill changed is still changed
"""

from __future__ import annotations

from enum import IntEnum


def in_words(error: Exception) -> str:
    """What an error says, on one line; the name of its kind when it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class ExitCode(IntEnum):
    """What a command's exit status means. The same table stands in `--help` and in the README."""

    KEPT = 0
    BROKEN = 1
    USAGE = 2
    INCONCLUSIVE = 3
    CANNOT_RUN = 4
    NOTHING_SELECTED = 5
    UNDO_INCOMPLETE = 6
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """The sentence for people."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.KEPT: "every promise was kept",
    ExitCode.BROKEN: "a promise was broken, measured",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.INCONCLUSIVE: "inconclusive: too little data, generator saturated, sources disagree",
    ExitCode.CANNOT_RUN: "could not run",
    ExitCode.NOTHING_SELECTED: "nothing selected",
    ExitCode.UNDO_INCOMPLETE: "undo incomplete: something is still changed",
    ExitCode.INTERRUPTED: "interrupted, undo done",
}


class SreError(Exception):
    """Base of everything the toolkit raises on purpose. The message names subject, value, remedy."""

    exit_code: ExitCode = ExitCode.CANNOT_RUN


class UsageError(SreError):
    """The request is wrong; repeating it cannot help."""

    exit_code = ExitCode.USAGE


class NothingSelected(SreError):
    """The request is valid and selects nothing."""

    exit_code = ExitCode.NOTHING_SELECTED


class CannotRun(SreError):
    """The surroundings do not allow the command to run."""


class MissingProgram(CannotRun):
    """A program that is not a Python package is nowhere to be found."""


class TargetUnavailable(CannotRun):
    """No system is up, it is not whole, or another process holds it."""


class StepFailed(CannotRun):
    """A step of a drill did not reach the state that it waited for."""


class FaultWithoutEffect(CannotRun):
    """An observer that did not inject the fault saw no effect of it."""


class ExperimentFailed(CannotRun):
    """The journal of a Chaos Toolkit run does not show a complete and successful method."""


class EvidenceDamaged(CannotRun):
    """Evidence cannot be trusted: a file is missing, altered, or of another schema."""


class UndoIncomplete(SreError):
    """Something that was changed is still changed."""

    exit_code = ExitCode.UNDO_INCOMPLETE
