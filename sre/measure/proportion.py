"""What a few trials show: how often something can happen at most, and between which of its values the median lies."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binom, binomtest


def at_most(found: int, n: int) -> float:
    """Upper end of the one-sided 95 % interval of a proportion (Clopper and Pearson 1934); 1.0 when nothing was tried.

    With none found it is 1 - 0.05^(1/n), about 3/n: 300 schedules without a loss show that fewer than 1 % lose. Of what
    happened every time, `1 - at_most(0, n)` is the least: 59 recoveries within their bound show at least 95 %.

    Args:
        found: how often it was seen.
        n: how often it could have been.
    """
    return float(binomtest(found, n, alternative="less").proportion_ci(confidence_level=0.95, method="exact").high) if n else 1.0


def median_interval(ordered: Sequence[float]) -> tuple[float, float] | None:
    """At least 95 % of the median, from the order of the values alone; None of fewer than six.

    It lies between two values of the same rank from either end unless too few are on one side of it: as many heads of fair coins.

    Args:
        ordered: values, ascending; infinite ones too.
    """
    rank = int(binom.ppf(0.025, len(ordered), 0.5)) if ordered else 0
    return (ordered[rank - 1], ordered[-rank]) if rank else None
