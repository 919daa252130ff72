"""What can be asked about the model, and who may ask the repository."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

NAME = "digits-resnet8"
ADMIN = {"X-API-Key": "the-admin-key"}


@pytest.fixture
async def client(place: Any, running: Any) -> AsyncIterator[httpx.AsyncClient]:
    place.publish("4")
    keys = json.loads((place.root / "keys.json").read_bytes())
    digest = hashlib.sha256(ADMIN["X-API-Key"].encode()).hexdigest()
    keys["keys"].append({"name": "operator", "sha256": digest, "scopes": ["admin"]})
    (place.root / "keys.json").write_text(json.dumps(keys))
    async with running(place.settings(registry_poll_s=60.0)) as (_, client):
        async with asyncio.timeout(10):
            while (await client.get("/v2/health/ready")).status_code != 200:  # noqa: ASYNC110 - as balancers do
                await asyncio.sleep(0.01)
        yield client


async def test_both_protocols_say_that_the_model_is_there(client: httpx.AsyncClient) -> None:
    answers = {
        path: (await client.get(path)).json()
        for path in (f"/v1/models/{NAME}", f"/v2/models/{NAME}/ready", f"/v2/models/{NAME}/versions/4/ready")
    }
    assert all(answer == {"name": NAME, "ready": True} for answer in answers.values()), answers
    assert (await client.get("/v1/models")).json() == {"models": [NAME]}
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2")).json()["extensions"] == ["binary_tensor_data"]


async def test_the_metadata_is_that_of_the_loaded_model(client: httpx.AsyncClient) -> None:
    found = (await client.get(f"/v2/models/{NAME}")).json()
    assert found["versions"] == ["4"]
    assert {one["name"]: one["shape"] for one in found["inputs"]} == {"image": [-1], "pixels": [-1, 32, 32, 3]}
    assert {one["name"]: one["shape"] for one in found["outputs"]}["probabilities"] == [-1, 10]
    assert (await client.get(f"/v2/models/{NAME}/versions/4")).json() == found


@pytest.mark.parametrize(
    "path", ["/v1/models/other", "/v2/models/other", f"/v2/models/{NAME}/versions/3", "/v2/models/other/ready"]
)
async def test_what_is_not_served_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "model-not-found")
    assert answer.json()["error"] == answer.json()["detail"]


async def test_the_repository_is_for_operators(client: httpx.AsyncClient) -> None:
    for path in ("/v2/repository/index", f"/v2/repository/models/{NAME}/load"):
        refused = await client.post(path)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    found = await client.post("/v2/repository/index", headers=ADMIN, json={"ready": True})
    assert found.json() == [{"name": NAME, "version": "4", "state": "READY", "reason": ""}]


async def test_the_repository_reads_no_body_before_the_key_and_none_beyond_the_limit(client: httpx.AsyncClient) -> None:
    read = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal read
        for read in range(1000):  # noqa: B007 - counts
            yield b" " * 10_000

    refused = await client.post("/v2/repository/index", content=long())
    assert (refused.status_code, read) == (403, 0)
    refused = await client.post("/v2/repository/index", headers=ADMIN, content=long())
    assert (refused.status_code, refused.json()["code"]) == (413, "payload-too-large")
    assert read < 600  # the limit is 5 MB
    for body in (b"x", b"[]", b'{"ready": "yes"}', b'{"other": true}'):
        refused = await client.post("/v2/repository/index", headers=ADMIN, content=body)
        assert (refused.status_code, refused.json()["code"]) == (400, "bad-request")


async def test_a_load_serves_the_version_that_the_alias_names_now(place: Any, client: httpx.AsyncClient) -> None:
    place.publish("5", seed=1)
    loaded = await client.post(f"/v2/repository/models/{NAME}/load", headers=ADMIN)
    assert loaded.json() == [{"name": NAME, "version": "5", "state": "READY", "reason": ""}]
    assert (await client.get("/health/ready")).json()["model_version"] == "5"
    assert (await client.post("/v2/repository/models/other/load", headers=ADMIN)).status_code == 404
