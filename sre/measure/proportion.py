"""How often something can happen at most, when it was seen a few times or never."""

from __future__ import annotations

from scipy.stats import binomtest


def at_most(found: int, n: int) -> float:
    """Upper end of the one-sided 95 % interval of a proportion (Clopper and Pearson 1934); 1.0 when nothing was tried.

    With none found it is 1 - 0.05^(1/n), about 3/n: 300 schedules without a loss show that fewer than 1 % lose. Of what
    happened every time, `1 - at_most(0, n)` is the least: 59 recoveries within their bound show at least 95 %.

    Args:
        found: how often it was seen.
        n: how often it could have been.
    """
    return float(binomtest(found, n, alternative="less").proportion_ci(confidence_level=0.95, method="exact").high) if n else 1.0
