"""Throughput of looks: the gate's evidence look by look and over arrays, and two special function calls a look as others do.

python -m tests.bench.canary_looks --looks 1000000
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Annotated

import numpy as np
import typer
from scipy.special import betainc, betaln

from sre.measure.shares import Shares, log_e_above

_SHARE, _PRIOR = 0.5, 10.0
_HALF = _PRIOR * _SHARE
_BEFORE = float(betaln(_HALF, _HALF) + np.log(betainc(_HALF, _HALF, 1.0 - _SHARE)))  # without events


def naive(s: int, f: int) -> float:
    """The same evidence by two calls of scipy, which underflow where the streaming functions do not."""
    tail = np.log(betainc(_HALF + f, _HALF + s, 1.0 - _SHARE))
    return float(betaln(_HALF + s, _HALF + f) + tail - s * np.log(_SHARE) - f * np.log(1.0 - _SHARE) - _BEFORE)


def streamed(canary: Iterable[int], control: Iterable[int]) -> float:
    """The evidence after a look at each pair of counts; it is asked for at every look."""
    evidence, log_e = Shares(share=_SHARE, prior=_PRIOR), 0.0
    for s, f in zip(canary, control, strict=True):
        evidence.update(s, f)
        log_e = float(evidence.log_e)
    return log_e


def called(canary: Iterable[int], control: Iterable[int]) -> float:
    """As `streamed`, by `naive`."""
    s = f = 0
    log_e = 0.0
    for more_s, more_f in zip(canary, control, strict=True):
        s, f = s + more_s, f + more_f
        log_e = naive(s, f)
    return log_e


def _timed(run: Callable[[], object]) -> float:
    began = time.process_time()  # another process on the same machine must not count
    run()
    return time.process_time() - began


def main(looks: Annotated[int, typer.Option(help="How many.", min=1000)] = 1_000_000) -> None:
    """Print looks a second of each way, and how many times as many as by two scipy calls a look."""
    counts = np.random.default_rng(1).integers(0, 2, (2, looks))
    canary, control = counts.tolist()
    s, f = counts.cumsum(axis=1)
    ways = {
        "two scipy calls per look": _timed(lambda: called(canary, control)),
        "our stream, look by look": _timed(lambda: streamed(canary, control)),
        "our functions over arrays": _timed(lambda: log_e_above(s, f, share=_SHARE, prior=_PRIOR)),
    }
    slowest = ways["two scipy calls per look"]
    for name, seconds in ways.items():
        typer.echo(f"{name:<28}{looks / seconds:>14,.0f} looks/s{slowest / seconds:>10.2f} x")
    typer.echo(f"{looks:,} looks; Python {platform.python_version()}, numpy {version('numpy')}, scipy {version('scipy')}")


if __name__ == "__main__":
    typer.run(main)
