"""The serving application. Read this first.

A request passes, from the outside in:

    observer.py    request id, metrics, log line, anything unexpected becomes a 500
    routes.py      the HTTP interface and its OpenAPI document (problems.py: every error in one shape)
    service.py     one prediction: key (auth.py), media type and image (images.py), size (limits.py)
    predictor.py   decode, infer, in this thread: run to completion is what a CPU does best

and beside it run, from start to shutdown:

    loader.py      registry alias -> verified and warm model; until then the service is live and not ready
    recorder.py    the prediction log, off the request's path
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.routing import Route

from system.config import ServeSettings
from system.serving import problems, routes
from system.serving.observer import Observer
from system.serving.service import Service

FLUSH_S = 5.0


def create_app(settings: ServeSettings) -> FastAPI:
    """Build the application; `app.state.service` is its Service.

    Raises:
        ValueError: the file of API keys is missing or malformed.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.recorder.start()
        loading = asyncio.create_task(service.loader.run())
        try:
            yield
        finally:
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            await asyncio.to_thread(service.recorder.stop, within_s=FLUSH_S)

    app = FastAPI(
        title="Digits",
        summary="Says which digit an image shows.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be an answer outside the one shape of errors
    )
    app.state.service = service
    routes.add(app, service)
    problems.install(app)
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    app.add_middleware(Observer, paths=paths, model_version=lambda: service.loader.version)
    return app
