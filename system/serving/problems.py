"""Every error as one `application/problem+json` shape."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from system.contracts import PROBLEM_TYPE
from system.errors import MlSystemError, RequestRefused, Unauthorized, Unavailable
from system.serving.exchange import Exchange

_RETRY_AFTER_S = 1
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# A 500 says no more than this; what happened stands in the log under the request's id.
INTERNAL = "the service failed; try again, and report the request_id if it persists"


def problem(exchange: Exchange, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response of one error."""
    exchange.code = code
    # written by hand: under overload refusals come by the thousand, and a model's validation would cost more than all else of one
    document = {
        "type": f"urn:ml-system:problem:{code}",
        "title": _PHRASES[status],
        "status": status,
        "detail": detail,
        "error": detail,
        "code": code,
        "request_id": exchange.request_id,
    }
    return Response(orjson.dumps(document), status, headers, media_type=PROBLEM_TYPE)


def refused(exchange: Exchange, error: MlSystemError) -> Response:
    """An error whose message is meant for the client: RequestRefused and Unavailable."""
    headers = {}
    if error.retryable:
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "ApiKey"
    return problem(exchange, error.status, error.code, str(error), headers)


def install(app: FastAPI) -> None:
    """Answer what the framework itself refuses in the same shape. Anything else that is raised ends as a 500 in `observer.py`."""

    async def on_refused(request: Request, error: MlSystemError) -> Response:
        return refused(Exchange.of(request.scope), error)

    async def on_http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "-")
        return problem(
            Exchange.of(request.scope), status, code, f"{request.method} {request.url.path}: {status.phrase}", error.headers
        )

    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        return problem(Exchange.of(request.scope), 400, RequestRefused.code, wrong)

    # the framework passes only the class that it was told, which its own annotation cannot say
    app.add_exception_handler(RequestRefused, on_refused)  # type: ignore[arg-type]
    app.add_exception_handler(Unavailable, on_refused)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, on_http)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, on_invalid)  # type: ignore[arg-type]
