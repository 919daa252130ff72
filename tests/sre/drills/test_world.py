from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sre.drills.world import World
from sre.readings import Endpoints


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Observers of a place where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "api-key").write_text("key", encoding="utf-8")
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies" / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "bodies" / "one.png").write_bytes(b"image")
    endpoints = Endpoints(
        ingress=url, ca_file=tmp_path / "ca.pem", api_key_file=tmp_path / "api-key", prometheus=url, alertmanager=url, mlflow=url,
        database="", passfile=tmp_path / "passfile", bodies=tmp_path / "bodies",
    )  # fmt: skip
    return World(endpoints, scrape_s=2.0, resend_s=10.0)


def test_counters_settle_after_two_scrapes(world: World) -> None:
    assert world.settle_s == 4.0
    assert world.resend_s == 10.0


def test_nobody_who_answers_is_told_apart_from_an_answer(world: World) -> None:
    status, seen = world.user_probe()
    assert status == 0
    assert seen.startswith("ConnectError")
    assert world.alerts() is None
