"""The HTTP interface, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from system import telemetry
from system.contracts import API_KEY_HEADER, FORM_TYPE, PROBLEM_TYPE, Live, Prediction, Problem, Ready
from system.model.transform import JPEG, PNG
from system.serving.exchange import Exchange
from system.serving.service import Service

_PROBLEMS = {
    400: "Not an image, cut short, too many pixels, or a malformed form",
    401: "No API key, or one that is not known",
    413: "The body is longer than the limit",
    415: "The content type is not supported",
    500: "The service failed",
    503: "No verified model is loaded, or the replica is shutting down; Retry-After says when to try again",
}
_BINARY = {"type": "string", "format": "binary"}
_IMAGE_BODY = {
    "required": True,
    "content": {
        JPEG: {"schema": _BINARY},
        PNG: {"schema": _BINARY},
        FORM_TYPE: {"schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}},
    },
}


def add(app: FastAPI, service: Service) -> None:
    """Put the routes, answered by `service`, onto the application itself: an included router costs each request a second pass."""

    @app.post(
        "/predict",
        response_model=Prediction,
        summary="Classify one image",
        responses=_problems(*_PROBLEMS),
        openapi_extra={"requestBody": _IMAGE_BODY, "security": [{"ApiKey": []}]},
    )
    async def predict(request: Request) -> Response:
        body = await service.predict(request.headers, request.receive, Exchange.of(request.scope))
        return Response(body, media_type="application/json")

    @app.get("/health/live", summary="Does the process answer?")
    async def live() -> Live:
        return Live()

    @app.get("/health/ready", summary="Should it get requests?", responses=_problems(503))
    async def ready() -> Ready:
        return Ready(replica=service.settings.replica, model_version=service.require_ready().version)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(telemetry.exposition(), media_type=telemetry.EXPOSITION_TYPE)

    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": _PROBLEMS[status], "content": {PROBLEM_TYPE: schema}} for status in statuses}


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: what the routes say, plus the shape of an error and the API key."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema["components"]
        components["schemas"]["Problem"] = Problem.model_json_schema()
        components["securitySchemes"] = {"ApiKey": {"type": "apiKey", "in": "header", "name": API_KEY_HEADER}}
        app.openapi_schema = schema
    return app.openapi_schema
