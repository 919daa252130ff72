"""The HTTP interface, as the OpenAPI document shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.responses import Response

from system import telemetry
from system.contracts import (
    API_KEY_HEADER,
    ASSIGNMENT_KEY_HEADER,
    FORM_TYPE,
    HEADER_LENGTH_HEADER,
    JSON_TYPE,
    MODEL_VARIANT_HEADER,
    MODEL_VERSION_HEADER,
    PROBLEM_TYPE,
    REQUEST_ID,
    REQUEST_ID_HEADER,
    TENSORS_TYPE,
    TIMEOUT_HEADER,
    TRACE_HEADER,
    Live,
    Prediction,
    Problem,
    Ready,
    V1Request,
    V1Response,
    V2IndexRequest,
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
    429: "The API key sends more requests a second than it may, or too much is waiting; Retry-After says when to try again",
    431: "The header fields are longer than the limit",
    500: "The service failed",
    503: "No model is loaded, or the deadline passed; Retry-After says when to try again",
}
_ANYWHERE = (400, 408, 431, 500)  # what a connection refuses before there is a route, and the unexpected
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
_BODIES: tuple[type[BaseModel], ...] = (Problem, V1Request, V2InferRequest, V2IndexRequest)
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="  # PNG, one black pixel


def _header(description: str, *, required: bool = False, **schema: object) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"} | schema} | ({"required": True} if required else {})


_ANSWER_HEADERS = {
    REQUEST_ID_HEADER: _header("the client's, else one made here", required=True, pattern=f"^{REQUEST_ID.pattern}$"),
    TRACE_HEADER: _header(
        "W3C Trace Context: the request's place in its trace", pattern="^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
    ),
    MODEL_VERSION_HEADER: _header("version of the model that answered, else of the one in production"),
}
_HEADERS_OF = {
    "200": {MODEL_VARIANT_HEADER: _header("variant of the model that answered, as fp32 or int8")},
    "401": {"WWW-Authenticate": _header("the scheme of the API key", required=True, const="ApiKey")},
    "429": {"Retry-After": _header("seconds to wait", required=True, type="integer")},
    "503": {"Retry-After": _header("seconds to wait", required=True, type="integer")},
}
_REQUEST_HEADERS = {
    REQUEST_ID_HEADER: _header(f"an id for the answer and the logs; another one is made where it is not {REQUEST_ID.pattern}"),
    TRACE_HEADER: _header("W3C Trace Context: the sender's place in its trace"),
}
_PREDICT_HEADERS = {
    TIMEOUT_HEADER: _header(
        "milliseconds after which the answer is of no use, 600000 at most: 503 then", type="integer", minimum=1
    ),
    ASSIGNMENT_KEY_HEADER: _header("requests of one key get one model while a challenger takes a share of them"),
}
_V2_HEADERS = {
    HEADER_LENGTH_HEADER: _header("length of the JSON that a binary tensor follows, in bytes", type="integer", minimum=1)
}


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

    exposition: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=exposition)
    async def metrics() -> Response:
        return Response(telemetry.exposition(), media_type=telemetry.EXPOSITION_TYPE)

    app.openapi = lambda: _document(app, service.settings.model_name)  # type: ignore[method-assign]


def _add_predict(app: FastAPI, service: Service) -> None:
    for path in PREDICTING:
        telemetry.expect(path)

    @app.post(
        "/predict",
        response_model=Prediction,
        summary="Classify one image",
        responses=problems(*(status for status in _PROBLEMS if status != 404)),
        openapi_extra={"requestBody": _IMAGE_BODY, "security": SECURED, "parameters": _parameters(_PREDICT_HEADERS)},
    )
    async def predict(request: Request) -> Response:
        return _response(await service.predict(request.receive, Exchange.of(request.scope)))


def _add_inference(app: FastAPI, service: Service) -> None:
    v1_example = {"instances": [{"b64": _DOT}]}
    v1_body = {"required": True, "content": {JSON_TYPE: {"schema": _reference(V1Request), "example": v1_example}}}
    v2_example = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [_DOT]}]}
    v2_body = {
        "required": True,
        "content": {
            JSON_TYPE: {"schema": _reference(V2InferRequest), "example": v2_example},
            TENSORS_TYPE: {"schema": _BINARY},
        },
    }
    v2_extra = {"requestBody": v2_body, "security": SECURED, "parameters": _parameters(_PREDICT_HEADERS | _V2_HEADERS)}

    @app.post(
        "/v1/models/{name}:predict",
        response_model=V1Response,
        summary="V1 protocol: classify images in base64",
        responses=problems(*_PROBLEMS),
        openapi_extra={"requestBody": v1_body, "security": SECURED, "parameters": _parameters(_PREDICT_HEADERS)},
    )
    async def predict_v1(request: Request, name: str) -> Response:
        return _response(await service.predict_v1(request.receive, Exchange.of(request.scope), name))

    tensors: dict[int | str, dict[str, Any]] = {
        200: {"content": {TENSORS_TYPE: {"schema": _BINARY}}, "headers": dict(_V2_HEADERS)}
    }
    v2_responses = problems(*_PROBLEMS) | tensors

    @app.post(
        "/v2/models/{name}/infer",
        response_model=V2InferResponse,
        summary="V2 protocol: classify images or pixels",
        responses=v2_responses,
        openapi_extra=v2_extra,
    )
    async def infer(request: Request, name: str) -> Response:
        return _response(await service.infer_v2(request.receive, Exchange.of(request.scope), name))

    @app.post(
        "/v2/models/{name}/versions/{version}/infer",
        response_model=V2InferResponse,
        summary="V2 protocol: the same, by this version",
        responses=v2_responses,
        openapi_extra=v2_extra,
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


def _parameters(headers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"in": "header", "name": name, **header} for name, header in headers.items()]


def _document(app: FastAPI, model: str) -> dict[str, Any]:
    """The OpenAPI document: what the routes say, plus what they do not know.

    That is the bodies that are read by hand, the shape of an error, the API key, and what holds for every request: its headers,
    and the refusals of a connection.
    """
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = schema["components"]
        for body in _BODIES:
            found = body.model_json_schema(ref_template="#/components/schemas/{model}")
            components["schemas"] |= found.pop("$defs", {}) | {body.__name__: found}
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused)
        components["headers"] = _ANSWER_HEADERS
        components["securitySchemes"] = {"ApiKey": {"type": "apiKey", "in": "header", "name": API_KEY_HEADER}}
        _complete((operation for path in schema["paths"].values() for operation in path.values()), model)
        app.openapi_schema = schema
    return app.openapi_schema


def _complete(operations: Iterable[dict[str, Any]], model: str) -> None:
    everywhere = {name: {"$ref": f"#/components/headers/{name}"} for name in _ANSWER_HEADERS}
    for operation in operations:
        responses = operation["responses"]
        responses.pop("422", None)  # FastAPI announces its own refusal of parameters, which is a 400 here, as every other
        for status, found in problems(*_ANYWHERE).items():
            responses.setdefault(str(status), found)
        for status, response in responses.items():
            response["headers"] = response.get("headers", {}) | everywhere | _HEADERS_OF.get(status, {})
        operation["responses"] = dict(sorted(responses.items()))
        for parameter in operation.get("parameters", []):
            if (parameter["in"], parameter["name"]) == ("path", "name"):
                parameter["example"] = model
        operation["parameters"] = operation.get("parameters", []) + _parameters(_REQUEST_HEADERS)
