"""Is traffic split as planned? Where it is not, counts of the two arms cannot be compared."""

from __future__ import annotations

import math

from sre.measure.shares import log_e_shares


class Split:
    """The test of the sample ratio (canary-slo.md 1.6), over the stages of a rollout.

    Args:
        alpha: probability at most of ever calling a right split wrong.
    """

    def __init__(self, alpha: float) -> None:
        self._at = math.log(1.0 / alpha)
        self._canary = self._control = 0
        self._share, self._carried = 0.5, 0.0

    def begin(self, share: float) -> None:
        """Begin a stage in which the canary gets `share` of what the two arms get together."""
        self._carried = self.log_e
        self._canary = self._control = 0
        self._share = share

    def update(self, canary: int, control: int) -> None:
        """Take the requests of each arm since the look before."""
        self._canary += canary
        self._control += control

    @property
    def log_e(self) -> float:
        """Evidence that traffic is split otherwise than planned."""
        own = log_e_shares([self._canary, self._control], [self._share, 1.0 - self._share])
        return self._carried + float(own)

    @property
    def wrong(self) -> bool:
        """Whether the split has been shown to be wrong."""
        return self.log_e >= self._at

    @property
    def favours_canary(self) -> bool:
        """Whether it is wrong and the canary gets too much, which makes the canary look worse than it is.

        One that gets too little, since what it fails is asked again of others, looks better than it is; evidence against it
        still counts.
        """
        return self.wrong and self._canary >= self._share * (self._canary + self._control)

    @property
    def findings(self) -> tuple[str, ...]:
        """A sentence when it is wrong."""
        if not self.wrong:
            return ()
        total = max(self._canary + self._control, 1)
        found, planned = (f"{share:.1%}:{1.0 - share:.1%}" for share in (self._canary / total, self._share))
        return (f"traffic is split {found} (canary:control, {total:,} requests), planned {planned}; look at router and retries",)
