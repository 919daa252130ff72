"""The HTTP interface, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.responses import Response

from system import telemetry
from system.contracts import (
    API_KEY_HEADER,
    FORM_TYPE,
    JSON_TYPE,
    PROBLEM_TYPE,
    TENSORS_TYPE,
    Live,
    Prediction,
    Problem,
    Ready,
    V1Request,
    V1Response,
    V2InferRequest,
    V2InferResponse,
)
from system.model.transform import MEDIA_TYPES
from system.serving import metadata
from system.serving.exchange import Exchange
from system.serving.service import Reply, Service

_PROBLEMS = {
    400: "The request is malformed: not an image, cut short, too many pixels, a wrong form, JSON or tensor, or a wrong header",
    401: "No API key, one that is not known, or one that has expired",
    403: "The API key lacks the scope",
    404: "The model or its version is not served here",
    408: "The body did not arrive in time",
    413: "The body is longer than the limit",
    415: "The media type or the encoding is not supported",
    429: "The API key sends more requests a second than it may; Retry-After says when to try again",
    500: "The service failed",
    503: "No model is loaded, too much is in flight, or the deadline passed; Retry-After says when to try again",
}
_BINARY = {"type": "string", "format": "binary"}
_FORM = {"schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}}
_IMAGE_BODY = {
    "required": True,
    "content": {**{media_type: {"schema": _BINARY} for media_type in MEDIA_TYPES}, FORM_TYPE: _FORM},
}
PREDICTING = (
    "/predict",
    "/v1/models/{name}:predict",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
)
SECURED: list[dict[str, list[str]]] = [{"ApiKey": []}]
_BODIES: tuple[type[BaseModel], ...] = (Problem, V1Request, V2InferRequest)


def add(app: FastAPI, service: Service) -> None:
    """Put the routes, answered by `service`, onto the application itself: an included router costs each request a second pass."""
    _add_predict(app, service)
    _add_inference(app, service)
    metadata.add(app, service, problems)

    @app.get("/health/live", summary="Does the process answer?")
    async def live() -> Live:
        return Live()

    @app.get("/health/ready", summary="Should it get requests?", responses=problems(503))
    async def ready() -> Ready:
        return Ready(replica=service.settings.replica, model_version=service.require_ready().version)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(telemetry.exposition(), media_type=telemetry.EXPOSITION_TYPE)

    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _add_predict(app: FastAPI, service: Service) -> None:
    for path in PREDICTING:
        telemetry.expect(path)

    @app.post(
        "/predict",
        response_model=Prediction,
        summary="Classify one image",
        responses=problems(*(status for status in _PROBLEMS if status != 404)),
        openapi_extra={"requestBody": _IMAGE_BODY, "security": SECURED},
    )
    async def predict(request: Request) -> Response:
        return _response(await service.predict(request.receive, Exchange.of(request.scope)))


def _add_inference(app: FastAPI, service: Service) -> None:
    v1_body = {"required": True, "content": {JSON_TYPE: {"schema": _reference(V1Request)}}}
    v2_body = {
        "required": True,
        "content": {JSON_TYPE: {"schema": _reference(V2InferRequest)}, TENSORS_TYPE: {"schema": _BINARY}},
    }

    @app.post(
        "/v1/models/{name}:predict",
        response_model=V1Response,
        summary="V1 protocol: classify images in base64",
        responses=problems(*_PROBLEMS),
        openapi_extra={"requestBody": v1_body, "security": SECURED},
    )
    async def predict_v1(request: Request, name: str) -> Response:
        return _response(await service.predict_v1(request.receive, Exchange.of(request.scope), name))

    tensors: dict[int | str, dict[str, Any]] = {200: {"content": {TENSORS_TYPE: {"schema": _BINARY}}}}
    v2_responses = problems(*_PROBLEMS) | tensors

    @app.post(
        "/v2/models/{name}/infer",
        response_model=V2InferResponse,
        summary="V2 protocol: classify images or pixels",
        responses=v2_responses,
        openapi_extra={"requestBody": v2_body, "security": SECURED},
    )
    async def infer(request: Request, name: str) -> Response:
        return _response(await service.infer_v2(request.receive, Exchange.of(request.scope), name))

    @app.post(
        "/v2/models/{name}/versions/{version}/infer",
        response_model=V2InferResponse,
        summary="V2 protocol: the same, by this version",
        responses=v2_responses,
        openapi_extra={"requestBody": v2_body, "security": SECURED},
    )
    async def infer_version(request: Request, name: str, version: str) -> Response:
        return _response(await service.infer_v2(request.receive, Exchange.of(request.scope), name, version))


def _response(reply: Reply) -> Response:
    return Response(reply.body, headers={name.decode(): value.decode() for name, value in reply.headers})


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the document says of the errors of a route."""
    return {
        status: {"description": _PROBLEMS[status], "content": {PROBLEM_TYPE: {"schema": _reference(Problem)}}}
        for status in statuses
    }


def _reference(schema: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema.__name__}"}


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: what the routes say, plus the bodies that are read by hand, the shape of an error and the API key."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema["components"]
        for body in _BODIES:
            found = body.model_json_schema(ref_template="#/components/schemas/{model}")
            components["schemas"] |= found.pop("$defs", {}) | {body.__name__: found}
        components["securitySchemes"] = {"ApiKey": {"type": "apiKey", "in": "header", "name": API_KEY_HEADER}}
        app.openapi_schema = schema
    return app.openapi_schema
