"""What a study has found so far, one line per seed: it goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class Journal:
    """Results by part and seed.

    Args:
        file: to append to; begun when it is not there.
        schema: of its lines, one for each study.

    Raises:
        ValueError: the file is of another schema.
    """

    def __init__(self, file: Path, schema: str) -> None:
        self._file = file
        self._schema = schema
        self._found: dict[tuple[str, int], dict[str, Any]] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            try:
                document = json.loads(line)
            except ValueError:
                continue  # cut short when the study was interrupted
            if document["schema"] != schema:
                raise ValueError(f"{file} is not of schema {schema}; name another journal")
            self._found[document["part"], document["seed"]] = document["result"]

    def results(self, part: str, seeds: Iterable[int], work: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        """The results of all seeds of a part; those that are missing are worked out and written down."""
        found = []
        for seed in seeds:
            if (part, seed) not in self._found:
                self._found[part, seed] = work(seed)
                with self._file.open("a", encoding="utf-8") as file:
                    line = {"schema": self._schema, "part": part, "seed": seed, "result": self._found[part, seed]}
                    file.write(json.dumps(line) + "\n")
            found.append(self._found[part, seed])
        return found
