from __future__ import annotations

import promql_parser
import pytest

from sre.errors import UsageError
from sre.slo import promql
from sre.slo.promql import Term, counter, minus, quoted, samples


def flat(text: str) -> str:
    """On one line: queries are laid out for people."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("x", (Term(1, "x"),)),
        ('sum(x{job="a"})', (Term(1, 'x{job="a"}'),)),
        ("sum(rate(x[{{.window}}]))", (Term(1, "x"),)),
        ("sum(increase(x[{{ .window }}])) or vector(0)", (Term(1, "x"),)),
        ("sum by (a) (rate(x[{{.window}}]))", (Term(1, "x"),)),
        ("sum(x) - sum(y)", (Term(1, "x"), Term(-1, "y"))),
        ("sum(x) - (sum(y) - sum(z))", (Term(1, "x"), Term(-1, "y"), Term(1, "z"))),
        ("(sum(rate(x[{{.window}}])) + sum(rate(y[{{.window}}])))", (Term(1, "x"), Term(1, "y"))),
        ('x{a="say \\"[5m]\\", b"}', (Term(1, 'x{a="say \\"[5m]\\", b"}'),)),
    ],
)
def test_sums_of_counters_are_known_by_their_terms(query: str, terms: tuple[Term, ...]) -> None:
    assert counter(query).terms == terms


@pytest.mark.parametrize(
    ("query", "over_an_hour"),
    [
        ("sum(rate(x[{{.window}}] offset 1d))", "sum(sum(increase(x[1h] offset 1d)))"),
        ("max(rate(x[{{.window}}]))", "sum(max(increase(x[1h])))"),
        ("sum(rate(x[{{.window}}])) * 2", "sum(sum(increase(x[1h])) * 2)"),
        ("sum(rate(x[{{.window}}]) - rate(y[{{.window}}]))", "sum(sum(increase(x[1h]) - increase(y[1h])))"),
        ("sum(max_over_time(x[{{.window}}:1m]))", "sum(sum(max_over_time(x[1h:1m])))"),
    ],
)
def test_what_is_no_such_sum_is_kept_as_it_is_but_counts_events(query: str, over_an_hour: str) -> None:
    count = counter(query)
    assert count.terms == ()
    assert flat(count.over(3600)) == over_an_hour


def test_what_is_subtracted_may_be_missing_and_counts_nothing_then() -> None:
    assert (
        flat(counter("sum(x) - sum(y)").over(300))
        == "sum(increase(x[5m])) - (sum(increase(y[5m])) or 0 * (sum(increase(x[5m]))))"
    )


def test_of_several_that_are_added_any_may_be_missing() -> None:
    text = flat(counter("sum(x) + sum(y)").over(300))
    assert text == ("(sum(increase(x[5m])) or 0 * (sum(increase(y[5m])))) + (sum(increase(y[5m])) or 0 * (sum(increase(x[5m]))))")


def test_bad_events_are_those_that_are_not_good() -> None:
    assert minus(counter("x"), counter("y")).terms == (Term(1, "x"), Term(-1, "y"))
    computed = minus(counter("x"), counter("max(rate(y[{{.window}}]))"))
    assert computed.terms == ()
    assert flat(computed.over(60)).startswith("(sum(increase(x[1m]))) - ((sum(max(increase(y[1m])))) or 0 *")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sum(", "is not PromQL"),
        ("", "is not PromQL"),
        ("rate(x[5m])", "has a window of its own; write {{.window}} in its place"),
        ("sum(rate(x[{{.window}}])) - sum(rate(y[5m] offset {{.window}}))", "where no range is; write it in brackets"),
        ("max(x)", "is no sum of counters; write the counters alone"),
        ("x - y", "is no sum of counters"),
        ("sum(x offset 5m)", "is no sum of counters"),
    ],
)
def test_what_cannot_be_counted_is_refused_with_a_remedy(query: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        counter(query)
    assert says in str(raised.value)


@pytest.mark.parametrize("written", ["1", "1.0"])
def test_a_whole_edge_is_found_in_both_spellings(written: str) -> None:
    (term,) = counter(f'sum(x_bucket{{le="{written}",a="b"}})').terms
    matcher = next(item for item in promql_parser.parse(term.selector).matchers.matchers if item.name == "le")  # type: ignore[attr-defined]
    assert (matcher.op, matcher.value) == (promql_parser.MatchOp.Re, r"1(\.0)?")
    assert promql.edge(term.selector) == 1.0


def test_other_edges_and_values_that_look_like_one_stay() -> None:
    selector = 'x_bucket{a="le=\\"1\\"",le="0.25"}'
    assert counter(selector).terms == (Term(1, selector),)
    assert promql.edge(selector) == 0.25
    assert promql.edge("x_count") is None
    assert promql.edge('x_bucket{le=~"1|2"}') is None


def test_a_gauge_is_looked_at_by_samples_that_are_numbers() -> None:
    bad, looks = samples("max(lag)", 60, "{} > bool 3")
    assert flat(bad.over(600)) == "sum(sum_over_time((((max(lag)) == (max(lag))) > bool 3)[10m:1m]))"
    assert flat(looks.over(600)) == "sum(count_over_time((((max(lag)) == (max(lag))))[10m:1m]))"


def test_a_ratio_of_somebody_else() -> None:
    bad, total = promql.ratio("avg(1 - avg_over_time(up[{{.window}}]))")
    assert flat(bad.over(300)) == "sum(avg(1 - avg_over_time(up[5m]))) >= 0 or 0 * count(avg(1 - avg_over_time(up[5m])))"
    assert flat(total.over(300)) == "count(avg(1 - avg_over_time(up[5m])))"
    with pytest.raises(UsageError, match="names no window"):
        promql.ratio("vector(1)")


def test_only_selectors_are_native_histograms() -> None:
    with pytest.raises(UsageError, match="is not a selector"):
        promql.native("rate(x[5m])", None)


def test_values_are_quoted() -> None:
    value = 'a "b" \\ c\nd'
    tree = promql_parser.parse(f"x{{a={quoted(value)}}}")
    assert tree.matchers.matchers[0].value == value  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("seconds", "written"), [(300, "5m"), (5400, "1h30m"), (30 * 86_400, "30d"), (28 * 86_400, "4w"), (0.5, "500ms")]
)
def test_durations_are_written_as_promql_does(seconds: float, written: str) -> None:
    assert promql.duration(seconds) == written
