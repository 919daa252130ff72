"""What one serving process holds, and how it answers. Free of the framework, so every way in calls the same functions."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
from starlette.types import Receive

from system.config import ServeSettings
from system.contracts import API_KEY_HEADER, ASSIGNMENT_KEY_HEADER, HEADER_LENGTH_HEADER, JSON_TYPE, TIMEOUT_HEADER
from system.errors import DeadlineExceeded, ModelNotFound, ModelNotReady, RequestRefused
from system.model.artifact import Manifest
from system.model.transform import Pixels
from system.serving import v1, v2
from system.serving.auth import Keys, Scope
from system.serving.exchange import Exchange
from system.serving.images import Image, is_light, parse_media, single_image
from system.serving.limits import Reader
from system.serving.loader import Loader
from system.serving.predictor import Predictor
from system.serving.recorder import Recorder
from system.serving.tracing import Tracer
from system.serving.traffic import Shadow, challenged
from system.serving.turns import Turns
from system.storage.tables import PredictionRow, real_array

_KEY = API_KEY_HEADER.lower().encode()
_TIMEOUT = TIMEOUT_HEADER.lower().encode()
_ASSIGNMENT = ASSIGNMENT_KEY_HEADER.lower().encode()
_HEADER_LENGTH = HEADER_LENGTH_HEADER.lower().encode()
_JSON = [(b"content-type", JSON_TYPE.encode())]
_LONGEST_TIMEOUT_MS = 600_000
_SHADOW_STOP_S = 1.0
_PIXELS = "pixels"  # stands where a media type would: the client decoded the image

T = TypeVar("T")


class Reply(NamedTuple):
    """The body of a 200, and its headers besides the length."""

    body: bytes
    headers: list[tuple[bytes, bytes]]


class Answers(NamedTuple):
    """What one model says about the images of one request.

    Attributes:
        rows: of each image, the probabilities of the classes; each number is exactly the model's float32.
        best: of each image, the index of the class with the highest probability.
    """

    rows: list[list[float]]
    best: list[int]


class Service:
    """The parts of one replica's process.

    Attributes:
        draining: set on SIGTERM: requests are still answered, readiness is not given any more.
    """

    def __init__(self, settings: ServeSettings) -> None:
        """Read the keys; nothing else is opened before the application starts.

        Raises:
            ValueError: the file of API keys is missing or malformed.
        """
        self.settings = settings
        self.keys = Keys(settings.api_keys_file, workers=settings.workers)
        self.reader = Reader(settings)
        self.turns = Turns(most_active=settings.max_active, most_waiting=settings.max_waiting)
        self.loader = Loader(settings, self._build)
        self.shadow = Shadow(lambda: self.loader.challenger, settings.shadow_share)
        self.recorder = Recorder(
            settings.database_url.get_secret_value(), capacity=settings.recorder_capacity, application=settings.replica
        )
        self.tracer = Tracer(settings.otlp_url, share=settings.trace_share, replica=settings.replica)
        self.draining = False
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decoder")  # one: what it holds in memory stays bounded

    def _build(self, folder: Path, manifest: Manifest) -> Predictor:
        return Predictor(folder, manifest, variant=self.settings.variant)

    def start(self) -> None:
        """Begin what works beside the requests."""
        self.recorder.start()
        self.shadow.start()
        self.tracer.start()

    def stop(self, *, within_s: float) -> None:
        """End it again: the prediction log and the spans are written, for at most about `within_s` each."""
        self.shadow.stop(within_s=_SHADOW_STOP_S)
        self._decoder.shutdown(wait=False, cancel_futures=True)
        self.recorder.stop(within_s=within_s)
        self.tracer.stop(within_s=within_s)

    def require_ready(self) -> Predictor:
        """The model, when new requests are welcome.

        Raises:
            ModelNotReady: none is loaded, or the process is shutting down.
        """
        if self.draining:
            raise ModelNotReady(f"replica {self.settings.replica} is shutting down")
        return self.loader.ready()

    def require_name(self, name: str) -> None:
        """Let the served model's name pass.

        Raises:
            ModelNotFound: it is another one.
        """
        if name != self.settings.model_name:
            raise ModelNotFound(f"there is no model {name[:80]!r}; the model is {self.settings.model_name!r}")

    def versions(self) -> list[str]:
        """Of the models that are loaded, production first."""
        return [model.version for model in (self.loader.production, self.loader.challenger) if model is not None]

    def named(self, name: str, version: str = "") -> Predictor:
        """The loaded model that a path names.

        Raises:
            ModelNotFound: another name, or a version that is not loaded.
            ModelNotReady: none is loaded yet.
        """
        self.require_name(name)
        production, challenger = self.loader.ready(), self.loader.challenger
        if version in {"", production.version}:
            return production
        if challenger is not None and version == challenger.version:
            return challenger
        raise ModelNotFound(f"version {version[:20]!r} of {name!r} is not loaded; {production.version!r} is")

    def authorize(self, exchange: Exchange, scope: Scope = "predict") -> None:
        """Let a request with a good key pass.

        Raises:
            Unauthorized, Forbidden, RateLimited: as `Keys.require` does.
        """
        exchange.key_name = self.keys.require(exchange.fields.get(_KEY), scope).name

    async def predict(self, receive: Receive, exchange: Exchange) -> Reply:
        """POST /predict: the JSON of a `Prediction`. The cheapest reasons to refuse come first.

        Raises:
            RequestRefused: for what is wrong with the request.
            Unavailable: no model is loaded yet, too much is in flight, or the client's deadline passed.
        """
        self._enter(exchange)
        media_type, boundary = parse_media(exchange.fields.get(b"content-type"))
        predictor = self._assigned(exchange)

        async def work() -> Answers:
            body = await self._body(receive, exchange)
            async with self.turns:
                return await self._classify(predictor, [single_image(body, media_type, boundary)], exchange)

        answers = await self._in_time(work(), exchange)
        row, best = answers.rows[0], answers.best[0]
        document = {
            "request_id": exchange.request_id,
            "model_version": predictor.version,
            "label": predictor.labels[best],
            "confidence": row[best],
            "probabilities": row,
        }
        return Reply(orjson.dumps(document), _JSON)

    async def predict_v1(self, receive: Receive, exchange: Exchange, name: str) -> Reply:
        """POST /v1/models/NAME:predict. Raises as `predict` does, and ModelNotFound."""
        self._enter(exchange)
        v2.refuse_compressed(exchange.fields.get(b"content-encoding"))
        self.named(name)
        predictor = self._assigned(exchange)

        async def work() -> Answers:
            body = await self._body(receive, exchange)
            async with self.turns:
                return await self._classify(predictor, v1.parse(body, max_images=self.settings.max_images), exchange)

        answers = await self._in_time(work(), exchange)
        return Reply(v1.render(answers, predictor.labels), _JSON)

    async def infer_v2(self, receive: Receive, exchange: Exchange, name: str, version: str = "") -> Reply:
        """POST /v2/models/NAME[/versions/VERSION]/infer. Raises as `predict` does, and ModelNotFound."""
        self._enter(exchange)
        v2.refuse_compressed(exchange.fields.get(b"content-encoding"))
        named = self.named(name, version)
        predictor = named if version else self._assigned(exchange)

        async def work() -> tuple[v2.Request, Answers]:
            body, length = await self._body(receive, exchange), exchange.fields.get(_HEADER_LENGTH)
            async with self.turns:
                request = v2.parse(body, length, max_images=self.settings.max_images, side=predictor.side)
                if request.pixels is not None:
                    return request, await self._infer(predictor, request.pixels, [], exchange, perf_counter())
                return request, await self._classify(predictor, request.images or [], exchange)

        request, answers = await self._in_time(work(), exchange)
        return Reply(*v2.render(request, answers, model=name, version=predictor.version, labels=predictor.labels))

    def _assigned(self, exchange: Exchange) -> Predictor:
        """The model that answers this request: the same one for the same key, as long as the share is the same."""
        production, challenger = self.loader.ready(), self.loader.challenger
        if challenger is None or not self.settings.challenger_share:
            return production
        key = exchange.fields.get(_ASSIGNMENT, b"").decode("latin-1") or exchange.request_id
        return challenger if challenged(key, self.settings.challenger_share) else production

    def _enter(self, exchange: Exchange) -> None:
        """Let a request in that can be answered soon and has a good key; a refusal under overload must cost next to nothing."""
        self.turns.refuse_if_full()
        self.authorize(exchange)

    async def _body(self, receive: Receive, exchange: Exchange) -> bytes:
        return await self.reader.read_body(receive, exchange.fields.get(b"content-length"))

    async def _in_time(self, work: Coroutine[Any, Any, T], exchange: Exchange) -> T:
        """The outcome of the work, if it comes before the deadline that the client may have set."""
        sent = exchange.fields.get(_TIMEOUT)
        if sent is None:
            return await work
        try:
            timeout_ms = _milliseconds(sent)
            deadline = exchange.arrived + timeout_ms / 1000
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline - perf_counter()):
                    await asyncio.sleep(0)  # a deadline that has passed already ends it here, before any work
                    outcome = await work
                if perf_counter() <= deadline:  # inference in this thread cannot be interrupted
                    return outcome
        finally:
            work.close()  # never begun, if the deadline is no number or has passed
        raise DeadlineExceeded(f"there was no answer within the {timeout_ms} ms of {TIMEOUT_HEADER}; allow more, or try again")

    async def _classify(self, predictor: Predictor, images: Sequence[Image], exchange: Exchange) -> Answers:
        """Decode, infer, record. Big images are decoded in a thread, one after the other."""
        began = perf_counter()
        if len(images) == 1 and is_light(*images[0]):
            pixels = predictor.decode(*images[0], max_pixels=self.settings.max_pixels)
        else:
            loop = asyncio.get_running_loop()
            decoded = []
            for image in images:
                decode = partial(predictor.decode, *image, max_pixels=self.settings.max_pixels)
                if is_light(*image):
                    decoded.append(decode())
                    await asyncio.sleep(0)  # others are served between two images of a long request
                else:
                    decoded.append(await loop.run_in_executor(self._decoder, decode))
            pixels = np.concatenate(decoded)
        return await self._infer(predictor, pixels, images, exchange, began)

    async def _infer(
        self, predictor: Predictor, pixels: Pixels, images: Sequence[Image], exchange: Exchange, began: float
    ) -> Answers:
        decoded = perf_counter()
        probabilities = await predictor.infer(pixels)
        inferred = perf_counter()
        rows: list[list[float]] = probabilities.tolist()
        if not isfinite(sum(map(sum, rows))):  # nothing that is no number may look like an answer
            raise RuntimeError(f"version {predictor.version} answers with numbers that are not finite")
        best = [row.index(max(row)) for row in rows]
        exchange.model_version, exchange.variant = predictor.version, predictor.variant
        contents = images or [(image.tobytes(), _PIXELS) for image in pixels]
        at, duration_ms = datetime.now(UTC), (inferred - began) * 1000
        predictor.metrics.saw(pixels, contents)
        for (content, media_type), row, index in zip(contents, rows, best, strict=True):
            predictor.metrics.answered(index, row[index])
            self.recorder.record(
                PredictionRow(
                    exchange.request_id,
                    at,
                    self.settings.replica,
                    predictor.version,
                    predictor.labels[index],
                    real_array(row),
                    sha256(content).digest(),
                    media_type,
                    duration_ms,
                    predictor.variant,
                    exchange.trace.trace_id,
                )
            )
        if self.settings.shadow_share:
            self.shadow.offer(pixels, probabilities, exchange.request_id)
        ended = perf_counter()
        predictor.metrics.took(began, decoded, inferred, ended)
        if exchange.trace.sampled:
            exchange.stages = (("decode", began, decoded), ("infer", decoded, inferred), ("record", inferred, ended))
        return Answers(rows, best)


def _milliseconds(sent: bytes) -> int:
    if not (sent.isdigit() and 1 <= int(sent[:9]) <= _LONGEST_TIMEOUT_MS):
        raise RequestRefused(
            f"{TIMEOUT_HEADER} is {sent[:20].decode('latin-1')!r}; send whole milliseconds, 1 to {_LONGEST_TIMEOUT_MS}"
        )
    return int(sent)
