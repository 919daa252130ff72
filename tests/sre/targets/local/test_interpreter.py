from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from sre.targets.local import interpreter
from sre.targets.local.layout import Layout, unprivileged_account

MakeLayout = Callable[..., Layout]
# Where everything comes from that a member of our cluster loads.
LOADED = """
import patroni.dcs.etcd3, psycopg, psycopg_binary, ssl, sys
print(*{module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)}, sep="\\n")
"""
OURS: tuple[tuple[str, ...], dict[str, str]] = ((sys.executable, "-m", "patroni"), {})


def run(account: str | None, command: tuple[str, ...], environment: dict[str, str]) -> str:
    group = pwd.getpwnam(account).pw_gid if account else None
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environment}, cwd="/", user=account, group=group,
        extra_groups=[] if account else None, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_ordinary_user_runs_its_own(make_layout: MakeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "closed_to_others", lambda _: True)
    layout = make_layout()
    assert interpreter.patroni(layout) == OURS
    assert not layout.tools.exists()


def test_an_interpreter_that_the_account_can_reach_is_used_as_it_is(
    make_layout: MakeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "closed_to_others", lambda _: False)
    layout = make_layout(account="nobody")
    assert interpreter.patroni(layout) == OURS
    assert not layout.tools.exists()


@pytest.mark.parametrize("closed", ["executable", "prefix", "base_prefix"])
def test_one_closed_part_is_enough_for_a_copy(make_layout: MakeLayout, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    parts = {"executable": Path(sys.executable).parent, "prefix": Path(sys.prefix), "base_prefix": Path(sys.base_prefix)}
    if sum(parts[closed].resolve() == part.resolve() for part in parts.values()) > 1:
        pytest.skip("this interpreter is in no environment")
    monkeypatch.setattr(interpreter, "closed_to_others", lambda folder: folder == parts[closed].resolve())
    layout = make_layout(account="nobody")
    home = layout.tools / f"python-{sys.version_info.major}.{sys.version_info.minor}-patroni-{version('patroni')}"
    home.mkdir(parents=True)
    command, environment = interpreter.patroni(layout)
    assert command == (str(home / "bin" / "python"), "-m", "patroni")
    assert {Path(value).is_relative_to(home) for value in environment.values()} == {True}


@pytest.mark.local
def test_the_copy_runs_as_the_account_and_needs_nothing_of_ours(
    make_layout: MakeLayout, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "closed_to_others", lambda _: True)
    account = unprivileged_account()
    layout = make_layout(account=account or pwd.getpwuid(os.geteuid()).pw_name, tools=open_folder / "tools")
    home = layout.tools / f"python-{sys.version_info.major}.{sys.version_info.minor}-patroni-{version('patroni')}"
    # What a SIGKILL left half is no copy.
    half = home.with_suffix(".new")
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("half")
    command, environment = interpreter.patroni(layout)
    assert list(layout.tools.iterdir()) == [home]
    assert run(account, (*command, "--version"), environment).endswith(version("patroni"))
    loaded = run(account, (command[0], "-c", LOADED), environment).splitlines()
    assert [path for path in loaded if path.endswith("/patroni/dcs/etcd3.py")]
    assert not [path for path in loaded if not Path(path).is_relative_to(home)]
    before = (home / "bin" / "python").stat().st_ino
    assert interpreter.patroni(layout) == (command, environment)
    assert (home / "bin" / "python").stat().st_ino == before
