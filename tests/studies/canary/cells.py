"""The cells of the study: each is one seeded simulation, which gives figures by name."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.studies.canary.figures import Figure

ALPHA, BETA, SPLIT_ALPHA = 0.01, 0.05, 0.001  # the shipped plan's
FAST = 0.05  # alpha of the goals about times of detection
ROLLBACK_AT, PROMOTE_AT, FAST_AT = math.log(1 / ALPHA), math.log(1 / BETA), math.log(1 / FAST)
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is simulated.

    Attributes:
        name: of the scale.
        runs: of what has error rates; 10,000 bound 1 per cent to within 0.25 points.
        few: of what has medians, or takes long.
        day_s: length of what lasts a day, s.
    """

    name: str
    runs: int
    few: int
    day_s: float


FULL = Scale("full", 10_000, 2_000, DAY_S)
SHORT = Scale("short", 300, 100, 7_200.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One simulation.

    Attributes:
        id: name, which is its seed too.
        run: from scale and seed to figures by name.
    """

    id: str
    run: Callable[[Scale, int], Mapping[str, Figure]]

    @property
    def seed(self) -> int:
        """The same in every run of the study."""
        return zlib.crc32(self.id.encode())
