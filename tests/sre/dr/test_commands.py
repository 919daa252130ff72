from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sre.dr.commands import run
from sre.errors import StepFailed


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_come_as_they_are_written_and_all_of_it_is_kept() -> None:
    lines: list[str] = []
    done = run(
        python("import sys; print('one'); print('two'); sys.stderr.write('three'); sys.exit(3)"),
        environment={}, account=None, within_s=20, line=lines.append,
    )  # fmt: skip
    assert lines == ["one", "two"]
    assert (done.code, done.out, done.err) == (3, "one\ntwo\n", "three")


def test_bytes_that_are_no_text_are_replaced() -> None:
    done = run(python(r"import sys; sys.stdout.buffer.write(b'a\xffb\n')"), environment={}, account=None, within_s=20)
    assert done.out == "a\N{REPLACEMENT CHARACTER}b\n"


def test_its_own_variables_count_and_those_of_pgbackrest_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGBACKREST_REPO1_PATH", "/elsewhere")
    monkeypatch.setenv("PGPASSFILE", "/elsewhere")
    code = "import os; print(os.environ.get('PGBACKREST_REPO1_PATH'), os.environ['PGPASSFILE'])"
    assert run(python(code), environment={"PGPASSFILE": "/here"}, account=None, within_s=20).out == "None /here\n"


def test_a_command_too_slow_is_killed_with_its_children(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    code = f"""
import os, time
child = os.fork()
if child:
    open({str(numbers)!r}, "w").write(str(child))
    print("begun", flush=True)
time.sleep(60)
"""
    with pytest.raises(StepFailed, match=r"did not end within 2 s; the last that it wrote: begun"):
        run(python(code), environment={}, account=None, within_s=2)
    child = Path(f"/proc/{numbers.read_text()}/stat")
    eventually(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z", "the child is gone")


def test_a_command_ends_with_whoever_runs_it(tmp_path: Path) -> None:
    number = tmp_path / "number"
    lasting = f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); print('begun', flush=True); time.sleep(60)"
    caller = f"from sre.dr.commands import run; run({python(lasting)!r}, environment={{}}, account=None, within_s=50, line=print)"
    with subprocess.Popen([*python(caller)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        try:
            eventually(lambda: number.exists() and number.read_text(), "the command begins")
        finally:
            running.kill()
    eventually(lambda: not Path(f"/proc/{number.read_text()}").exists(), "the command is gone")


def eventually(seen: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < until, f"not within 10 s: {what}"
        time.sleep(0.01)


def test_nothing_is_left_when_a_line_is_refused(tmp_path: Path) -> None:
    def refuse(_: str) -> None:
        raise KeyboardInterrupt

    number = tmp_path / "number"
    code = f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); print('x', flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run(python(code), environment={}, account=None, within_s=30, line=refuse)
    assert not Path(f"/proc/{number.read_text()}").exists()


def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(StepFailed, match=r"nothing-here does not start: there is no program /nothing-here"):
        run(["/nothing-here"], environment={}, account=None, within_s=1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another account")
def test_it_runs_as_the_account() -> None:
    done = run(["/usr/bin/id", "-un"], environment={}, account="nobody", within_s=20)
    assert done.out.strip() == "nobody"
    groups = run(["/usr/bin/id", "-G"], environment={}, account="nobody", within_s=20)
    assert groups.out.split() == [str(pwd.getpwnam("nobody").pw_gid)]
