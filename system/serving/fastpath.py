"""The hot path: what nearly every request asks for is answered in front of the framework's routing.

Routing costs more than decoding a small image. This calls the functions that the routes call, and a test holds both ways to the
same answers.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from system.contracts import HEADER_LENGTH_HEADER
from system.errors import RequestRefused, Unavailable
from system.model.transform import MEDIA_TYPES
from system.serving.exchange import Exchange
from system.serving.problems import refused
from system.serving.service import Reply, Service

_RAW = frozenset(media_type.encode() for media_type in MEDIA_TYPES)
_HEADER_LENGTH = HEADER_LENGTH_HEADER.lower().encode()


class FastPath:
    """Pure ASGI: answers POST /predict with a raw image, and V2 inference with a binary tensor; passes on everything else."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._model = service.settings.model_name
        self._v2_path = f"/v2/models/{self._model}/infer"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        exchange = Exchange.of(scope)
        path = scope["path"]
        try:
            if path == "/predict" and exchange.fields.get(b"content-type") in _RAW:
                reply = await self._service.predict(receive, exchange)
            elif path == self._v2_path and _HEADER_LENGTH in exchange.fields:
                reply = await self._service.infer_v2(receive, exchange, self._model)
            else:
                await self._app(scope, receive, send)
                return
        except (RequestRefused, Unavailable) as error:
            await refused(exchange, error)(scope, receive, send)
            return
        await _answer(reply, send)


async def _answer(reply: Reply, send: Send) -> None:
    length = (b"content-length", b"%d" % len(reply.body))
    await send({"type": "http.response.start", "status": 200, "headers": [length, *reply.headers]})
    await send({"type": "http.response.body", "body": reply.body})
