from __future__ import annotations

import os
import threading

from system.serving.priority import give_way


def test_a_thread_gives_way_alone() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found: list[int] = []

    def work() -> None:
        for _ in range(3):  # and never leaves the range that the kernel knows
            give_way()
            found.append(os.getpriority(os.PRIO_PROCESS, 0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [min(19, before + 10), 19, 19]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
