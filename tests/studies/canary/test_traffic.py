from __future__ import annotations

import math

import numpy as np
import pytest

from tests.studies.canary.traffic import EDGES_S, Categories, Errors, Floats, class_shares, latency_shares


def totals(errors: Errors, seed: int = 1) -> Floats:
    """Sums over the looks, shape (2, runs)."""
    return np.asarray(np.sum([np.stack(look) for look in errors.draw(seed)], axis=0))


def test_the_same_seed_gives_the_same_traffic() -> None:
    errors = Errors(runs=3, looks=100, cluster=5.0, missed=0.1, outages=0.01, resets=0.1, bad_node=0.01)
    assert np.array_equal(totals(errors, 7), totals(errors, 7))
    assert not np.array_equal(totals(errors, 7), totals(errors, 8))


@pytest.mark.parametrize("cluster", [1.0, 2.0, 5.0, 20.0])
def test_clusters_change_the_dispersion_and_not_the_mean(cluster: float) -> None:
    found = np.array([np.stack(look) for look in Errors(runs=400, looks=500, cluster=cluster, ratio=3.0).draw(2)])
    assert found.mean(axis=(0, 2)) == pytest.approx([4.5, 1.5], rel=0.05)
    # A geometric number of mean m has the second moment m (2m - 1): the index of dispersion of its compound is 2m - 1.
    assert found[:, 1].var() / found[:, 1].mean() == pytest.approx(2 * cluster - 1, rel=0.1)


def test_requests_weigh_the_arms() -> None:
    errors = Errors(runs=2000, looks=20, canary_per_s=1.0, control_per_s=999.0)
    assert errors.share == pytest.approx(0.001)
    assert totals(errors).mean(axis=1) == pytest.approx([0.3, 299.7], rel=0.2)


def test_a_missed_scrape_shows_with_the_next() -> None:
    errors = Errors(runs=200, looks=400, missed=0.3)
    # What the last look holds back is all that is lost.
    assert totals(errors).mean() == pytest.approx(600.0, rel=0.02)
    quiet = np.mean([(look[0] == 0).mean() for look in errors.draw(1)])
    assert quiet > 0.3


@pytest.mark.parametrize(
    ("condition", "factor"), [("outages", 1 + 0.01 * 199), ("bad_node", 1 + 0.01 * 20 / 1.5), ("resets", 1 - 0.01 / 2)]
)
def test_conditions_change_both_arms_alike(condition: str, factor: float) -> None:
    found = totals(Errors(runs=1000, looks=400, **{condition: 0.01})).mean(axis=1) / 600.0
    assert found == pytest.approx([factor, factor], rel=0.04)


def test_an_outage_hits_both_arms_at_once() -> None:
    looks = np.array([np.stack(look) for look in Errors(runs=1, looks=4000, outages=0.01).draw(3)])[:, :, 0]
    down = looks > 100
    assert down[:, 0].sum() > 20
    assert np.array_equal(down[:, 0], down[:, 1])


def test_a_day_swings_by_the_factor() -> None:
    looks = np.array([np.stack(look).mean() for look in Errors(runs=2000, looks=1440, every_s=60.0, diurnal=10.0).draw(4)])
    hours = looks.reshape(24, 60).mean(axis=1)
    assert hours.max() / hours.min() == pytest.approx(10.0, rel=0.1)


def test_latency_keeps_its_sum_and_moves_where_it_should() -> None:
    base, slower, tail = latency_shares(), latency_shares(slower=1.25), latency_shares(tail=0.01)
    for shares in (base, slower, tail):
        assert len(shares) == len(EDGES_S) + 1
        assert math.isclose(shares.sum(), 1.0)
    assert (np.cumsum(slower)[:8] < np.cumsum(base)[:8]).all()
    assert tail[8] - base[8] * 0.99 == pytest.approx(0.01)
    assert tail[:8] == pytest.approx(base[:8] * 0.99)


def test_a_shift_of_classes_is_in_points() -> None:
    shares = class_shares(shift=0.05)
    assert shares[0] == pytest.approx(0.15)
    assert shares[1:] == pytest.approx([0.1 - 0.05 / 9] * 9)
    mix = Categories(runs=50, looks=4, canary=shares, control=class_shares(), canary_per_look=1000, control_per_look=3000)
    assert mix.share == 0.25
    canary, control = np.sum([np.stack(look) for look in mix.draw(5)], axis=0)
    assert (canary.sum(axis=1) == 4000).all()
    assert (control.sum(axis=1) == 12000).all()
    assert canary.mean(axis=0) / 4000 == pytest.approx(shares, rel=0.03)
