"""From results to what the study shows, as text and as one offline HTML file with plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from scipy.stats import chi2

from sre.measure.proportion import at_most
from sre.slo.windows import HOUR_S, MINUTE_S
from sre.units import Unit, show
from tests.studies.slo import alerts, ledger, traffic

MOST_PAGES = 1.0  # false ones in a month
FOUND_S = 2 * HOUR_S
OUTAGES = (1.0, 0.1, 0.05, 0.01, 0.003)
_NO_CHANCE = 1e6  # requests a second
_SOME = 1000.0
_BINS = 24


@dataclass(frozen=True, slots=True)
class Finding:
    """One goal, whether it was met, and the sentence that says by how much."""

    goal: str
    met: bool
    said: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars over a line of minutes: x, height (both 0 to 1), and a sentence each."""

    title: str
    last: str
    bars: tuple[tuple[float, float, str], ...]


def ledger_finding(results: Sequence[dict[str, Any]]) -> Finding:
    """S3: what was spent is known to 0.1 %."""
    found = [ledger.LedgerResult(**one) for one in results]
    worst = max(one.off for one in found)
    days, events = found[0].days, sum(one.total for one in found)
    idle = sum(one.averaged is None for one in found)
    resets = sum(one.resets for one in found)
    said = (
        f"{len(found)} ledgers of {days} days, {events:,.0f} events, {resets} restarts of counters: spent budget off by "
        f"{worst:.4%} at most; the mean of five-minute ratios is no number in {idle} of {len(found)}"
    )
    return Finding("S3 the budget equals the ledger to 0.1 %", worst <= ledger.TOLERANCE, said)


def low_traffic_findings(results: Sequence[dict[str, Any]]) -> list[Finding]:
    """S4: false pages and total outages at ten requests an hour."""
    pages, months = sum(one["pages"] for one in results), len(results)
    # Upper end of the one-sided 95 % interval of a Poisson mean (Garwood 1936).
    most = float(chi2.ppf(0.95, 2 * pages + 2)) / 2 / months
    naive = sum(one["naive"] for one in results) / months
    late = [one["found_s"] for one in results if one["found_s"] is None or one["found_s"] > FOUND_S]
    seen = [one["found_s"] for one in results if one["found_s"] is not None]
    return [
        Finding(
            "S4 at most one false page a month at the objective, ten requests an hour", most <= MOST_PAGES,
            f"{pages} in {months} months, at most {most:.3f} a month with 95 % confidence; {naive:.1f} a month without the test "
            "for chance",
        ),
        Finding(
            "S4 a total outage is found within 2 h", not late,
            f"{len(late)} of {months} later, at most {show(at_most(len(late), months), Unit.RATIO)} with 95 % confidence; median "
            f"{np.median(seen) / MINUTE_S:.0f} min, longest {max(seen) / MINUTE_S:.0f} min",
        ),
    ]  # fmt: skip


def formula_finding() -> Finding:
    """S5: detection times against the formula, to one evaluation."""
    worst, slower = 0.0, 0.0
    for bad_share in OUTAGES:
        for window in alerts.WINDOWS:
            if window.detected_s(traffic.ALLOWED, bad_share) is None:
                continue
            took, due = alerts.constant_outage(window, bad_share, _NO_CHANCE)
            worst = max(worst, abs(took - due))
            slower = max(slower, alerts.constant_outage(window, bad_share, _SOME)[0] / took - 1)
    said = (
        f"off by {worst:.0f} s at most, evaluated every {alerts.EVERY_S:.0f} s; at {_SOME:,.0f} requests a second the test for "
        f"chance adds {slower:.1%} at most"
    )
    return Finding("S5 the four windows fire when the formula says, to one evaluation", worst <= alerts.EVERY_S, said)


def quality(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """S5: precision, recall, detection and reset time of each alert, as text."""
    rows = []
    for index, window in enumerate(alerts.WINDOWS):
        parts = [one["windows"][index] for one in results]
        significant, found, fired, right = (
            sum(part[name] for part in parts) for name in ("significant", "found", "fired", "right")
        )
        times = [[second for part in parts for second in part[name]] for name in ("detection_s", "reset_s")]
        rows.append(
            (
                f"{window.severity} {window.long_s / HOUR_S:g}h/{window.short_s / MINUTE_S:g}m, {window.factor:g}",
                f"{right} of {fired}", f"{right / fired:.3f}" if fired else "none fired",
                f"{found} of {significant}", f"{found / significant:.3f}" if significant else "none was due",
                *map(_quantiles, times),
            )
        )  # fmt: skip
    return rows


def _quantiles(seconds: Sequence[float]) -> str:
    return " / ".join(f"{value / MINUTE_S:.0f}" for value in np.quantile(seconds, [0.5, 0.9])) if seconds else "none"


COLUMNS = ("alert", "right", "precision", "found", "recall", "detected, min (median / 90 %)", "reset, min (median / 90 %)")


def text(findings: Sequence[Finding], rows: Sequence[tuple[str, ...]]) -> str:
    """The report, for a terminal."""
    lines = [f"{'met ' if one.met else 'MISSED '}{one.goal}: {one.said}" for one in findings]
    widths = [max(len(row[index]) for row in (COLUMNS, *rows)) for index in range(len(COLUMNS))]
    lines += ["", *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (COLUMNS, *rows))]
    return "\n".join(lines) + "\n"


def html(findings: Sequence[Finding], rows: Sequence[tuple[str, ...]], plots: Sequence[Histogram]) -> str:
    """The report with its plots, without script and without external asset."""
    environment = Environment(
        loader=PackageLoader("tests.studies.slo"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = PackageLoader("sre.evidence").get_source(environment, "report.css")[0]
    return environment.get_template("study.html.j2").render(
        css=Markup(css),  # noqa: S704 (our own file)
        findings=findings, columns=COLUMNS, rows=rows, plots=plots,
    )  # fmt: skip


def plots(quiet: Sequence[dict[str, Any]], busy: Sequence[dict[str, Any]]) -> list[Histogram]:
    """How long outages at low traffic lasted before a page, and how long each alert took on busy months."""
    found = [
        histogram("total outage at ten requests an hour: until the page", [one["found_s"] for one in quiet if one["found_s"]])
    ]
    for index, window in enumerate(alerts.WINDOWS):
        name = f"{window.severity} over {window.long_s / HOUR_S:g} h"
        for key, what in (("detection_s", "until it fired"), ("reset_s", "from the end until it was silent")):
            found.append(histogram(f"{name}: {what}", [second for one in busy for second in one["windows"][index][key]]))
    return found


def histogram(title: str, seconds: Sequence[float]) -> Histogram:
    """Bars of equal width from 0 to the longest."""
    if not seconds:
        return Histogram(f"{title}: nothing", "", ())
    last = max(*seconds, 1.0)
    heights, edges = np.histogram(seconds, bins=_BINS, range=(0.0, last))
    bars = tuple(
        (index / _BINS, float(height) / float(heights.max()), f"{low / MINUTE_S:.1f} to {high / MINUTE_S:.1f} min: {height}")
        for index, (height, low, high) in enumerate(zip(heights.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    )
    return Histogram(title, f"{last / MINUTE_S:.0f} min", bars)
