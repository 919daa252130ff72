from __future__ import annotations

from pathlib import Path

import pytest

from sre.canary import plan as plans
from sre.canary import traffic
from sre.canary.burn import PRODUCTION
from sre.errors import CannotRun
from sre.judges.canary.observation import Events
from sre.judges.canary.planner import foresee
from tests.sre.canary.rolling import staged


def test_todays_traffic_is_counted(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        plan, clock = plans.load(stage.plan_file), stage.target.clock
        start = clock.wall() + 10.0
        clock.sleep(70.0)
        look = stage.source(plan, (PRODUCTION,)).look(traffic.since(plan, start), 0)
        found = traffic.traffic(plan, look, start)
        assert found.requests_per_s == pytest.approx(1000.0, rel=0.04)
        errors = found.observations["errors"]
        assert isinstance(errors, Events)
        assert errors.control / errors.control_of == pytest.approx(0.05, abs=0.005)
        sentences = [traffic.sentence(one) for one in foresee(plan.rules(), found)]
        assert [sentence.partition(":")[0] for sentence in sentences] == ["10%", "50%"]


def test_traffic_that_is_not_known_is_told(tmp_path: Path) -> None:
    with staged(tmp_path) as stage:
        plan, now = plans.load(stage.plan_file), stage.target.clock.wall()
        stage.prometheus.service.away = 503
        look = stage.source(plan, (PRODUCTION,)).look(traffic.since(plan, now - 60.0), 0)
        with pytest.raises(CannotRun, match="today's traffic is not known"):
            traffic.traffic(plan, look, now - 60.0)
