"""From a handle to a target."""

from __future__ import annotations

from pathlib import Path

import pytest

from sre.errors import TargetUnavailable, UsageError
from sre.targets import handles


@pytest.mark.parametrize("handle", ["", "memory", "elsewhere:/srv", "kubernetes-2:/srv"])
def test_a_handle_of_no_known_kind_is_a_wrong_request(handle: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"target handle {handle} is not known; there are local:HOME and kubernetes:HOME"):
        handles.attach(handle, tmp_path)


def test_each_kind_is_looked_for_in_its_own_place(tmp_path: Path) -> None:
    with pytest.raises(TargetUnavailable, match=f"no system runs in {tmp_path}"):
        handles.attach(f"local:{tmp_path}", tmp_path)
    with pytest.raises(TargetUnavailable, match=f"no system on a cluster was begun from {tmp_path}"):
        handles.attach(f"kubernetes:{tmp_path}", tmp_path)
