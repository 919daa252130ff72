"""Against a server that answers as MLflow does, and against ones that do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from system.errors import RegistryError
from system.serving.registry import Registered, Registry, RegistryAway


async def ask(place: Any, alias: str = "production") -> Registered | None:
    async with Registry(place.settings()) as registry:
        return await registry.resolve(alias)


async def test_an_alias_names_a_version_and_its_checksums(place: Any) -> None:
    place.publish("7")
    place.publish("8", seed=1, challenge=True)
    assert await ask(place) == Registered("7", **place.registry.tags)
    assert await ask(place, "challenger") == Registered("8", **place.registry.challenger_tags)
    assert place.registry.asked == [
        {"name": ["digits-resnet8"], "alias": ["production"]},
        {"name": ["digits-resnet8"], "alias": ["challenger"]},
    ]


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias production not found."}),
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=digits-resnet8 not found"}),
    ],
)
async def test_an_alias_that_is_not_set_is_an_answer(place: Any, status: int, document: dict[str, str]) -> None:
    place.registry.status, place.registry.body = status, json.dumps(document)
    assert await ask(place) is None


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_registry_that_cannot_answer_now_is_away(place: Any, status: int) -> None:
    place.registry.status, place.registry.body = status, ""
    with pytest.raises(RegistryAway, match=f"answers {status}"):
        await ask(place)


async def test_a_registry_that_is_not_there_is_away(place: Any) -> None:
    place.registry.url = "http://127.0.0.1:9"
    with pytest.raises(RegistryAway, match=r"http://127\.0\.0\.1:9 does not answer: ConnectError"):
        await ask(place)


@asynccontextmanager
async def _trickle() -> AsyncIterator[str]:
    """A server that never ends its answer and never pauses long."""
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not (reader.at_eof() or writer.is_closing()):  # it left in order, or by a reset
            writer.write(b" ")
            await asyncio.sleep(0.01)
        writer.close()
        left.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.wait_for(left.wait(), 5)


async def test_a_registry_that_never_ends_its_answer_is_away(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("system.serving.registry._WHOLE_TIMEOUT_S", 0.2)
    async with _trickle() as url:
        place.registry.url = url
        with pytest.raises(RegistryAway, match="does not answer: TimeoutError"):
            await asyncio.wait_for(ask(place), 5)


def _version(**changes: Any) -> str:
    tags = [{"key": "sha256", "value": "0" * 64}, {"key": "manifest_sha256", "value": "f" * 64}]
    return json.dumps({"model_version": {"version": "2", "tags": tags} | changes})


def _tags(**tags: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>", "is not a model version"),
        (200, "[]", "is not a model version"),
        (404, "{}", "answers 404"),
        (401, "", "answers 401"),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "Missing value for required parameter"}', "answers 400"),
        (200, _version(version="../../etc"), "is not a model version"),
        (200, _version(tags=[]), "no checksum in its tag sha256"),
        (200, _version(tags=_tags(sha256="0" * 64)), "no checksum in its tag manifest_sha256"),
        (200, _version(tags=_tags(sha256="0" * 64, manifest_sha256="unknown")), "no checksum in its tag manifest_sha256"),
    ],
)
async def test_what_cannot_be_used_is_no_answer_and_no_absence(place: Any, status: int, body: str, said: str) -> None:
    place.registry.status, place.registry.body = status, body
    with pytest.raises(RegistryError, match=said) as caught:
        await ask(place)
    assert not isinstance(caught.value, RegistryAway)
    place.registry.status, place.registry.body = 200, _version()
    assert await ask(place) == Registered("2", "0" * 64, "f" * 64)
