from __future__ import annotations

import pytest

from sre.slo.windows import Window
from tests.studies.slo import alerts


@pytest.mark.parametrize("window", alerts.WINDOWS, ids=lambda window: f"{window.long_s / 3600:g}h")
def test_steady_outages_are_found_when_the_formula_says(window: Window) -> None:
    took, said = alerts.constant_outage(window, 0.1, 1e6)
    assert said <= took <= said + 2 * alerts._STEP_S


def test_what_never_fires_is_not_waited_for() -> None:
    with pytest.raises(ValueError, match="never fire"):
        alerts.constant_outage(alerts.WINDOWS[0], 0.001, 1e6)


def test_a_quiet_month_ends_in_an_outage_that_is_found() -> None:
    found = alerts.quiet_month(3)
    assert found == alerts.quiet_month(3)
    assert found["pages"] <= 1 < found["naive"]
    assert 0 < found["found_s"] <= 7200


def test_a_busy_month_says_what_each_alert_found() -> None:
    found = alerts.busy_month(2)["windows"]
    assert len(found) == len(alerts.WINDOWS)
    for one in found:
        assert one["found"] <= one["significant"]
        assert one["right"] <= one["fired"]
        assert len(one["detection_s"]) <= one["found"]
    assert sum(one["significant"] for one in found) > 0
