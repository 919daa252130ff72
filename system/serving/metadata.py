"""What can be asked about the model without sending an image: V1 and V2 metadata and health, and V2's model repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from pydantic import ValidationError

from system import __version__
from system.contracts import (
    JSON_TYPE,
    ModelReady,
    V1Models,
    V2Health,
    V2IndexEntry,
    V2IndexRequest,
    V2Model,
    V2Server,
)
from system.errors import RequestRefused
from system.serving import v2
from system.serving.exchange import Exchange
from system.serving.service import Service

Problems = Callable[..., dict[int | str, dict[str, Any]]]
_SECURED: dict[str, Any] = {"security": [{"ApiKey": []}]}


def add(app: FastAPI, service: Service, problems: Problems) -> None:
    """Put the routes onto the application."""
    _add_v1(app, service, problems)
    _add_v2(app, service, problems)
    _add_repository(app, service, problems)


def _add_v1(app: FastAPI, service: Service, problems: Problems) -> None:
    @app.get("/v1/models", summary="V1 protocol: the model's name")
    async def v1_models() -> V1Models:
        return V1Models(models=[service.settings.model_name])

    @app.get("/v1/models/{name}", summary="V1 protocol: is the model ready?", responses=problems(404, 503))
    async def v1_model(name: str) -> ModelReady:
        service.require_ready()
        service.named(name)
        return ModelReady(name=name, ready=True)


def _add_v2(app: FastAPI, service: Service, problems: Problems) -> None:
    @app.get("/v2", summary="V2 protocol: the server")
    async def v2_server() -> V2Server:
        return V2Server(**v2.server_metadata(name="ml-api", version=__version__))

    @app.get("/v2/health/live", summary="V2 protocol: does the process answer?")
    async def v2_live() -> V2Health:
        return V2Health()

    @app.get("/v2/health/ready", summary="V2 protocol: should it get requests?", responses=problems(503))
    async def v2_ready() -> V2Health:
        service.require_ready()
        return V2Health()

    def described(name: str, version: str = "") -> V2Model:
        model = service.named(name, version)
        return V2Model(**v2.model_metadata(model=name, versions=service.versions(), side=model.side, classes=len(model.labels)))

    def is_ready(name: str, version: str = "") -> ModelReady:
        service.require_ready()
        service.named(name, version)
        return ModelReady(name=name, ready=True)

    refusals = problems(404, 503)

    @app.get("/v2/models/{name}", summary="V2 protocol: the model's inputs and outputs", responses=refusals)
    async def v2_model(name: str) -> V2Model:
        return described(name)

    @app.get("/v2/models/{name}/versions/{version}", summary="V2 protocol: the same, of this version", responses=refusals)
    async def v2_version(name: str, version: str) -> V2Model:
        return described(name, version)

    @app.get("/v2/models/{name}/ready", summary="V2 protocol: is the model ready?", responses=refusals)
    async def v2_model_ready(name: str) -> ModelReady:
        return is_ready(name)

    @app.get("/v2/models/{name}/versions/{version}/ready", summary="V2 protocol: is this version ready?", responses=refusals)
    async def v2_version_ready(name: str, version: str) -> ModelReady:
        return is_ready(name, version)


def _add_repository(app: FastAPI, service: Service, problems: Problems) -> None:
    refusals = problems(401, 403, 429)
    body = {"content": {JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{V2IndexRequest.__name__}"}}}}

    @app.post(
        "/v2/repository/index",
        summary="V2 repository: what is loaded",
        responses=refusals | problems(413),
        openapi_extra=_SECURED | {"requestBody": body},
    )
    async def index(request: Request) -> list[V2IndexEntry]:
        exchange = Exchange.of(request.scope)
        service.authorize(exchange, "admin")
        # not by the framework: it would read a body of any length, and before the key was looked at
        sent = await service.reader.read_body(request.receive, exchange.fields.get(b"content-length"))
        try:
            wanted = V2IndexRequest.model_validate_json(sent or b"{}", strict=True)
        except ValidationError:
            raise RequestRefused('the body is not {"ready": true} or {"ready": false}; send one of them, or none') from None
        entries = [V2IndexEntry(**entry) for entry in service.loader.status()]
        return [entry for entry in entries if entry.state == "READY" or not wanted.ready]

    @app.post(
        "/v2/repository/models/{name}/load",
        summary="V2 repository: look at the registry now",
        responses=refusals | problems(404, 503),
        openapi_extra=_SECURED,
    )
    async def load(request: Request, name: str) -> list[V2IndexEntry]:
        """Ask the registry which versions its aliases name, and load what is new. Answers when that is done."""
        service.authorize(Exchange.of(request.scope), "admin")
        service.require_name(name)
        await service.loader.check()
        return [V2IndexEntry(**entry) for entry in service.loader.status()]
