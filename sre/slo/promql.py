"""PromQL as trees: what people write is parsed, and what is generated is put together from parsed parts and parsed again.

A query over a window stands in a file as `sum(rate(x[{{.window}}]))`, or as the counter alone. Both become a `Count`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import promql_parser
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    VectorSelector,
)

from sre.errors import UsageError

# Stands for the window inside a tree. A prime number of seconds that nobody writes, and that no sum of units shortens.
_HOLE = timedelta(seconds=7919)
_HOLE_TEXT = promql_parser.display_duration(_HOLE)
_PLACEHOLDER = re.compile(r"\{\{-?\s*\.window\s*-?\}\}")
_WHOLE_EDGE = re.compile(r'(?<=[{,])le="(\d+)(?:\.0)?"')


@dataclass(frozen=True, slots=True)
class Term:
    """One counter of a sum.

    Attributes:
        sign: 1 or -1.
        selector: an instant vector of counters, all of whose series are added.
    """

    sign: int
    selector: str


@dataclass(frozen=True, slots=True)
class Count:
    """A number of events in a window.

    Attributes:
        template: PromQL with the hole in place of the window; `over` fills it.
        terms: the counters that are added and subtracted; empty when it is no such sum, and then only Prometheus can compute it.
    """

    template: str
    terms: tuple[Term, ...] = ()

    def over(self, window_s: float) -> str:
        """PromQL of the number in the last `window_s` seconds: one series without labels, or none."""
        return fill(self.template, window_s)


def parse(text: str) -> Expr:
    """Parse PromQL.

    Raises:
        UsageError: it is not PromQL.
    """
    try:
        return promql_parser.parse(text)
    except ValueError as error:
        raise UsageError(f"query {text.strip()!r} is not PromQL ({error}); correct it") from None


def duration(seconds: float) -> str:
    """A duration as PromQL writes it: `5m`, `1h30m`, `30d`. Fractions of a second are kept as milliseconds."""
    return promql_parser.display_duration(timedelta(seconds=seconds))


def quoted(value: str) -> str:
    """A value as PromQL writes it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def fill(template: str, window_s: float) -> str:
    """Put a window into the hole of a template."""
    window = duration(window_s)

    def put(node: Expr) -> Expr | None:
        # After a range come only `offset` and `@`, so that the last match is the range and no label's value.
        if isinstance(node, MatrixSelector | SubqueryExpr) and node.range == _HOLE:
            before, _, after = node.prettify().rpartition(f"[{_HOLE_TEXT}")
            return parse(f"{before}[{window}{after}")
        return None

    return promql_parser.transform(parse(template), post_visit=put).prettify()


def counter(text: str) -> Count:
    """A query over counters, as a count of events.

    Args:
        text: counters, added and subtracted (`sum(x{...})`), or any query over a window that is written `{{.window}}`; a rate of
            events is as good as their number there, and is made into it.

    Raises:
        UsageError: it is not PromQL, it has a window of its own, or it is no sum of counters; the message says what to write.
    """
    tree = _with_hole(text)
    found = _terms(tree, 1)
    if found is not None:
        return of_terms(found)
    if not _holes(tree):
        raise UsageError(
            f"query {text.strip()!r} is no sum of counters; write the counters alone, as sum(x), "
            "or the whole query with {{.window}} as its range"
        )
    return Count(f"sum({promql_parser.transform(tree, post_visit=_increase).prettify()})")


def of_terms(terms: tuple[Term, ...]) -> Count:
    """The sum of counters, in each of their series. A counter that is not there counts nothing, unless none is there."""
    parts = [f"sum(increase({term.selector}[{_HOLE_TEXT}]))" for term in terms]
    positive = sum(term.sign > 0 for term in terms)
    text = ""
    for index, (term, part) in enumerate(zip(terms, parts, strict=True)):
        others = " or ".join(other for other in parts if other != part)
        # What is subtracted from a single counter means nothing without it.
        alone = not others or (term.sign > 0 and positive == 1)
        sign = ("" if index == 0 else "+ ") if term.sign > 0 else "- "
        text += f"{sign}{part if alone else f'({part} or 0 * ({others}))'} "
    return Count(parse(text).prettify(), terms)


def minus(total: Count, good: Count) -> Count:
    """The events of `total` that `good` does not count. Without any good event, all are bad."""
    if total.terms and good.terms:
        return of_terms(total.terms + tuple(Term(-term.sign, term.selector) for term in good.terms))
    return Count(parse(f"({total.template}) - (({good.template}) or 0 * ({total.template}))").prettify())


def samples(gauge: str, every_s: float, badness: str) -> tuple[Count, Count]:
    """A gauge, looked at again and again: how bad it was, summed, and the number of looks. NaN is no look.

    Args:
        gauge: PromQL; its series are looked at one by one.
        every_s: between two looks, s.
        badness: PromQL that makes 0 to 1 of one look, with `{}` in place of the gauge.

    Raises:
        UsageError: it is not PromQL.
    """
    value = f"({parse(gauge).prettify()})"
    seen, every = f"({value} == {value})", f"[{_HOLE_TEXT}:{duration(every_s)}]"
    bad, looks = badness.format(seen), seen
    return (
        Count(parse(f"sum(sum_over_time(({bad}){every}))").prettify()),
        Count(parse(f"sum(count_over_time(({looks}){every}))").prettify()),
    )


def ratio(text: str) -> tuple[Count, Count]:
    """A share of bad events that somebody else computed over a window; NaN there means that there were no events.

    Raises:
        UsageError: it is not PromQL over `{{.window}}`.
    """
    tree = _with_hole(text)
    if not _holes(tree):
        raise UsageError(f"query {text.strip()!r} names no window; write {{{{.window}}}} as its range")
    share = tree.prettify()
    total = f"count({share})"
    return Count(parse(f"sum({share}) >= 0 or 0 * {total}").prettify()), Count(parse(total).prettify())


def native(selector: str, at_most: float | None) -> Count:
    """Observations of native histograms.

    Args:
        selector: an instant vector of native histograms.
        at_most: count those up to here, in the unit of the metric, by interpolation within a bucket; None counts all.

    Raises:
        UsageError: it is not a selector.
    """
    tree = parse(selector)
    if not isinstance(tree, VectorSelector):
        raise UsageError(
            f'histogram {selector.strip()!r} is not a selector; write the metric and its labels, as latency{{job="a"}}'
        )
    whole = f"sum(increase({tree.prettify()}[{_HOLE_TEXT}]))"
    share = "" if at_most is None else f"histogram_fraction(-Inf, {at_most!r}, {whole}) * "
    return Count(parse(f"{share}histogram_count({whole})").prettify())


def edge(selector: str) -> float | None:
    """The upper edge of the bucket of a classic histogram that a selector names, or None."""
    tree = parse(selector)
    if not isinstance(tree, VectorSelector):
        return None
    values = [matcher.value for matcher in tree.matchers.matchers if matcher.name == "le"]
    try:
        return float(values[0].removesuffix("(\\.0)?")) if len(values) == 1 else None
    except ValueError:
        return None


def _with_hole(text: str) -> Expr:
    """Parse a query; its placeholders become the hole.

    Raises:
        UsageError: it is not PromQL, or a placeholder is no range, or a range is no placeholder.
    """
    replaced, placeholders = _PLACEHOLDER.subn(_HOLE_TEXT, text)
    try:
        tree = promql_parser.transform(promql_parser.parse(replaced), post_visit=_edges)
    except ValueError as error:
        raise UsageError(f"query {text.strip()!r} is not PromQL ({error}); correct it") from None
    if _holes(tree) != placeholders:
        raise UsageError(
            f"query {text.strip()!r} has {{{{.window}}}} where no range is; write it in brackets, as [{{{{.window}}}}]"
        )
    if not placeholders and _find(tree, lambda node: isinstance(node, MatrixSelector | SubqueryExpr)):
        raise UsageError(f"query {text.strip()!r} has a window of its own; write {{{{.window}}}} in its place")
    return tree


def _edges(node: Expr) -> Expr | None:
    """Name a bucket by both spellings of a whole edge: clients and Prometheus 3 write 1.0, and some clients 1."""
    if isinstance(node, VectorSelector):
        # Inside a value the quotation mark is escaped, so that this finds matchers only.
        return parse(_WHOLE_EDGE.sub(r'le=~"\1(\\\\.0)?"', node.prettify()))
    return None


def _increase(node: Expr) -> Expr | None:
    if isinstance(node, Call) and node.func.name == "rate" and _is_hole(node.args[0]):
        return parse("increase" + node.prettify().removeprefix("rate"))
    return None


def _terms(node: Expr, sign: int) -> tuple[Term, ...] | None:
    """The counters that a tree adds and subtracts, or None when it does anything else."""
    node = _bare(node)
    found: tuple[Term, ...] | None = None
    if isinstance(node, VectorSelector) and node.offset is None and node.at is None:
        found = (Term(sign, node.prettify()),)
    elif isinstance(node, Call) and node.func.name in {"rate", "increase"} and _is_hole(node.args[0]):
        found = _terms(getattr(node.args[0], "vector_selector", node.args[0]), sign)
    elif isinstance(node, AggregateExpr) and str(node.op) == "sum" and not isinstance(_bare(node.expr), BinaryExpr):
        found = _terms(node.expr, sign)
    elif isinstance(node, BinaryExpr) and str(node.op) == "or" and _bare(node.rhs).prettify() == "vector(0)":
        found = _terms(node.lhs, sign)
    # Without an aggregation on both sides series would be matched by their labels.
    elif isinstance(node, BinaryExpr) and str(node.op) in {"+", "-"} and _whole(node.lhs) and _whole(node.rhs):
        left, right = _terms(node.lhs, sign), _terms(node.rhs, -sign if str(node.op) == "-" else sign)
        found = left + right if left is not None and right is not None else None
    return found


def _whole(node: Expr) -> bool:
    """Whether a tree gives one series without labels: by adding up everything, or by combining what does."""
    node = _bare(node)
    if isinstance(node, BinaryExpr):
        return _whole(node.lhs) and (_whole(node.rhs) or _bare(node.rhs).prettify() == "vector(0)")
    return isinstance(node, AggregateExpr) and node.modifier is None


def _bare(node: Expr) -> Expr:
    while isinstance(node, ParenExpr):
        node = node.expr
    return node


def _is_hole(node: Expr) -> bool:
    return isinstance(node, MatrixSelector | SubqueryExpr) and node.range == _HOLE


def _holes(tree: Expr) -> int:
    return _find(tree, _is_hole)


def _find(tree: Expr, wanted: Callable[[Expr], bool]) -> int:
    """How many nodes of a tree are wanted."""
    found = 0

    def visit(node: Expr) -> bool:
        nonlocal found
        found += wanted(node)
        return True

    promql_parser.walk(tree, visit)
    return found
