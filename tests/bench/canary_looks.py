"""Throughput of looks: the gate's evidence over arrays, one look at a time, and one special function call per look as others do.

python -m tests.bench.canary_looks --looks 1000000
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import numpy as np
import typer
from scipy.special import betainc, betaln

from sre.measure.shares import Shares, log_e_above

_SHARE, _PRIOR = 0.5, 10.0


def naive(s: int, f: int) -> float:
    """The same evidence by two calls of scipy, which underflow where the streaming functions do not."""
    a = b = _PRIOR * _SHARE
    tail = np.log(betainc(b + f, a + s, 1.0 - _SHARE)) - np.log(betainc(b, a, 1.0 - _SHARE))
    whole = betaln(a + s, b + f) - betaln(a, b)
    return float(whole + tail - s * np.log(_SHARE) - f * np.log(1.0 - _SHARE))


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main(looks: Annotated[int, typer.Option(help="How many.", min=1000)] = 1_000_000) -> None:
    """Print looks a second of each way, as a ratio too; what is slow is timed on a hundredth of the looks."""
    rng = np.random.default_rng(1)
    s, f = rng.integers(0, 2, (2, looks)).cumsum(axis=1)
    few = looks // 100

    def stream() -> None:
        evidence = Shares(share=_SHARE)
        for one, other in zip(np.diff(s[: few + 1]), np.diff(f[: few + 1]), strict=True):
            evidence.update(one, other)
            _ = evidence.log_e

    def called() -> None:
        for one, other in zip(s[:few], f[:few], strict=True):
            naive(int(one), int(other))

    ways = {
        "one scipy call per look": _timed(called) / few,
        "our stream, look by look": _timed(stream) / few,
        "our functions over arrays": _timed(lambda: log_e_above(s, f, share=_SHARE)) / looks,
    }
    slowest = ways["one scipy call per look"]
    for name, seconds in ways.items():
        typer.echo(f"{name:<28}{1 / seconds:>14,.0f} looks/s{slowest / seconds:>10.2f} x")
    typer.echo(f"{looks:,} looks; Python {platform.python_version()}, numpy {version('numpy')}, scipy {version('scipy')}")


if __name__ == "__main__":
    typer.run(main)
