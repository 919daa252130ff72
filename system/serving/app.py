"""The serving application. Read this first.

A request passes, from the outside in:

    protocol.py    one connection: limits on the head, the instant of arrival
    observer.py    request id, trace, metrics (meters.py), log line, headers; anything unexpected becomes a 500
    fastpath.py    a raw image or a binary tensor goes straight to service.py, anything else through
    routes.py      the HTTP interface and its OpenAPI document (metadata.py, problems.py: every error in one shape)
    service.py     one request: key (auth.py), body (limits.py), its turn (turns.py), media (images.py, v1.py, v2.py), record
    predictor.py   decode and infer, in this thread: run to completion is what a CPU does best (batcher.py where not)

and beside it run, from start to shutdown:

    loader.py      registry aliases -> verified, calibrated (calibrate.py) and warm models; a new one is swapped in
    traffic.py     the challenger: its share of the requests, or all of them unseen
    recorder.py    the prediction log, off the request's path
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from system import __version__, telemetry
from system.config import ServeSettings
from system.serving import problems, routes
from system.serving.fastpath import FastPath
from system.serving.observer import Observer
from system.serving.service import Service

FLUSH_S = 5.0


class Application(FastAPI):
    """FastAPI whose layers are exactly the ones above, in that order."""

    def build_middleware_stack(self) -> ASGIApp:
        """What starlette calls once, at the first request."""
        service: Service = self.state.service
        routed = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)
        return Observer(FastPath(routed, service), service=service, label=self._label(), tracer=service.tracer)

    def _label(self) -> Callable[[str], str]:
        """The route of a path: what metrics and logs call it. Raw paths would be labels without end."""
        found = [route for route in self.router.routes if isinstance(route, Route)]

        @lru_cache(256)
        def label(path: str) -> str:
            return next((route.path for route in found if route.path_regex.match(path)), telemetry.UNMATCHED)

        return label


def create_app(settings: ServeSettings) -> Application:
    """Build the application; `app.state.service` is its Service.

    Raises:
        ValueError: the file of API keys is missing or malformed.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        telemetry.PROCESS_STARTED.set_to_current_time()
        service.start()
        work = (service.loader.run(), service.keys.watch(), telemetry.report_in_flight(service.turns.in_flight))
        beside = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(service.stop, within_s=FLUSH_S)

    app = Application(
        title="Digits",
        summary="Says which digit an image shows.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # both pages load their scripts from a public network, so offline they are blank
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # the layers above do it, for less
        redirect_slashes=False,  # a redirect would be an answer outside the one shape of errors
    )
    app.state.service = service
    routes.add(app, service)
    problems.install(app)
    return app
