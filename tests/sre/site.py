"""A cluster that is simulated in virtual time, lost and made again, and its users: for tests of the rebuild."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sre.errors import StepFailed
from sre.judges.history import Fate, Row
from sre.load.ledger_file import read
from sre.load.writers import LEDGER_NAME
from sre.readings import LoadPlan
from sre.targets.memory import Behaviour, MemoryTarget
from sre.targets.sites import MemorySite
from tests.sre.cluster import Cluster, Writers

BITS = "3f8000003f000000"


@dataclass(slots=True)
class Manners:
    """How what came back can disappoint its users; the defaults keep every promise.

    Attributes:
        unarchived_s: what was written in the last seconds before the loss is in no archive.
        lost_row: a row that is missing amid those that came back; None for none.
        bits: of the repeated prediction.
        logged: False: the recorded prediction is not in the log that came back.
        writer: False: it never writes.
    """

    unarchived_s: float = 12.0
    lost_row: int | None = None
    bits: str = BITS
    logged: bool = True
    writer: bool = True


class SiteTarget(MemoryTarget):
    """A simulated system that can be lost whole, and its own users; see `drills.rebuild_users.Users`."""

    def __init__(self, manners: Manners | None = None, behaviour: Behaviour | None = None) -> None:
        super().__init__(behaviour)
        self.manners = manners or Manners()
        self.cluster = Cluster(self.clock)
        self.site = _Site(self)
        self._folder, self._lost_at = Path(), math.inf

    def lose(self) -> None:
        self._lost_at = self.clock.wall()
        self.cluster.outages.append((self.clock.now(), math.inf))

    def write(self, run: str, plan: LoadPlan, folder: Path) -> Writers:
        self._folder = folder
        self.cluster.manners.takes = self.manners.writer
        return Writers(self.cluster, run, plan, folder, writers=1)

    def rows(self, run: str) -> list[Row]:
        until = self._lost_at - self.manners.unarchived_s
        acked = [one for one in read(self._folder / LEDGER_NAME) if one.fate is Fate.ACKED and one.sent_wall < until]
        assert all(attempt.key.run == run for attempt in acked)
        return [Row(one.key, one.payload) for one in acked if one.key.seq != self.manners.lost_row]

    def record(self, request_id: str) -> dict[str, Any]:
        assert request_id.startswith("drill-")
        return {"bits": BITS, "variant": "fp32", "input_sha256": "00"}

    def repeat(self, request_id: str) -> dict[str, Any]:
        del request_id
        if self.site.missing():
            raise StepFailed("nobody answers")
        recorded = BITS if self.manners.logged else None
        why = "" if recorded == self.manners.bits else "it has other bits"
        return {"recorded": recorded, "repeated": self.manners.bits, "why": why}


class _Site(MemorySite):
    def __init__(self, target: SiteTarget) -> None:
        super().__init__(target.clock, target.behaviour, target.volumes)
        self._target = target

    def destroy(self) -> None:
        super().destroy()
        if not self.identity():
            self._target.lose()
