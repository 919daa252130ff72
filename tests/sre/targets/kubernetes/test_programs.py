from __future__ import annotations

import os
from pathlib import Path

import pytest

from sre.errors import MissingProgram
from sre.targets.kubernetes import programs


def test_the_path_comes_before_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("path", "tools"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "speaker").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert programs.found("speaker", tmp_path / "tools") == str(tmp_path / "path" / "speaker")
    monkeypatch.setenv("PATH", "")
    assert programs.found("speaker", tmp_path / "tools") == str(tmp_path / "tools" / "speaker")
    with pytest.raises(MissingProgram, match=f"other is neither on PATH nor in {tmp_path}; install it"):
        programs.found("other", tmp_path)


def test_the_file_of_the_cluster_is_told_beside_everything_else() -> None:
    assert programs.environment("a:b") == {**os.environ, "KUBECONFIG": "a:b"}
