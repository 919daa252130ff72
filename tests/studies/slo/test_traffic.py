from __future__ import annotations

import numpy as np
import pytest

from sre.slo.windows import DAY_S
from tests.studies.slo import traffic
from tests.studies.slo.traffic import Incident


def test_traffic_swings_and_keeps_its_mean() -> None:
    rate = traffic.daily(traffic.ends(1440, 60.0), 200.0, 3.0)
    assert rate.mean() == pytest.approx(200)
    assert rate.max() / rate.min() == pytest.approx(9, rel=0.01)


def test_the_worst_incident_of_an_instant_counts() -> None:
    happened = (Incident(60, 180, 0.1), Incident(120, 240, 0.5))
    assert traffic.share(traffic.ends(5, 60.0), 0.01, happened).tolist() == [0.01, 0.1, 0.5, 0.5, 0.01]


def test_a_seed_fixes_a_month_and_another_makes_another() -> None:
    rate = np.full(100, 1.0)
    first, again, other = (traffic.counts(seed, rate, rate / 2, 60.0) for seed in (1, 1, 2))
    assert first.total.tolist() == again.total.tolist() != other.total.tolist()
    assert np.all(first.bad <= first.total)
    assert traffic.incidents(1, 30, 6) == traffic.incidents(1, 30, 6) != traffic.incidents(2, 30, 6)


def test_the_office_sleeps_at_night_and_fails_on_its_second_day() -> None:
    made = traffic.office(1, 3, 60.0)
    hour = made.ends % DAY_S / 3600
    assert made.total[(hour > 0) & (hour <= 8)].sum() == 0
    assert made.total[(hour > 9) & (hour <= 19)].min() > 0
    ratio = made.bad.sum() / made.total.sum()
    assert 0.001 < ratio < 0.003
