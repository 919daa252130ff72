"""The PromQL of a plan: parsed, never glued together unseen. `$track` stands for the arm."""

from __future__ import annotations

from typing import Any

import promql_parser
from promql_parser import Matcher, MatchOp, VectorSelector

_TRACK = "$track"
_NAME_THE_ARM = f'name the arm by a matcher as track="{_TRACK}"; it becomes canary or control'


def selector(text: str) -> str:
    """`text`, when it is a plain vector selector that names the arm.

    Raises:
        ValueError: it is something else; says what to write.
    """
    parsed = _parsed(text)
    if not isinstance(parsed, VectorSelector) or parsed.offset is not None or parsed.at is not None:
        raise ValueError('write a plain selector as name{label="value"}: no function, aggregation, range, offset or @')
    if not parsed.name or parsed.matchers.or_matchers:
        raise ValueError("write one metric's name before the braces, and no `or` between them")
    if not any(_names_the_arm(item) for item in parsed.matchers.matchers):
        raise ValueError(_NAME_THE_ARM)
    return text


def expression(text: str) -> str:
    """`text`, when it is PromQL with a number at an instant, and names the arm.

    Raises:
        ValueError: it is something else; says what to write.
    """
    parsed = _parsed(text)
    if isinstance(parsed, promql_parser.MatrixSelector | promql_parser.SubqueryExpr | promql_parser.StringLiteral):
        raise ValueError("write an expression whose value is a number at an instant, for example avg(...)")  # noqa: TRY004 - pydantic collects ValueError
    found: list[Matcher] = []

    def visit(part: Any) -> None:
        chosen = part.vector_selector if isinstance(part, promql_parser.MatrixSelector) else part
        if isinstance(chosen, VectorSelector):
            found.extend(chosen.matchers.matchers)

    promql_parser.walk(parsed, visit)
    if not any(_names_the_arm(item) for item in found):
        raise ValueError(_NAME_THE_ARM)
    return text


def name(checked: str) -> str:
    """The metric's name in a checked selector."""
    return _selector(checked).name or ""


def matched(checked: str) -> tuple[str, ...]:
    """The labels that a checked selector matches."""
    return tuple(item.name for item in _selector(checked).matchers.matchers)


def labels(checked: str) -> dict[str, str]:
    """What every series carries that a checked selector selects, the metric's name included."""
    equal = {item.name: item.value for item in _selector(checked).matchers.matchers if item.op is MatchOp.Equal and item.value}
    return equal | {"__name__": name(checked)}


def of_targets(checked: str, metric: str) -> str:
    """The selector of another metric of the same targets: with the job and the arm of a checked one."""
    kept = [item for item in _selector(checked).matchers.matchers if item.name in {"job", "instance"} or _names_the_arm(item)]
    return f"{metric}{{{','.join(str(item) for item in kept)}}}"


def of_track(text: str, track: str) -> str:
    """A selector or expression for one arm."""
    return text.replace(_TRACK, track)


def _names_the_arm(matcher: Matcher) -> bool:
    return matcher.value == _TRACK and matcher.op is MatchOp.Equal


def _parsed(text: str) -> Any:
    try:
        return promql_parser.parse(text)
    except ValueError as error:
        raise ValueError(f"it is not PromQL ({error}); correct it") from None


def _selector(checked: str) -> VectorSelector:
    parsed: VectorSelector = promql_parser.parse(checked)  # type: ignore[assignment] # it was checked
    return parsed
