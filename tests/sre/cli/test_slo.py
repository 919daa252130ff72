from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[[subprocess.CompletedProcess[str], str], dict[str, Any]]
Code = Callable[[Callable[[], None]], int]


@pytest.mark.local
def test_slo_of_the_real_system(on_system: Run, document: Document) -> None:
    done = on_system("slo", "--json", "--window", "30m")
    found = document(done, "sre.slo/1")
    assert found["window"] == "30m"
    assert [row["objective"] for row in found["objectives"]] == ["availability", "latency-p95", "replicas"]
    outcomes = {row["outcome"] for row in found["objectives"]}
    assert done.returncode == (1 if "BROKEN" in outcomes else 3 if "INCONCLUSIVE" in outcomes else 0)
    assert "budget left" in on_system("slo").stdout
