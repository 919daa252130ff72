"""`sre ab`: two versions by a business metric."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.errors import ExitCode, UsageError
from sre.units import Unit, parse_ratio, parse_seconds, show

if TYPE_CHECKING:
    from sre.canary.ab import Arm, Comparison, Terms
    from sre.canary.ab_data import Data


def ab(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV with a heading, or a JSON list: `time,arm,successes,trials` of what each arm counted since its row before, "
            "or `time,arm,value[,trials]` of a bounded value. Left out with --prometheus."
        ),
    ] = None,
    arms: Annotated[
        str | None, typer.Option(metavar="FIRST,SECOND", help="The arms; the second is compared with the first.")
    ] = None,
    prometheus: Annotated[str | None, typer.Option(metavar="URL", help="Who counted successes and trials.")] = None,
    successes: Annotated[str | None, typer.Option(metavar="SELECTOR", help="A counter, with --prometheus.")] = None,
    trials: Annotated[str | None, typer.Option(metavar="SELECTOR", help="A counter, with --prometheus.")] = None,
    label: Annotated[str, typer.Option(help="The label whose values are the arms.")] = "track",
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back the counters are read.")] = "1d",
    split: Annotated[str, typer.Option(metavar="SHARE", help="Of users, planned for the second arm.")] = "50%",
    alpha: Annotated[str, typer.Option(metavar="SHARE", help="Probability of a wrong decision.")] = "5%",
    worth: Annotated[str, typer.Option(metavar="SHARE", help="A smaller difference does not matter, in points.")] = "0%",
    expected: Annotated[int, typer.Option(min=10, help="Trials per arm at which the intervals are to be narrowest.")] = 10_000,
    bounds: Annotated[str, typer.Option(metavar="LOW,HIGH", help="Between which a value always lies.")] = "0,1",
    as_json: AsJson = False,
) -> None:
    """Compare two versions by a share of successes or a bounded value, with intervals that hold however often you look.

    Decide alpha, worth and expected before the first look. Exit codes: 0 decided, a winner or no difference that matters;
    3 not yet, or users are not split as planned.
    """
    from sre.canary import ab as judge
    from sre.canary import ab_data

    names = _arms(arms)
    terms = judge.Terms(
        alpha=_inside("--alpha", alpha), split=_inside("--split", split), worth=parse_ratio(worth), sharpest_at=expected
    )
    if (file is None) == (prometheus is None):
        raise UsageError("say where the numbers are: a file, or --prometheus URL with --successes and --trials")
    if file is not None:
        data = ab_data.from_file(file, names, _bounds(bounds))
    elif prometheus is None or successes is None or trials is None or names is None:
        raise UsageError("--prometheus needs --successes, --trials and --arms")
    else:
        counters = ab_data.Counters(prometheus, successes, trials, label, names)
        data = ab_data.from_prometheus(counters, at=time.time(), span_s=parse_seconds(since))
    found = judge.compare(data.first, data.second, terms)
    if as_json:
        output.document("sre.ab/1", document(data, found, terms))
    else:
        output.table(("arm", "trials", "successes", "mean"), [_row(arm) for arm in (data.first, data.second)])
        for line in sentences(data, found, terms):
            output.console().print(line)
    raise typer.Exit(ExitCode.KEPT if found.decided else ExitCode.INCONCLUSIVE)


def sentences(data: Data, found: Comparison, terms: Terms) -> list[str]:
    """What the comparison says, in words."""
    points = [f"{100 * value:+.3g}" for value in (found.difference, found.low, found.high)]
    what, sure = f"{data.second.name} minus {data.first.name}", f"{100 * (1 - terms.alpha):g} %"
    lines = [f"{what}: {points[0]} points, with {sure} within {points[1]} to {points[2]} at every look"]
    if found.split:
        return [*lines, f"NO DECISION  {found.split}"]
    if found.winner is not None:
        return [*lines, f"WINNER  {found.winner}"]
    if found.alike:
        return [*lines, f"NO DIFFERENCE  of {100 * terms.worth:g} points or more"]
    return [*lines, f"UNDECIDED  {_longer(found, data.elapsed_s)}"]


def _longer(found: Comparison, elapsed_s: float) -> str:
    if found.more is None or math.isinf(found.more):
        return "more than 1,000 times the data would be needed; end it, or name by --worth what does not matter"
    if not elapsed_s:
        return f"about {found.more:.3g} times the data are needed if it goes on like this"
    left = show(elapsed_s * (found.more - 1.0), Unit.SECONDS)
    return f"about {left} more if it goes on like this, {found.more:.3g} times the data in all"


def document(data: Data, found: Comparison, terms: Terms) -> dict[str, Any]:
    """The same for machines."""
    endless = found.more is None or math.isinf(found.more)
    return {
        "decided": found.decided,
        "winner": found.winner,
        "alike": found.alike,
        "difference": found.difference,
        "interval": [found.low, found.high],
        "alpha": terms.alpha,
        "worth": terms.worth,
        "times_the_data": None if endless else found.more,
        "seconds_more": None if endless or found.more is None else data.elapsed_s * (found.more - 1.0),
        "log_e_split": found.log_e_split,
        "split": found.split,
        "arms": [
            {"name": arm.name, "trials": arm.trials, "successes": arm.successes, "mean": arm.mean}
            for arm in (data.first, data.second)
        ],
    }


def _row(arm: Arm) -> tuple[str, ...]:
    trials = f"{arm.trials:,}" if arm.trials else f"{len(arm.values):,} moments"
    return arm.name, trials, "" if arm.successes is None else f"{arm.successes:,}", f"{100 * arm.mean:.4g} %"


def _arms(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    names = text.split(",")
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UsageError(f"--arms {text!r} are not two names; write for example --arms control,canary")
    return names[0], names[1]


def _inside(option: str, text: str) -> float:
    value = parse_ratio(text)
    if not 0 < value < 1:
        raise UsageError(f"{option} {text} does not lie strictly between 0 and 1; write for example 5%")
    return value


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"--bounds {text!r} are not two numbers in order; write for example --bounds 0,1")
    return low, high
