"""Rewrites what was measured in README.md from the newest runs: the promise table, and the terminal block of a drill."""

from __future__ import annotations

import re
import sys

from sre.clock import SystemClock, iso
from sre.config import PROJECT, Settings
from sre.errors import NothingSelected
from sre.evidence import standing, text
from sre.evidence.schema import DrillRecord, RunRecord

DRILL = "pod-recovery"


def between(document: str, marker: str, content: str) -> str:
    """The document with the text between two markers replaced."""
    pattern = re.compile(f"(<!-- {marker} -->\n).*(<!-- /{marker} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}{match[2]}", document)


def _drill(record: RunRecord, name: str) -> DrillRecord:
    return next(drill for drill in record.drills if drill.name == name)


def main() -> int:
    """Rewrite README.md."""
    settings = Settings()
    root, key, now = settings.evidence, standing.known_key(settings.signing_key), SystemClock().wall()
    newest = standing.newest(root, key)
    if missing := {DRILL, "peak-load"} - newest.keys():
        raise NothingSelected(f"no run of {', '.join(sorted(missing))} is signed by this machine; run `sre gameday`")
    record = newest[DRILL]
    machine = f"{record.environment['cores']} cores, {record.environment['memory_gb']:.0f} GB"
    peak = _drill(newest["peak-load"], "peak-load").facts["plan"]["seconds"]
    measured = f"\nLast measured {iso(record.started)[:10]} with {machine}, load generator and cluster on the same cores, "
    measured += f"peak-load for {peak:.0f} s.\nThe ten minutes of the promise: `sre drill peak-load --duration 10m`.\n"
    lines = text.run_text(record).splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith(DRILL))
    end = next((index for index, line in enumerate(lines) if index > begin and not line.startswith("  ")), len(lines))
    verdicts = [text.verdict_line(verdict) for verdict in _drill(record, DRILL).verdicts]
    block = "\n".join([f"$ sre drill {DRILL}", *lines[begin:end], *verdicts, lines[-1]])
    table = standing.promise_table(standing.worst(standing.standings(root, key), now), now)
    readme = PROJECT / "README.md"
    document = readme.read_text(encoding="utf-8")
    document = between(document, "promises", table + measured)
    document = between(document, "terminal", f"```\n{block}\n```\n")
    readme.write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
