"""Files that are private, and files that belong to the unprivileged account."""

from __future__ import annotations

import os
import pwd
import secrets
from pathlib import Path
from typing import TypedDict


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at no moment readable by others."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def secret(path: Path) -> str:
    """The secret that a private file holds, made at the first question."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text(encoding="utf-8").strip()


def give_to(account: str, *paths: Path) -> None:
    """Make the unprivileged account the owner of paths and of all below them."""
    entry = pwd.getpwnam(account)
    for path in paths:
        for item in (path, *path.rglob("*")) if path.is_dir() else (path,):
            os.chown(item, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


class Account(TypedDict):
    """Whom a child process runs as, in the words of `subprocess`."""

    user: str | None
    group: int | None
    extra_groups: list[str] | None


def run_as(account: str | None) -> Account:
    """What makes a child process run as an account and with its group alone; with None it runs as ourselves."""
    return Account(user=account, group=pwd.getpwnam(account).pw_gid if account else None, extra_groups=[] if account else None)
