from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.errors import CannotRun
from sre.targets.local.lacking import Lacking


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: one.nodes,
        lambda one: one.remove("serving-1", "delete"),
        lambda one: one.roll_out(),
        lambda one: one.scale(),
        lambda one: one.volumes,
        lambda one: one.network,
        lambda one: one.site,
    ],
)
def test_each_refusal_names_the_target_that_can(ask: Callable[[Lacking], object]) -> None:
    with pytest.raises(CannotRun, match=r"the local target .*; use target kubernetes"):
        ask(Lacking())
