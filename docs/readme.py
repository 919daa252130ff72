"""Rewrites what was measured in README.md from the newest runs: the promise table, and the terminal block of a drill."""

from __future__ import annotations

import re
import sys

from sre.clock import iso
from sre.config import PROJECT, Settings
from sre.evidence import bundle, text

DRILL = "pod-recovery"


def between(document: str, marker: str, content: str) -> str:
    """The document with the text between two markers replaced."""
    pattern = re.compile(f"(<!-- {marker} -->\n).*(<!-- /{marker} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}{match[2]}", document)


def main() -> int:
    """Rewrite README.md."""
    root = Settings().evidence
    last = bundle.last_drills(root)[DRILL]
    record = bundle.load(bundle.find(root, last.run))
    machine = f"{record.environment['cores']} cores, {record.environment['memory_gb']:.0f} GB"
    peak = bundle.last_drills(root)["peak-load"].drill.facts["plan"]["seconds"]
    measured = f"\nLast measured {iso(record.started)[:10]} on the local target: {machine}, load generator on the same cores, "
    measured += f"peak-load for {peak:.0f} s.\nThe ten minutes of the promise: `sre drill peak-load --duration 10m`.\n"
    lines = text.run_text(record).splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith(DRILL))
    end = next((index for index, line in enumerate(lines) if index > begin and not line.startswith("  ")), len(lines))
    verdicts = [text.verdict_line(verdict) for verdict in last.drill.verdicts]
    block = "\n".join([f"$ sre drill {DRILL}", *lines[begin:end], *verdicts, lines[-1]])
    readme = PROJECT / "README.md"
    document = readme.read_text(encoding="utf-8")
    document = between(document, "promises", text.promise_table(bundle.promise_rows(root)) + measured)
    document = between(document, "terminal", f"```\n{block}\n```\n")
    readme.write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
