"""Putting evidence together: over metrics, over stages, and over the moments at which something may have gone wrong.

All in natural logarithms. A weighted mean of e-values is one whatever their dependence (Vovk and Wang 2021, arXiv 1912.06116);
what follows a stopping time multiplies what came before it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from sre.measure.shares import Shares

Floats = npt.NDArray[np.float64]

_WIDE = 256  # tests; from here on an array of one process is large enough, and one of all would only take memory


class Evidence(Protocol):
    """A running e-process over what two arms show. Arrays stand for tests side by side."""

    def update(self, canary: npt.ArrayLike, control: npt.ArrayLike, /) -> None:
        """Take what each arm showed since the look before."""
        ...

    @property
    def log_e(self) -> Floats:
        """Evidence so far; 0 at the beginning."""
        ...


def log_mean(log_es: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, axis: int = -1) -> Floats:
    """The weighted mean of e-values, valid under any dependence.

    Args:
        log_es: logarithms of the e-values.
        weights: not negative, any scale, as many as there are along `axis`; equal when None.
        axis: along which the mean is taken.

    Returns:
        The logarithm of the mean, without `axis`.
    """
    logs = np.moveaxis(np.asarray(log_es, dtype=np.float64), axis, -1)
    shares = np.ones(logs.shape[-1]) if weights is None else np.asarray(weights, dtype=np.float64)
    return np.asarray(logsumexp(logs, axis=-1, b=shares / shares.sum()))


@dataclass(slots=True)
class _Bet:
    """One process and the logarithm of what was staked on it; `until` is the look after which it is closed, None for never."""

    stake: Floats
    process: Evidence
    until: int | None


class Restarting:
    """A mixture of one process begun again and again, so that long healthy time does not blunt what is seen later.

    At the beginning of a stage half of what is not staked goes to a process that lasts to its end. The other half is for
    processes that begin at look k = (2i + 1) 2^j of the stage and last 2^(j + 2) looks (geometric covering, Daniely, Gonen and
    Shalev-Shwartz 2015, arXiv 1502.07073): whenever a change comes, one begins soon after it and lasts long enough. What is
    not staked counts 1, and what a closed process was worth is kept, so the sum is an e-process. After a change of stage every
    open process goes on as the new stage's first, which is the product over stages. With n looks it holds 4 log2(n) processes.
    """

    def __init__(self, begin: Callable[[], Evidence]) -> None:
        """Args: begin: makes a new process of the first stage."""
        self._idle: Floats = np.zeros(())  # for this stage's processes, staked or not
        self._closed: Floats = np.asarray(-np.inf)
        self._staked = 0.0  # share of `_idle`
        self._bets: list[_Bet] = []
        self.stage(begin)

    def stage(self, begin: Callable[[], Evidence]) -> None:
        """Begin a stage, whose processes `begin` makes."""
        idle = self._idle + math.log1p(-self._staked) - math.log(2.0)
        carried = functools.reduce(np.logaddexp, _worth(self._bets), idle)
        self._bets = [_Bet(np.asarray(carried), begin(), None)]
        self._begin = begin
        self._idle = np.logaddexp(idle, self._closed)
        self._closed = np.asarray(-np.inf)
        self._staked, self._looks = 0.0, 0

    def update(self, canary: npt.ArrayLike, control: npt.ArrayLike, /) -> None:
        """Take one look's counts, then close and begin what is due."""
        for bet in self._bets:
            bet.process.update(canary, control)
        self._looks += 1
        due = [bet for bet in self._bets if bet.until == self._looks]
        self._closed = functools.reduce(np.logaddexp, _worth(due), self._closed)
        self._bets = [bet for bet in self._bets if bet.until != self._looks]
        weight, lasts = _place(self._looks)
        self._bets.append(_Bet(self._idle + math.log(weight), self._begin(), self._looks + lasts))
        self._staked += weight

    @property
    def log_e(self) -> Floats:
        """Of the whole mixture."""
        rest = np.logaddexp(self._idle + math.log1p(-self._staked), self._closed)
        return np.asarray(functools.reduce(np.logaddexp, _worth(self._bets), rest))


def _worth(bets: list[_Bet]) -> list[Floats]:
    """Logarithm of what each bet is worth now. They are bets of one stage, so all `Shares` among them have the same null."""
    shares = [bet.process for bet in bets if isinstance(bet.process, Shares)]
    if shares and len(shares) == len(bets) and np.size(shares[0].s) < _WIDE:
        log_es: Iterable[Floats] = Shares.log_e_each(shares)
    else:
        log_es = (bet.process.log_e for bet in bets)
    return [bet.stake + log_e for bet, log_e in zip(bets, log_es, strict=True)]


def _place(look: int) -> tuple[float, int]:
    """Share of the stake for the process that begins at this look, and how many looks it lasts. All shares sum to 1."""
    level = (look & -look).bit_length() - 1
    index = look >> (level + 1)
    by_level = 1.0 / ((level + 1) * (level + 2))
    by_index = 1.0 / math.log2(index + 2) - 1.0 / math.log2(index + 3)
    return by_level * by_index, 4 << level
