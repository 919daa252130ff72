from __future__ import annotations

import pytest

from sre.judges.canary.observation import Trouble
from sre.probes import counters
from sre.probes.answers import Gap, Series
from sre.probes.counters import Key, Processes, Sample, Target

KEY = (("instance", "a:1"), ("job", "s"))
TARGET = ("s", "a:1")


def processes(starts: tuple[tuple[float, float], ...] = ((0.0, 1.0),), scraped: tuple[float, ...] = ()) -> Processes:
    return Processes({TARGET: scraped}, {TARGET: 10.0}, {TARGET: starts})


def samples(*values: int, first: float = 6.0) -> dict[Key, tuple[Sample, ...]]:
    return {KEY: tuple(Sample(first + number, value) for number, value in enumerate(values))}


@pytest.mark.parametrize(
    ("values", "starts", "grown", "resets"),
    [
        ((5, 5, 9), ((0.0, 1.0),), 4, 0),
        ((5, 9, 2, 4), ((0.0, 1.0), (8.0, 7.5)), 8, 1),
        ((5, 0, 5, 0), ((0.0, 1.0), (7.0, 6.5), (9.0, 8.5)), 5, 2),
        ((5, 7), ((0.0, 1.0), (7.0, 6.5)), 2, 0),
    ],
)
def test_increments_of_one_counter(
    values: tuple[int, ...], starts: tuple[tuple[float, float], ...], grown: int, resets: int
) -> None:
    of, found = processes(starts), samples(*values)
    fell: dict[Target, list[float]] = {}
    for target, at in counters.falls(of, found, {}):
        fell.setdefault(target, []).append(at)
    counted = counters.increments(of, found, {}, 6.0, fell)
    assert (counted.grown, len(fell.get(TARGET, [])), counted.unknown) == ({KEY: grown}, resets, ())
    assert counted.marks[KEY].value == values[-1]
    again = counters.increments(of, found, counted.marks, 10.0, fell)
    assert again.grown == {KEY: 0}


def test_a_first_sample_without_a_known_past_is_the_mark_and_no_count() -> None:
    counted = counters.increments(processes(), samples(5, 9), {}, 3.0, {})
    assert (counted.grown, counted.unknown, counted.marks) == ({}, (KEY,), {KEY: Sample(6.0, 5)})
    assert counters.increments(processes(scraped=(5.0,)), samples(5, 9), {}, 3.0, {}).grown == {KEY: 9}
    assert counters.increments(processes(starts=((6.0, 5.5),)), samples(5, 9), {}, 3.0, {}).grown == {KEY: 9}


def test_a_fall_without_a_new_process_is_no_counter() -> None:
    with pytest.raises(Gap, match="fell from 5 to 3") as raised:
        counters.increments(processes(), samples(5, 3), {}, 6.0, {})
    assert raised.value.trouble is Trouble.MALFORMED


def test_numbers_are_read_as_prometheus_writes_them() -> None:
    assert [counters.number(text) for text in ("0", "1.5", "-2", "1e+06", "1e-07")] == [0, 1.5, -2, 1e6, 1e-7]
    assert counters.count("1e+06") == 1_000_000
    assert (counters.edge("+Inf"), counters.edge("1"), counters.edge("1.0")) == (float("inf"), 1.0, 1.0)
    assert counters.moment("1.7e+09") == 1.7e9
    with pytest.raises(Gap, match="cannot have begun"):
        counters.moment("0")


def series(*values: tuple[float, str], **labels: str) -> Series:
    return Series({"job": "s", "instance": "a:1", **labels}, values)


def test_samples_end_at_the_scrape_at_which_their_target_is_cut() -> None:
    line = series((8.0, "1"), (10.0, "2"), (11.0, "3"))
    assert counters.samples(processes(), [line], 20.0) == {KEY: (Sample(8.0, 1), Sample(10.0, 2))}
    assert counters.samples(processes(), [line], 9.0) == {KEY: (Sample(8.0, 1),)}
    assert counters.samples(processes(), [line], 7.0) == {}


def test_a_bucket_under_two_spellings_is_one_and_never_twice_at_once() -> None:
    found = counters.samples(processes(), [series((8.0, "1"), le="1"), series((9.0, "2"), le="1.0")], 20.0)
    assert [[sample.value for sample in line] for line in found.values()] == [[1, 2]]
    with pytest.raises(Gap, match="twice under two spellings"):
        counters.samples(processes(), [series((8.0, "1"), le="1"), series((8.0, "2"), le="1.0")], 20.0)


def test_a_target_has_one_line_and_never_two_at_once() -> None:
    later = series((9.0, "0"), shard="b")
    assert counters.by_target([later, series((8.0, "1"), shard="a")], "up") == {TARGET: [(8.0, "1"), (9.0, "0")]}
    with pytest.raises(Gap, match="up has several series of a:1 at once") as raised:
        counters.by_target([later, series((9.0, "1"), shard="a")], "up")
    assert raised.value.trouble is Trouble.SEVERAL_SERIES
