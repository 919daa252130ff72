"""Makes the first copy of the database, where Patroni finds that there is none: `bootstrap.py --datadir=FOLDER`.

It comes from the newest backup and the WAL behind it: of the repository outside the cluster where there is one, else of the one
inside. Only when every repository says that it holds no backup, a new database is made, as Patroni would make it. While one
cannot be asked nothing is made, for an empty database would hide the one that is meant.
"""  # noqa: INP001 - a script

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ASK_WITHIN_S = 300.0
ASK_EVERY_S = 2.0
# Status codes of `pgbackrest info` for a repository; with any other it cannot be used just now.
_HOLDS_A_BACKUP, _HOLDS_NONE = 0, (1, 2)
_PGBACKREST = ("pgbackrest", "--stanza=ml")


def chosen(info: str) -> int | None:
    """Key of the repository to restore from; None when none holds a backup.

    Args:
        info: what `pgbackrest info --output=json` printed. The repository with the highest key is asked first.

    Raises:
        LookupError: a repository cannot be asked, or is damaged; the message holds pgBackRest's words.
    """
    (stanza,) = json.loads(info, strict=False)
    for repository in sorted(stanza["repo"], key=lambda one: int(one["key"]), reverse=True):
        key, status = int(repository["key"]), repository["status"]
        if status["code"] == _HOLDS_A_BACKUP:
            return key
        if status["code"] not in _HOLDS_NONE:
            raise LookupError(f"repository {key}: {' '.join(status['message'].split())[:300]}")
    return None


def options(patroni: dict[str, Any]) -> list[str]:
    """Of initdb, as Patroni makes them of its configuration."""
    found = []
    for option in patroni["bootstrap"]["initdb"]:
        found += [f"--{option}"] if isinstance(option, str) else [f"--{name}={value}" for name, value in option.items()]
    return [*found, f"--username={patroni['postgresql']['authentication']['superuser']['username']}"]


def restore(datadir: str, repository: int) -> None:
    """Copy a backup and say where its WAL is. Raises subprocess.CalledProcessError."""
    # Asked for each segment: another repository that does not answer would hold up every one of them.
    command = f'{" ".join(_PGBACKREST)} --repo={repository} archive-get %f "%p"'
    _run(
        [*_PGBACKREST, f"--repo={repository}", f"--pg1-path={datadir}", f"--recovery-option=restore_command={command}", "restore"]
    )


def initialise(datadir: str, patroni: dict[str, Any]) -> None:
    """Make a new database. Raises subprocess.CalledProcessError."""
    with tempfile.NamedTemporaryFile("w") as password:
        password.write(os.environ["SUPERUSER_PASSWORD"])
        password.flush()
        _run(["initdb", f"--pgdata={datadir}", *options(patroni), f"--pwfile={password.name}"])


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 when there is a database, 1 when there is none and nothing of one."""
    datadir = next(word.partition("=")[2] for word in arguments if word.startswith("--datadir="))
    deadline, told = time.monotonic() + ASK_WITHIN_S, ""
    while True:
        try:
            repository = chosen(_asked())
            break
        except (LookupError, ValueError, TypeError, OSError, subprocess.SubprocessError) as error:
            if str(error) != told:
                told = str(error)
                _say(f"no database is made while the backups cannot be asked: {told}")
            if time.monotonic() > deadline:
                return 1
        time.sleep(ASK_EVERY_S)
    Path(datadir).mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if repository is None:
            _say("no repository holds a backup: a new database is made")
            initialise(datadir, yaml.safe_load(Path(__file__).with_name("patroni.yml").read_text(encoding="utf-8")))
        else:
            _say(f"the database is restored from repository {repository}")
            restore(datadir, repository)
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        _say(f"no database could be made: {error}")
        # Patroni would keep the half of it beside each further try.
        shutil.rmtree(datadir, ignore_errors=True)
        return 1
    return 0


def _asked() -> str:
    quiet = ("--log-level-console=off", "--log-level-stderr=error", "--output=json")
    done = subprocess.run(
        [*_PGBACKREST, *quiet, "info"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        timeout=ASK_WITHIN_S,
        check=True,
    )
    return done.stdout


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
