"""Threads that work beside the requests and must not take the processor from them."""

from __future__ import annotations

import os
from contextlib import suppress

_NICER = 10  # a tenth of the weight of a thread that answers requests: it yields to them, and still finishes under full load


def give_way() -> None:
    """Lower the priority of the calling thread alone, for good: without privileges it cannot be raised again."""
    with suppress(OSError):  # some sandboxes allow no priorities
        os.setpriority(os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, 0) + _NICER))
