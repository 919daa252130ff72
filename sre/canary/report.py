"""`report.html` of a rollout: one offline file that says first how it ended and why, then shows the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sre.canary import plot, record, replay, view
from sre.canary.judge import Judged
from sre.canary.plan import Plan
from sre.clock import iso
from sre.evidence.files import ATTESTATION, CHECKSUMS, checksums
from sre.evidence.html import flat
from sre.evidence.schema import RunRecord
from sre.verdict import Outcome

# What exists only after the report was rendered; the rest is listed with its checksum.
_LATER = frozenset({"report.html", CHECKSUMS, ATTESTATION})
_WIDE, _NARROW = 1000.0, 420.0
HEADLINES = {Outcome.KEPT: "promoted", Outcome.BROKEN: "rolled back", Outcome.INCONCLUSIVE: "held", Outcome.ERROR: "no decision"}


def templates() -> Environment:
    """Where the templates of report and page are; `css` is among what they may use."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("sre.canary"), PackageLoader("sre.evidence")]), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["moment"] = lambda wall: iso(wall)[:19].replace("T", " ")
    environment.filters["seconds"] = lambda value: f"{value:,.1f} s"
    css = PackageLoader("sre.evidence").get_source(environment, "report.css")[0]
    environment.globals["css"] = Markup(css)  # noqa: S704 (our own file)
    return environment


def drawn(plan: Plan, judged: list[Judged]) -> dict[str, Any]:
    """What a template needs to draw the looks: plots, wide and narrow, and their table."""
    plots = [found for pixels in (_WIDE, _NARROW) if (found := plot.plot(plan, judged, pixels)) is not None]
    return {"plots": plots, "table": plot.rows(judged)}


def render(run: RunRecord, folder: Path) -> str:
    """The report.

    Args:
        run: of the rollout.
        folder: of the run.

    Raises:
        EvidenceDamaged: journal or samples were altered.
    """
    course = record.read(folder)
    again = replay.retrace(course)
    (drill,) = run.drills
    decision = course.decision()
    texts = {event["question"]: event["text"] for event in course.of("question")}
    names = checksums(folder, without=_LATER)
    return templates().get_template("report.html.j2").render(
        record=run,
        drill=drill,
        headline=HEADLINES[run.outcome],
        why=decision["why"] if decision else "",
        last=view.rows(again.judged[-1].standing) if again.judged else [],
        burned=again.burned[-1].why if again.burned else "",
        answers=[{**event, "text": texts[event["question"]]} for event in course.of("answer")],
        statements=[event["sentence"] for event in course.of("statement")],
        environment=list(flat(run.environment)),
        files=[(name, (folder / name).stat().st_size, digest) for name, digest in names.items()],
        **drawn(course.plan, list(again.judged)),
    )  # fmt: skip
