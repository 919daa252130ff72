"""Programs that write down how they were called, and answer as they are told."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python}
import json, sys, pathlib
folder = pathlib.Path({folder!r})
said = sys.stdin.read()
with (folder / "called").open("a") as log:
    log.write(json.dumps([{name!r}, sys.argv[1:], said]) + "\\n")
answers = json.loads((folder / "answers.json").read_text())
for words, (code, out, file) in answers.items():
    if words in " ".join([{name!r}, *sys.argv[1:]]):
        target = next((word.partition("=")[2] for word in sys.argv if word.startswith("--output=")), "")
        if file and target:
            pathlib.Path(target).write_bytes(pathlib.Path(file).read_bytes())
        print(out, end="", file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""


@dataclass
class Programs:
    """A folder of stand-ins for kubectl and velero."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "answers.json").write_text("{}")
        for name in ("kubectl", "velero"):
            program = self.folder / name
            program.write_text(_PROGRAM.format(python=sys.executable, folder=str(self.folder), name=name))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def answer(self, words: str, out: str = "", code: int = 0, file: Path | None = None) -> None:
        """What a call that holds these words gets; with a file, what is put where its `--output` is."""
        answers = json.loads((self.folder / "answers.json").read_text())
        answers[words] = (code, out, str(file or ""))
        (self.folder / "answers.json").write_text(json.dumps(answers))

    def calls(self, name: str) -> list[str]:
        """Arguments of each call, as a line."""
        return [" ".join(arguments) for called, arguments, _ in self._all() if called == name]

    def objects(self) -> list[Any]:
        """That kubectl got, in order."""
        return [one for called, _, said in self._all() if called == "kubectl" and said for one in json.loads(said)["items"]]

    def _all(self) -> list[Any]:
        log = self.folder / "called"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
