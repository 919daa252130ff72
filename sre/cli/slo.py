"""`sre slo`: where the objectives stand, what is generated from them, and whether there is budget to ship."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.config import PROJECT, Settings
from sre.errors import UsageError

if TYPE_CHECKING:
    from sre.slo.policy import Answer
    from sre.slo.standing import Standing, Unknown

SLO = PROJECT / "experiments" / "slo.yaml"
POLICY = PROJECT / "experiments" / "slo-policy.yaml"

File = Annotated[Path, typer.Argument(help="Objectives, OpenSLO v1 or Sloth prometheus/v1; this system's own when left out.")]
PolicyFile = Annotated[Path, typer.Option("--policy", help="What the budget decides; this system's own when left out.")]
Url = Annotated[
    str | None, typer.Option("--prometheus", metavar="URL", help="Who counted; the running local system's when left out.")
]
At = Annotated[
    str | None, typer.Option(metavar="TIME", help="An instant in the past, as 2026-01-01T12:00:00Z; now when left out.")
]

app = typer.Typer(
    invoke_without_command=True,
    help="Show the state of every objective, as Prometheus counts it right now; or generate rules, report, and decide.",
)


@app.callback()
def state(
    context: typer.Context,
    window: Annotated[str, typer.Option(help="How far back, for example 1h or 30d.")] = "1h",
    as_json: AsJson = False,
) -> None:
    """Show the state of every objective of this system, as Prometheus counts it right now.

    An objective is KEPT or BROKEN in the window, by as many events as it takes to say so; the budget is that of its whole period.
    """
    if context.invoked_subcommand is not None:
        return
    from sre.slo.spec import load
    from sre.slo.standing import ask
    from sre.slo.state import row
    from sre.units import parse_seconds
    from sre.verdict import combine

    if not re.fullmatch(r"[1-9]\d*[smhdw]", window):
        raise UsageError(f"window {window!r} is not understood; write for example 30m, 1h or 30d")
    seconds = 7 * parse_seconds(window[:-1] + "d") if window.endswith("w") else parse_seconds(window)
    now = time.time()
    rows = [row(standing, seconds) for standing in ask(_prometheus(None), load(SLO), now)]
    outcome = combine(one.outcome for one in rows)
    cells = [(one.objective, one.bound, one.measured, one.budget_left, one.outcome.upper()) for one in rows]
    if as_json:
        names = ("objective", "bound", "measured", "budget_left", "outcome")
        objectives = [dict(zip(names, row, strict=True)) | {"why": one.why} for row, one in zip(cells, rows, strict=True)]
        output.document("sre.slo/1", {"window": window, "objectives": objectives})
    else:
        output.table(("objective", "bound", f"last {window}", "budget left", "state"), cells)
        for one in rows:
            if one.why:
                output.narrate(f"{one.objective}: {one.why}")
    raise typer.Exit(outcome.exit_code)


@app.command()
def validate(file: File = SLO, as_json: AsJson = False) -> None:
    """Check a file of objectives, and name each with the alerts that follow from it."""
    from sre.slo.spec import load
    from sre.slo.windows import DAY_S, HOUR_S, MINUTE_S
    from sre.units import Unit, show_bound

    found = load(file)
    if as_json:
        objectives = [
            {
                "service": one.service, "objective": one.name, "target": one.target, "period_s": one.period_s,
                "alerts": [
                    {"severity": item.severity.value, "long_s": item.long_s, "short_s": item.short_s, "factor": item.factor}
                    for item in one.windows
                ],
            }
            for one in found
        ]  # fmt: skip
        output.document("sre.slo-objectives/1", {"file": file.name, "objectives": objectives})
        return
    rows = []
    for one in found:
        pairs = [(item, f"{item.long_s / HOUR_S:g}h/{item.short_s / MINUTE_S:g}m") for item in one.windows]
        alerts = ", ".join(f"{item.severity} {item.factor:.4g} over {windows}" for item, windows in pairs)
        target, period = show_bound(one.target, Unit.RATIO), f"{one.period_s / DAY_S:g} d"
        rows.append((f"{one.service}/{one.name}", target, period, alerts))
    output.table(("objective", "target", "period", "alerts: burn rate over long and short window"), rows)


@app.command()
def generate(
    into: Annotated[Path, typer.Option("-o", "--into", help="Folder for the files; made when it is not there.")],
    file: File = SLO,
    runbooks: Annotated[str, typer.Option(metavar="URL", help="Where the alerts' runbooks stand.")] = "runbooks",
    as_json: AsJson = False,
) -> None:
    """Write what Prometheus and Grafana need: recording and alerting rules, their tests for promtool, a dashboard."""
    from sre.slo.generate import generate as make
    from sre.slo.spec import load

    files = make(load(file), runbooks.rstrip("/"))
    into.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (into / name).write_text(text, encoding="utf-8")
    if as_json:
        output.document("sre.slo-generated/1", {"folder": str(into), "files": sorted(files)})
    else:
        output.narrate(f"{len(files)} files are in {into}; `promtool test rules {into}/*.test.yml` tries the rules")


@app.command()
def report(
    file: File = SLO,
    html: Annotated[Path | None, typer.Option(help="Write the report with its charts here, as one offline file.")] = None,
    policy: PolicyFile = POLICY,
    prometheus: Url = None,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Report what is left of each budget, how fast it goes, how long it lasts, and the incidents that it went on."""
    from sre.slo import report as reports

    standings, answer = _answer(file, policy, prometheus, at)
    if html is not None:
        html.write_text(reports.render(standings, answer, f"Objectives of {file.name}"), encoding="utf-8")
        output.narrate(f"the report is in {html}")
    if as_json:
        output.document("sre.slo-report/1", reports.document(standings, answer))
    else:
        output.table(reports.COLUMNS, reports.lines(standings, answer))
        for reason in answer.reasons:
            output.narrate(reason)
    raise typer.Exit(answer.decision.exit_code)


@app.command()
def check(file: File = SLO, policy: PolicyFile = POLICY, prometheus: Url = None, at: At = None, as_json: AsJson = False) -> None:
    """Say for a pipeline whether there is budget to ship: 0 ship (slowly, if it says SLOW), 1 frozen, 3 nobody knows."""
    from sre.clock import iso

    _, answer = _answer(file, policy, prometheus, at)
    if as_json:
        rulings = [{"objective": one.objective, "decision": one.decision.value, "reasons": one.reasons} for one in answer.rulings]
        said = {"at": iso(answer.at), "decision": answer.decision.value, "starts": answer.starts, "rulings": rulings}
        output.document("sre.slo-check/1", said)
    else:
        typer.echo(answer.decision.value)
        for reason in answer.reasons:
            typer.echo(f"  {reason}")
    raise typer.Exit(answer.decision.exit_code)


@app.command()
def override(
    service: Annotated[str | None, typer.Argument(help="That may ship; what was overridden so far when left out.")] = None,
    who: Annotated[str, typer.Option(help="Who answers for it.")] = "",
    why: Annotated[str, typer.Option(help="In a sentence.")] = "",
    lasting: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long it holds.")] = "4h",
    policy: PolicyFile = POLICY,
    as_json: AsJson = False,
) -> None:
    """Let a service ship although its budget is spent, and record who said so, why, and until when."""
    from sre.clock import iso
    from sre.slo import overrides
    from sre.slo.policy import load
    from sre.units import parse_seconds

    home, now = Settings().home, time.time()
    if service is not None:
        until = now + parse_seconds(lasting)
        made = overrides.Override(service=service, who=who, why=why, made=now, until=until)
        overrides.record(home, made, longest=load(policy).longest_override)
    found = overrides.recorded(home)
    rows = [(one.service, one.who, iso(one.made)[:16], iso(one.until)[:16], one.why) for one in found]
    columns = ("service", "who", "made", "until", "why")
    if as_json:
        output.document("sre.slo-overrides/1", {"overrides": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        output.table(columns, rows)


def _answer(file: Path, policy: Path, url: str | None, at: str | None) -> tuple[Sequence[Standing | Unknown], Answer]:
    from sre.slo import policy as policies
    from sre.slo.spec import load
    from sre.slo.standing import ask

    objectives, rules, moment = load(file), policies.load(policy), _moment(at)
    standings = ask(_prometheus(url), objectives, moment)
    return standings, policies.answer(standings, rules, Settings().home, moment)


def _prometheus(url: str | None) -> str:
    from sre.targets.local.target import attach

    settings = Settings()
    return url or attach(settings.home, settings.tools).endpoints.prometheus


def _moment(text: str | None) -> float:
    from sre.clock import moment

    return time.time() if text is None else moment(text)
