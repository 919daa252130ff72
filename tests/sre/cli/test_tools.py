"""`sre doctor` and `sre tools install`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
Code = Callable[[Callable[[], None]], int]


def test_doctor_shows_what_is_missing_and_the_remedy(sre: Run, tmp_path: Path, programs: Path, document: Document) -> None:
    whole = sre("doctor", "--json", SRE_TOOLS=str(programs))
    assert whole.returncode == 0
    found = document(whole, "sre.doctor/1")
    assert found["whole"] is True
    assert all(row["version"] and row["source"] and not row["remedy"] for row in found["programs"])
    if any(row["source"] == ".tools" for row in found["programs"]):
        lacking = sre("doctor", "--json", SRE_TOOLS=str(tmp_path / "none"))
        assert lacking.returncode == 4
        missing = [row for row in document(lacking, "sre.doctor/1")["programs"] if row["source"] == "missing"]
        assert all("run `sre tools install`" in row["remedy"] for row in missing)
        assert "missing" in sre("doctor", SRE_TOOLS=str(tmp_path / "none")).stdout


def test_tools_that_are_there_are_not_fetched(sre: Run, programs: Path, document: Document) -> None:
    done = sre("tools", "install", "--json", SRE_TOOLS=str(programs))
    assert done.returncode == 0
    assert "every program is there" in done.stderr
    assert document(done, "sre.tools/1")["folder"] == str(programs)
