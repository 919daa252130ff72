"""What MLflow's registry says about an alias: the version that it names, and the checksums that vouch for its files."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from system.config import ServeSettings
from system.errors import RegistryError

_PATH = "/api/2.0/mlflow/registered-models/alias"
_STEP_TIMEOUT_S = 3.0
_WHOLE_TIMEOUT_S = 6.0  # a registry that sends byte by byte never misses the deadline of a single read
_NOT_SET = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}  # MLflow's codes: no such alias, no such model
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RegistryAway(RegistryError):
    """The registry does not answer, or says that it cannot."""


class Registered(NamedTuple):
    """One version, and what the registry vouches for: `model.onnx`, and the manifest that vouches for every other file."""

    version: str
    sha256: str
    manifest_sha256: str


class Registry:
    """Asks over one connection that stays open; leave the context to close it."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(base_url=settings.mlflow_url, timeout=_STEP_TIMEOUT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.aclose()

    async def resolve(self, alias: str) -> Registered | None:
        """The version that the alias names; None when the registry says that there is no such alias or model.

        Raises:
            RegistryAway: no answer, or one that says to come back later.
            RegistryError: an answer that cannot be used.
        """
        url, name = self._settings.mlflow_url, self._settings.model_name
        try:
            async with asyncio.timeout(_WHOLE_TIMEOUT_S):
                response = await self._client.get(_PATH, params={"name": name, "alias": alias})
        except (httpx.TransportError, TimeoutError) as error:
            raise RegistryAway(f"the registry at {url} does not answer: {error!r}; check ML_MLFLOW_URL and the server") from error
        if response.status_code == 429 or response.status_code >= 500:
            raise RegistryAway(f"the registry at {url} answers {response.status_code}; look at its log")
        try:
            document = response.json()
            if response.status_code != 200 and document["error_code"] in _NOT_SET and "not found" in document["message"]:
                return None
            return _registered(document["model_version"], name)
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"the registry at {url} answers {response.status_code} for {alias} of {name}, and that is not a model version: "
                f"{error!r}; check ML_MLFLOW_URL"
            ) from error


def _registered(found: Any, name: str) -> Registered:
    version = str(int(found["version"]))
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
    for tag in ("sha256", "manifest_sha256"):
        if not _SHA256.fullmatch(tags.get(tag, "")):
            raise RegistryError(
                f"version {version} of {name} has no checksum in its tag {tag}, so it cannot be verified; register it again"
            )
    return Registered(version, tags["sha256"], tags["manifest_sha256"])
