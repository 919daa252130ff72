from __future__ import annotations

from typing import Any

import pytest

from sre.readings import Member
from sre.targets import patroni


@pytest.mark.parametrize(
    ("known", "role", "state", "timeline", "lag"),
    [
        ({"role": "leader", "state": "running", "timeline": 3}, "primary", "running", 3, 0),
        ({"role": "standby_leader", "state": "streaming", "timeline": 3}, "primary", "streaming", 3, 0),
        ({"role": "sync_standby", "state": "streaming", "timeline": 3, "lag": 16}, "sync_standby", "streaming", 3, 16),
        ({"role": "replica", "state": "streaming", "timeline": 2, "lag": "unknown"}, "standby", "streaming", 2, None),
        ({"role": "replica", "state": "starting", "timeline": None}, "standby", "starting", 0, None),
        ({"role": "something new", "state": "crashed"}, "", "crashed", 0, None),
        ({}, "", "unknown", 0, None),
    ],
)
def test_a_member_is_what_the_agents_say_of_it(known: dict[str, Any], role: str, state: str, timeline: int, lag: int) -> None:
    assert patroni.member("postgres-1", "7@1", known) == Member("postgres-1", "7@1", role, state, timeline, lag)
