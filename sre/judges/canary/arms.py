"""The canary's events against its control's: evidence over all stages that it is worse, and that it is fine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sre.judges.canary.needed import events_needed
from sre.judges.canary.rules import MetricRule, Model
from sre.measure.dispersion import Dispersion
from sre.measure.evidence import Restarting
from sre.measure.exchangeable import Exchangeable
from sre.measure.shares import Shares, log_e_proportion_below

Floats = npt.NDArray[np.float64]

UNSEEN_BURST = 5.0  # how many events are taken to come at once while too few were seen to tell
FEW = 20  # events of both arms
PRIOR_WORSE = 1.0  # events; a bad canary is often many times worse, and in the tail of a histogram its control has next to none
MOST_DISPERSED = 1.5  # of events that are taken to come one by one


class Arms:
    """Two arms side by side in several tests (edges, classes), over the stages of a rollout.

    Evidence that the canary is worse is a mixture of restarts, so that what goes wrong late is found as well. Evidence that it is
    fine is the product over stages, but no more than this stage's own factor while that one speaks against the canary: what an
    earlier stage showed cannot outvote this one.

    Args:
        rule: of the metric.
        tests: how many there are.
    """

    def __init__(self, rule: MetricRule, tests: int) -> None:
        self._rule = rule
        self._share = 0.5
        self._carried = np.zeros(tests)
        self._n = np.zeros(tests)
        self._fine = self._begin_fine()
        self._worse = Restarting(self._begin_worse)
        self._begun = False
        self._dispersions: list[Dispersion] = []

    def begin(self, share: float) -> None:
        """Begin a stage in which the canary gets `share` of what the two arms get together."""
        self._carried = self._carried + self._fine.log_e_fine
        self._share = share
        self._fine = self._begin_fine()
        if self._begun:
            self._worse.stage(self._begin_worse)
        else:
            self._worse = Restarting(self._begin_worse)
        self._begun = True
        if self._rule.model is Model.INDEPENDENT:
            self._dispersions = [Dispersion(share=share) for _ in self._n]

    def update(self, canary: Floats, control: Floats) -> None:
        """Take the events of each arm since the look before, shape (tests,)."""
        self._worse.update(canary, control)
        self._fine.update(canary, control)
        self._n = self._n + canary + control
        for one, of_canary, of_control in zip(self._dispersions, canary, control, strict=False):  # none when bursts are expected
            one.update(int(of_canary), int(of_control))

    @property
    def n(self) -> Floats:
        """Events of both arms in all stages, shape (tests,)."""
        return self._n

    @property
    def log_e(self) -> Floats:
        """Evidence that the canary is worse than a rollback must prove, shape (tests,)."""
        return np.broadcast_to(self._worse.log_e, self._n.shape)

    @property
    def log_e_fine(self) -> Floats:
        """Evidence that the canary is within its margin, shape (tests,)."""
        return held_back(self._carried, self._fine.log_e_fine)

    @property
    def burst(self) -> Floats:
        """How many events come at once, as far as this stage shows, shape (tests,); 1 where they are to come one by one."""
        if not isinstance(self._fine, Exchangeable):
            return np.ones_like(self._n)
        seen = np.broadcast_to(self._fine.dispersion, self._n.shape)
        return np.where(self._n < FEW, np.maximum(seen, UNSEEN_BURST), seen)

    def dispersion(self, test: int) -> float | None:
        """Variance over mean of one test's events per look, as this stage shows it; None while unknown."""
        if self._rule.model is Model.INDEPENDENT:
            return self._dispersions[test].index
        return float(self.burst[test]) if self._n[test] >= FEW else None

    def doubt(self) -> str | None:
        """Why this evidence must not be used: events that were to come one by one do not. None when nothing says so."""
        for one in self._dispersions:
            if one.index is not None and one.index > MOST_DISPERSED and one.at_least > MOST_DISPERSED:
                return (
                    f"{self._rule.name}: events come in bursts (dispersion {one.index:.1f}, surely above {one.at_least:.1f}),"
                    " but are judged as if they came one by one; set `model: bursty`"
                )
        return None

    def progress(self, test: int, beta: float) -> str:
        """How far the evidence of one test is, in events of both arms."""
        about = events_needed(self._rule.margin, self._share, beta) * self.burst[test]
        return f"{self._n[test]:,.0f} of about {about:,.0f} events that show a margin of {1 + self._rule.margin:g}x"

    def _begin_worse(self) -> Shares | Exchangeable:
        if self._rule.model is Model.BURSTY:
            return Exchangeable()
        return Shares(share=self._share, margin=self._rule.rollback_margin, prior=PRIOR_WORSE)

    def _begin_fine(self) -> Shares | Exchangeable:
        if self._rule.model is Model.BURSTY:
            return Exchangeable(margin=self._rule.margin)
        return Shares(share=self._share, margin=self._rule.margin)


class Below:
    """Evidence that the share of the canary's bad requests is below a bound, over the stages of a rollout.

    Args:
        at_most: the bound.
    """

    def __init__(self, at_most: float) -> None:
        self._at_most = at_most
        self._bad = self._all = self._carried = self._own = 0.0

    def begin(self) -> None:
        """Begin a stage."""
        self._carried += self._own
        self._bad = self._all = self._own = 0.0

    def update(self, bad: float, of: float, burst: float) -> None:
        """Take what the canary answered since the look before; `burst` bad requests that come at once count as one."""
        self._bad += bad
        self._all += of
        self._own = float(log_e_proportion_below(self._bad / burst, self._all / burst, at_most=self._at_most))

    @property
    def log_e_fine(self) -> float:
        """See the class."""
        return float(held_back(self._carried, self._own))


def held_back(carried: npt.ArrayLike, own: npt.ArrayLike) -> Floats:
    """Evidence of earlier stages times this stage's factor, or the latter alone while it speaks against the canary."""
    before, now = np.asarray(carried, dtype=np.float64), np.asarray(own, dtype=np.float64)
    return np.where(now < 0.0, np.minimum(before + now, now), before + now)
