"""Do events come one by one, as `sre.measure.shares` takes for granted, or several at once?"""

from __future__ import annotations

from scipy.special import chdtri

from sre.errors import UsageError

_LEAST_EXPECTED = 5.0  # events of the smaller arm in a block
_UNSURE = 0.001
_MOST = 13.0  # of one pair; alone it then shows a dispersion of 1.2 at most


class Dispersion:
    """Running index of dispersion of how events split between two arms: 1 when they come one by one, larger in bursts.

    Intervals are pooled to blocks of enough events of both arms together, and two successive blocks compared: Pearson's
    chi-squared of the 2 x 2 table over its expectation given the margins. So neither swings of traffic nor outages that both
    arms share nor a canary that has become worse since raise it. Bursts of mean size m, geometric, in one arm: about 2 m - 1.

    A sudden change within a pair is the one thing that does, the more so the more events there are. For `at_least` a pair counts
    no more than its 99.97 % point when events come one by one. That only lowers the sum, so the error probability holds; bursts
    show in every pair, a little later.

    Attributes:
        pairs: pairs of blocks so far.
    """

    def __init__(self, *, share: float) -> None:
        """Args: share: the canary's share of what the two arms get together."""
        if not 0.0 < share < 1.0:
            raise UsageError(f"a share of {share:g} leaves one arm empty; it lies strictly between 0 and 1")
        self._least = _LEAST_EXPECTED / min(share, 1.0 - share)
        self.pairs = 0
        self._sum = self._capped = 0.0
        self._open = (0, 0)
        self._before: tuple[int, int] | None = None

    def update(self, canary: int, control: int) -> None:
        """Take the events of one interval."""
        self._open = (self._open[0] + canary, self._open[1] + control)
        if sum(self._open) < self._least:
            return
        block, self._open = self._open, (0, 0)
        if self._before is None:
            self._before = block
            return
        (a, b), (c, d), self._before = self._before, block, None
        n = a + b + c + d
        if (a + c) and (b + d):  # else both blocks agree that one arm has none, which says nothing
            pair = (a * d - b * c) ** 2 * (n - 1) / ((a + b) * (c + d) * (a + c) * (b + d))
            self._sum += pair
            self._capped += min(pair, _MOST)
            self.pairs += 1

    @property
    def index(self) -> float | None:
        """The estimate, a mean over all pairs; None before the first pair."""
        return self._sum / self.pairs if self.pairs else None

    @property
    def at_least(self) -> float:
        """Lower end of its one-sided 99.9 % interval (chi-squared, one degree of freedom a pair); 0.0 before the first pair."""
        return self._capped / float(chdtri(self.pairs, _UNSURE)) if self.pairs else 0.0
