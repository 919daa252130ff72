from __future__ import annotations

import pytest

from sre.canary import promql

GOOD = 'x_total{job="s",track="$track",status=~"5..",code!="7"}'


@pytest.mark.parametrize("text", ['x{track="$track"}', GOOD, 'x{ arm = "$track" }'])
def test_a_plain_selector_is_taken(text: str) -> None:
    assert promql.selector(text) == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("x", "name the arm"),
        ('x{track="canary"}', "name the arm"),
        ('x{track=~"$track"}', "name the arm"),
        ('x{track!="$track"}', "name the arm"),
        ('x{track="$track"}[5m]', "plain selector"),
        ('x{track="$track"} offset 5m', "plain selector"),
        ('x{track="$track"} @ 5', "plain selector"),
        ('sum(x{track="$track"})', "plain selector"),
        ('rate(x{track="$track"}[5m])', "plain selector"),
        ('x{track="$track"} or y', "plain selector"),
        ("5", "plain selector"),
        ('{track="$track"}', "one metric's name"),
        ('x{track="$track" or job="s"}', "no `or`"),
        ("x{", "not PromQL"),
        ("", "not PromQL"),
        ('x{track="$track"', "not PromQL"),
    ],
)
def test_anything_else_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        promql.selector(text)


@pytest.mark.parametrize("text", ['avg(x{track="$track"})', 'x{track="$track"} / 2', 'max_over_time(x{track="$track"}[5m])'])
def test_an_expression_may_be_anything_with_a_number(text: str) -> None:
    assert promql.expression(text) == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("avg(x)", "name the arm"),
        ("time()", "name the arm"),
        ('x{track="$track"}[5m]', "a number at an instant"),
        ('x{track="$track"}[5m:1m]', "a number at an instant"),
        ('"$track"', "a number at an instant"),
        ('avg(x{track="$track"}', "not PromQL"),
    ],
)
def test_an_expression_without_one_is_refused(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        promql.expression(text)


def test_what_a_selector_says() -> None:
    assert promql.name(GOOD) == "x_total"
    assert promql.matched(GOOD) == ("job", "track", "status", "code")
    assert promql.labels(promql.of_track(GOOD, "canary")) == {"__name__": "x_total", "job": "s", "track": "canary"}
    assert promql.labels('x{a="",b="c"}') == {"__name__": "x", "b": "c"}
    assert promql.of_targets(GOOD, "up") == 'up{job="s",track="$track"}'
    assert promql.of_track(promql.of_targets(GOOD, "up"), "control") == 'up{job="s",track="control"}'
