"""One external command: as an account, within a deadline, its lines handed on as they come, nothing of it left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sre.errors import StepFailed
from sre.targets.local.files import run_as

# Gets each command before it is run.
Ran = Callable[[Sequence[str]], None]
_OF_ANOTHER = "PGBACKREST_"  # such variables of the caller's shell would override the configuration file
# Whoever is killed takes the command along: left alone, pgBackRest would hold its lock against the next backup.
_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")


def silent(_: object) -> None:
    """For who wants to be told nothing."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left.

    Attributes:
        code: exit status.
        out, err: text; bytes that are not UTF-8 are replaced, since damaged files are quoted in messages.
    """

    code: int
    out: str
    err: str


def run(  # noqa: PLR0913 - what a command needs
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    account: str | None,
    within_s: float,
    ran: Ran = lambda _: None,
    line: Callable[[str], None] = lambda _: None,
) -> Output:
    """Run a command to its end.

    Args:
        command: program and arguments.
        environment: variables beside the caller's own.
        account: the command runs as this account; None is the caller's.
        within_s: after this the command and its children are killed.
        ran: gets the command before it is run.
        line: gets each line of its standard output.

    Raises:
        StepFailed: it did not start, or did not end in time; the message holds the last line that it wrote.
    """
    ran(command)
    name, lines = os.path.basename(command[0]), list[str]()  # noqa: PTH119 - a program's name, no file is touched
    if shutil.which(command[0]) is None:
        raise StepFailed(f"{name} does not start: there is no program {command[0]}")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(_OF_ANOTHER)} | dict(environment)
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(
                [*_WITH_US, *command], env=variables, cwd="/", **run_as(account),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words, start_new_session=True,
                text=True, errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise StepFailed(f"{name} does not start: {error}") from error
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(within_s, give_up)
        timer.start()
        try:
            assert process.stdout  # noqa: S101 - for the type checker
            for text in process.stdout:
                lines.append(text)
                line(text.rstrip("\n"))
            code = process.wait()
        finally:
            timer.cancel()
            _kill(process)
            process.communicate()
        words.seek(0)
        err = words.read().decode(errors="replace")
    if late.is_set():
        last = [*lines, *err.splitlines()][-1:] or ["nothing"]
        raise StepFailed(f"{name} did not end within {within_s:g} s; the last that it wrote: {last[0].strip()[-300:]}")
    return Output(code, "".join(lines), err)


def _kill(process: subprocess.Popen[str]) -> None:
    # Workers live in the command's session: they go with it. Once it was waited for, its number may be another's.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
