from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.canary.counting import Counting
from sre.canary.plan import REQUESTS, Plan
from sre.canary.promql import of_track
from sre.canary.reading import Look, Reading, dump, load, refuse
from sre.judges.canary.observation import Classes, Crashes, Events, Histogram, Interval, Means, Trouble
from sre.probes.answers import Gap, Series
from tests.sre.canary.histories import START, Fleet, Process, make_plan

PLAN = make_plan()
SLOW = Gap(Trouble.TIMED_OUT, "slow")
CLASSES = ("__name__", "classes_total")


class Run:
    """A fleet that is looked at."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.fleet = Fleet(plan)
        self.counting = Counting(plan, START)
        self.at = START

    def step(self, *, scrape: bool = True) -> Look:
        """One scrape, and what a look 0.3 s later reads."""
        self.at += 1.0
        if scrape:
            self.fleet.scrape(self.at - 0.3)
        return self.fleet.look(self.at, self.counting.since)

    def interval(self) -> Interval:
        return self.counting.look(self.step())


def troubles(interval: Interval) -> dict[str, Trouble]:
    return {one.metric: one.trouble for one in interval.missing}


def whole(interval: Interval) -> Interval:
    assert not interval.missing, interval.missing
    return interval


def spoiled(
    look: Look, selector: str, values: dict[str, str] | None = None, *, track: str = "canary", labels: bool = True
) -> Look:
    """The look with the newest value of each series of a selector replaced."""

    def one(reading: Reading) -> Reading:
        if reading.selector != of_track(selector, track):
            return reading
        series = tuple(
            Series(each.labels, (*each.values[:-1], (each.values[-1][0], (values or {}).get(each.labels.get("le", ""), "NaN"))))
            for each in reading.series
        )
        return replace(reading, series=series)

    return replace(look, readings=tuple(one(reading) for reading in look.readings))


def test_increments_between_looks_are_exact() -> None:
    run = Run()
    run.fleet.canary.answer(7)
    run.fleet.canary.answer(2, status="503", seconds=0.5, label="dog")
    run.fleet.control.answer(11, seconds=3.0)
    interval = whole(run.interval())
    assert (interval.start, interval.end, interval.stage) == (START, START + 1, 0)
    assert (interval.canary_requests, interval.control_requests) == (9, 11)
    assert interval.observations == {
        "errors": Events(2, 9, 0, 11),
        "latency": Histogram((0.1, 1.0), (7, 2, 0), (0, 0, 11)),
        "crashes": Crashes(0, 0),
        "classes": Classes(("cat", "dog"), (7, 2), (11, 0)),
        "load": Means(0.5, 0.25),
    }
    again = whole(run.interval())
    assert (again.start, again.canary_requests, again.observations["errors"]) == (START + 1, 0, Events(0, 0, 0, 0))


def test_a_scrape_that_only_some_answers_show_is_left_to_the_next_look() -> None:
    run = Run()
    run.fleet.canary.answer(5)
    run.step()
    run.fleet.canary.answer(3)
    look = run.step()
    late = run.at - 0.3
    early = {name: of_track(PLAN.up(), track) for name, track in (("a", "canary"), ("b", "control"))}
    half = replace(look, readings=tuple(
        replace(one, series=tuple(replace(each, values=each.values[:-1]) for each in one.series))
        if one.selector in early.values() else one for one in look.readings
    ))  # fmt: skip
    assert max(at for one in half.readings for each in one.series for at, _ in each.values if "requests" in one.selector) == late
    assert whole(run.counting.look(half)).canary_requests == 5
    assert whole(run.interval()).canary_requests == 3


def test_what_could_not_be_read_is_counted_with_the_next_whole_look() -> None:
    run = Run()
    run.fleet.canary.answer(5, status="500")
    look = run.step()
    gone = replace(look, readings=tuple(
        refuse(one, SLOW) if one.selector == of_track(PLAN.raw()[2], "canary") else one
        for one in look.readings
    ))  # fmt: skip
    first = run.counting.look(gone)
    assert troubles(first) == {"errors": Trouble.TIMED_OUT}
    assert (first.canary_requests, "errors" in first.observations) == (5, False)
    run.fleet.canary.answer(1)
    second = whole(run.interval())
    # The requests of both looks, since the errors are of both.
    assert (second.canary_requests, second.observations["errors"]) == (1, Events(5, 6, 0, 0))


def test_a_restart_counts_from_zero_for_every_counter_of_the_process() -> None:
    run = Run()
    run.fleet.canary.answer(50)
    run.fleet.canary.answer(1, status="500")
    whole(run.interval())
    run.fleet.canary.restart(run.at + 0.1)
    # As many errors as before: only the other counters tell that these are new.
    run.fleet.canary.answer(1, status="500")
    run.fleet.canary.answer(3)
    interval = whole(run.interval())
    assert interval.observations["errors"] == Events(1, 4, 0, 0)
    assert interval.observations["crashes"] == Crashes(1, 0)


def test_a_new_worker_is_a_crash_but_no_reset_of_shared_counters() -> None:
    run = Run()
    run.fleet.canary.answer(50)
    whole(run.interval())
    run.fleet.canary.began = run.at
    run.fleet.canary.answer(2)
    interval = whole(run.interval())
    assert (interval.canary_requests, interval.observations["crashes"]) == (2, Crashes(1, 0))


def test_a_counter_that_falls_without_a_restart_is_none() -> None:
    run = Run()
    run.fleet.control.answer(50)
    whole(run.interval())
    for key in run.fleet.control.counts:
        if ("label", "cat") in key:
            run.fleet.control.counts[key] = 10
    assert troubles(run.interval()) == {"classes": Trouble.MALFORMED}


def test_a_target_that_is_down_is_no_data_and_nothing_is_lost() -> None:
    run = Run()
    run.fleet.canary.answer(5)
    whole(run.interval())
    run.fleet.canary.answer(2)
    run.fleet.control.answer(4)
    run.fleet.canary.alive = False
    names = {REQUESTS, *PLAN.metrics}
    assert troubles(run.interval()) == dict.fromkeys(names, Trouble.TARGET_DOWN)
    assert troubles(run.interval()) == dict.fromkeys(names, Trouble.TARGET_DOWN)
    run.fleet.canary.restart(run.at)
    run.fleet.canary.answer(1)
    interval = whole(run.interval())
    assert (interval.canary_requests, interval.control_requests, interval.observations["crashes"]) == (1, 4, Crashes(1, 0))


def test_an_arm_without_targets_is_down_and_one_that_is_no_longer_scraped_is_stale() -> None:
    run = Run()
    run.fleet.processes.remove(run.fleet.canary)
    run.step()
    look = run.step()
    assert set(troubles(run.counting.look(look)).values()) == {Trouble.STALE}
    empty = replace(look, readings=tuple(
        replace(one, series=()) if one.selector == of_track(PLAN.up(), "canary") else one for one in look.readings
    ))  # fmt: skip
    assert set(troubles(Counting(PLAN, START).look(empty)).values()) == {Trouble.TARGET_DOWN}


def test_a_sample_is_stale_after_two_scrapes_and_not_before() -> None:
    run = Run()
    run.step()
    whole(run.counting.look(run.fleet.look(START + 0.7 + 2.0, run.counting.since)))
    assert set(troubles(run.counting.look(run.fleet.look(START + 0.7 + 2.001, run.counting.since))).values()) == {Trouble.STALE}


def test_a_living_target_that_no_longer_exposes_a_counter_is_stale() -> None:
    run = Run()
    whole(run.interval())
    run.fleet.canary.counts = Counter({key: value for key, value in run.fleet.canary.counts.items() if CLASSES not in key})
    run.step()
    run.step()
    assert troubles(run.interval()) == {"classes": Trouble.STALE}


def test_a_process_that_began_after_the_start_counts_from_zero() -> None:
    run = Run()
    run.fleet.processes.append(Process("canary", "a:2", START + 0.2))
    run.fleet.processes[-1].answer(3)
    assert whole(run.interval()).canary_requests == 3


def test_a_process_with_a_past_is_uninitialised_once_and_then_counts() -> None:
    run = Run()
    old = Process("canary", "a:2", START - 50)
    old.answer(1000)
    run.fleet.processes.append(old)
    first = run.interval()
    assert set(troubles(first).values()) == {Trouble.UNINITIALISED}
    assert set(troubles(first)) == {REQUESTS, "errors", "latency", "classes"}
    old.answer(4)
    run.fleet.control.answer(2)
    assert (whole(second := run.interval()).canary_requests, second.control_requests) == (4, 2)


def test_a_label_that_appears_in_a_process_that_was_scraped_counts_from_zero() -> None:
    run = Run()
    whole(run.interval())
    run.fleet.canary.answer(2, status="502")
    assert whole(run.interval()).observations["errors"] == Events(2, 2, 0, 0)


@pytest.mark.parametrize("track", ["canary", "control"])
def test_a_counter_that_no_process_ever_shows_is_empty_not_zero(track: str) -> None:
    run = Run()
    run.fleet.never_show(getattr(run.fleet, track), ("status", "500"))
    assert troubles(run.interval()) == {"errors": Trouble.EMPTY}


def test_a_counter_that_one_of_two_processes_never_shows_is_uninitialised() -> None:
    run = Run()
    second = Process("canary", "a:2", START + 0.2)
    run.fleet.processes.append(second)
    run.fleet.never_show(second, ("status", "500"))
    assert troubles(run.interval()) == {"errors": Trouble.UNINITIALISED}


def test_a_lazy_process_after_a_restart_begins_at_zero() -> None:
    run = Run()
    run.fleet.canary.answer(5, status="502")
    whole(run.interval())
    run.fleet.canary.restart(run.at)
    whole(run.interval())
    whole(run.interval())
    whole(run.interval())
    # More than before the restart, in a label that was not there meanwhile.
    run.fleet.canary.answer(8, status="502")
    assert whole(run.interval()).observations["errors"] == Events(8, 8, 0, 0)


@pytest.mark.parametrize(
    ("value", "trouble"),
    [
        ("NaN", Trouble.NOT_A_NUMBER), ("+Inf", Trouble.INFINITE), ("-Inf", Trouble.INFINITE), ("1e999", Trouble.INFINITE),
        ("1.5", Trouble.MALFORMED), ("-1", Trouble.MALFORMED), ("1e+300", Trouble.MALFORMED),
        ("9007199254740994", Trouble.MALFORMED),
        ("", Trouble.MALFORMED), (" 5", Trouble.MALFORMED), ("1_0", Trouble.MALFORMED), ("nan", Trouble.MALFORMED),
        ("0x10", Trouble.MALFORMED), ("five", Trouble.MALFORMED), ("٣", Trouble.MALFORMED),
    ],
)  # fmt: skip
@pytest.mark.parametrize("track", ["canary", "control"])
def test_what_is_no_count_is_no_data(value: str, trouble: Trouble, track: str) -> None:
    run = Run()
    look = spoiled(run.step(), PLAN.requests, {"": value}, track=track)
    interval = run.counting.look(look)
    assert troubles(interval) == {REQUESTS: trouble, "errors": trouble}
    assert (interval.canary_requests, interval.control_requests) == (0, 0)


@pytest.mark.parametrize(
    ("value", "trouble"),
    [("NaN", Trouble.NOT_A_NUMBER), ("+Inf", Trouble.INFINITE), ("10.5", Trouble.MALFORMED), ("-1", Trouble.MALFORMED)],
)
def test_a_bounded_value_outside_its_bounds_is_no_data(value: str, trouble: Trouble) -> None:
    run = Run()
    run.fleet.load["control"] = value
    assert troubles(run.interval()) == {"load": trouble}


def test_a_bounded_value_is_one_series_and_fresh() -> None:
    run = Run()
    look = run.step()
    place = next(number for number, one in enumerate(look.readings) if one.selector.startswith("avg"))
    (series,) = look.readings[place].series

    def with_series(*given: Series) -> dict[str, Trouble]:
        readings = (*look.readings[:place], replace(look.readings[place], series=given), *look.readings[place + 1 :])
        return troubles(Counting(PLAN, START).look(replace(look, readings=readings)))

    assert with_series() == {"load": Trouble.EMPTY}
    assert with_series(series, Series({"x": "y"}, series.values)) == {"load": Trouble.SEVERAL_SERIES}
    assert with_series(Series({}, ((look.at - 2.1, "5"),))) == {"load": Trouble.STALE}
    assert with_series(series) == {}


def test_buckets_must_be_a_histogram_with_the_edges_of_the_other_arm() -> None:
    run = Run()
    look = run.step()
    buckets = PLAN.raw()[3]
    assert "seconds_bucket" in buckets
    falling = spoiled(look, buckets, {"0.1": "5", "1.0": "3", "+Inf": "9"})
    assert troubles(Counting(PLAN, START).look(falling)) == {"latency": Trouble.MALFORMED}
    run.fleet.control.answer(1)
    for key in list(run.fleet.control.counts):
        if ("le", "0.1") in key:
            run.fleet.control.counts[tuple(("le", "0.2") if item[0] == "le" else item for item in key)] = 1
    assert troubles(run.interval()) == {"latency": Trouble.MALFORMED}


def test_an_edge_is_the_same_however_it_is_written() -> None:
    run = Run()
    whole(run.interval())
    for process in run.fleet.processes:
        process.answer(4)
        for key in list(process.counts):
            if ("le", "1.0") in key:
                other = tuple(("le", "1") if item[0] == "le" else item for item in key)
                process.counts[other] = process.counts.pop(key)
    assert whole(run.interval()).observations["latency"] == Histogram((0.1, 1.0), (4, 0, 0), (4, 0, 0))
    run.fleet.canary.counts[tuple(sorted({"__name__": "seconds_bucket", "le": "1.00"}.items()))] = 4
    assert troubles(run.interval()) == {"latency": Trouble.MALFORMED}


def test_an_unknown_class_is_shown_after_those_of_the_plan() -> None:
    run = Run()
    run.fleet.canary.answer(2, label="bird")
    run.fleet.control.answer(1, label="dog")
    assert whole(run.interval()).observations["classes"] == Classes(("cat", "dog", "bird"), (0, 0, 2), (0, 1, 0))


def test_a_series_without_the_label_of_the_plan_is_malformed() -> None:
    run = Run()
    run.fleet.canary.counts[("__name__", "classes_total"),] = 3
    run.fleet.canary.counts[("__name__", "seconds_bucket"),] = 3
    assert troubles(run.interval()) == {"classes": Trouble.MALFORMED, "latency": Trouble.MALFORMED}


def test_events_that_are_no_part_of_the_requests_are_malformed() -> None:
    plan = make_plan(**{"of: requests": 'of: \'classes_total{job="s",track="$track",label="dog"}\''})
    run = Run(plan)
    run.fleet.canary.answer(2, status="500", label="cat")
    assert troubles(run.interval()) == {"errors": Trouble.MALFORMED}


def test_two_start_times_of_one_target_are_several_series() -> None:
    run = Run()
    run.step()
    run.fleet.store(run.fleet.canary.labels | {"__name__": "process_start_time_seconds", "worker": "2"}, run.at - 0.3, "5")
    assert set(troubles(run.counting.look(run.fleet.look(run.at, run.counting.since))).values()) == {Trouble.SEVERAL_SERIES}


class Story(Run):
    """A run in which anything may happen, and beside it what the processes themselves know was scraped."""

    def __init__(self) -> None:
        super().__init__(make_plan(**{"labels: [cat, dog]": "labels: [cat, dog, bird]"}))
        self.process = {"canary": self.fleet.canary, "control": self.fleet.control}
        self.truth = {track: Counter(requests=0, errors=0, birds=0, crashes=0) for track in self.process}
        self.counted = {track: Counter(requests=0, errors=0, birds=0, crashes=0) for track in self.process}
        self._seen = {track: one.counts.copy() for track, one in self.process.items()}

    def look(self, *, readable: bool = True) -> None:
        look = self.step()
        for track, one in self.process.items():
            if one.alive:
                self._scraped(track, one)
        if not readable:
            look = replace(look, readings=tuple(refuse(one, SLOW) for one in look.readings))
        interval = self.counting.look(load(dump(look)))
        for track, requests in (("canary", interval.canary_requests), ("control", interval.control_requests)):
            self.counted[track]["requests"] += requests
            for name, kind in (("errors", "errors"), ("crashes", "crashes")):
                if name in interval.observations:
                    self.counted[track][kind] += getattr(interval.observations[name], track)
            if "classes" in interval.observations:
                self.counted[track]["birds"] += getattr(interval.observations["classes"], track)[2]

    def _scraped(self, track: str, one: Process) -> None:
        for key, value in (one.counts - self._seen[track]).items():
            labels = dict(key)
            self.truth[track]["requests"] += value if "status" in labels else 0
            self.truth[track]["errors"] += value if labels.get("status", "").startswith("5") else 0
            self.truth[track]["birds"] += value if labels.get("label") == "bird" else 0
        self._seen[track] = one.counts.copy()

    def kill(self, track: str, unseen: int, *, noticed: bool) -> None:
        """Kill and restart; `unseen` errors were answered since the last scrape and nobody can ever know of them."""
        one = self.process[track]
        # More than what its successor will have answered when it is first scraped, which would hide that it began anew.
        self.look()
        one.answer(1000)
        self.look()
        one.answer(unseen, status="500")
        one.alive = False
        if noticed:
            self.look()
        one.restart(self.at + 0.1)
        self._seen[track] = one.counts.copy()
        self.truth[track]["crashes"] += 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_event_that_was_scraped_is_counted_once_whatever_happens(data: st.DataObject) -> None:
    story = Story()
    for _ in range(data.draw(st.integers(1, 10))):
        track = data.draw(st.sampled_from(["canary", "control"]))
        match data.draw(st.sampled_from(["answer", "answer", "answer", "kill", "idle", "unreadable"])):
            case "answer":
                status, label = data.draw(st.sampled_from(["200", "500", "502"])), data.draw(st.sampled_from(["cat", "bird"]))
                story.process[track].answer(data.draw(st.integers(1, 9)), status=status, label=label)
            case "kill":
                story.kill(track, data.draw(st.integers(0, 9)), noticed=data.draw(st.booleans()))
            case "unreadable":
                story.look(readable=False)
        if data.draw(st.booleans()):
            story.look()
    story.look()
    assert story.counted == story.truth
