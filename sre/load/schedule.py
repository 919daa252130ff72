"""When requests leave: an open schedule, fixed by its seed and not by the answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def arrivals(rate: float, seconds: float, seed: int) -> npt.NDArray[np.float64]:
    """Poisson arrival times, ascending, in s from zero and all below `seconds`; float64 of shape (arrivals,).

    Given their number, the arrivals of a Poisson process are independent and uniform over the span.
    """
    generator = np.random.default_rng(seed)
    times: npt.NDArray[np.float64] = np.sort(generator.uniform(0.0, seconds, size=generator.poisson(rate * seconds)))
    return times
