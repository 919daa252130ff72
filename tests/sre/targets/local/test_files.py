from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from sre.targets.local.files import give_to, run_as, secret, write_private

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_replaces_what_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o666)
    with path.open() as reader:
        write_private(path, "new")
        # Who had the old file open sees the old words: the new ones are in a file of their own.
        assert reader.read() == "old"
    assert (path.read_text(), mode(path)) == ("new", 0o600)


def test_a_private_file_is_private_under_every_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "secret", "new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret") == 0o600


def test_a_private_file_never_goes_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")
    write_private(tmp_path / "secret", "ours")
    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert not (tmp_path / "secret").is_symlink()


def test_a_secret_is_made_once_and_differs_from_every_other(tmp_path: Path) -> None:
    first = secret(tmp_path / "one")
    assert secret(tmp_path / "one") == first
    assert secret(tmp_path / "other") != first
    assert len(first) >= 32
    assert mode(tmp_path / "one") == 0o600
    (tmp_path / "one").write_text("chosen by hand\n")
    assert secret(tmp_path / "one") == "chosen by hand"


@as_root
def test_what_is_given_away_is_given_whole_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "given" / "deep").mkdir(parents=True)
    (tmp_path / "given" / "deep" / "file").touch()
    (tmp_path / "kept").touch()
    (tmp_path / "given" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "single").touch()
    give_to("nobody", tmp_path / "given", tmp_path / "single")
    account = pwd.getpwnam("nobody")
    for name in ("given", "given/deep", "given/deep/file", "given/link", "single"):
        owner = (tmp_path / name).lstat()
        assert (owner.st_uid, owner.st_gid) == (account.pw_uid, account.pw_gid), name
    assert (tmp_path / "kept").stat().st_uid == 0


def test_an_account_runs_with_its_own_group_and_no_other() -> None:
    assert run_as("nobody") == {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


def test_without_an_account_nothing_is_changed() -> None:
    assert run_as(None) == {"user": None, "group": None, "extra_groups": None}
