"""What one serving process holds, and how it answers one prediction. Free of the framework, so any way in can call it."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import orjson
from starlette.datastructures import Headers
from starlette.types import Receive

from system.config import ServeSettings
from system.contracts import API_KEY_HEADER
from system.errors import ModelNotReady
from system.serving.auth import Keys
from system.serving.exchange import Exchange
from system.serving.images import parse_media, single_image
from system.serving.limits import read_body
from system.serving.loader import Loader
from system.serving.predictor import Predictor
from system.serving.recorder import Recorder
from system.storage.tables import PredictionRow


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
        self.keys = Keys(settings.api_keys_file)
        self.loader = Loader(settings)
        self.recorder = Recorder(
            settings.database_url.get_secret_value(), capacity=settings.recorder_capacity, application=settings.replica
        )
        self.draining = False

    def require_ready(self) -> Predictor:
        """The model, when new requests are welcome.

        Raises:
            ModelNotReady: none is loaded, or the process is shutting down.
        """
        if self.draining:
            raise ModelNotReady(f"replica {self.settings.replica} is shutting down")
        return self.loader.ready()

    async def predict(self, headers: Headers, receive: Receive, exchange: Exchange) -> bytes:
        """Answer one request: the JSON of a `Prediction`. The cheapest reasons to refuse come first.

        Raises:
            RequestRefused: for what is wrong with the request.
            ModelNotReady: no model is loaded yet.
        """
        self.keys.require(headers.get(API_KEY_HEADER))
        media_type, boundary = parse_media(headers.get("content-type"))
        predictor = self.loader.ready()
        body = await read_body(receive, declared=headers.get("content-length"), limit_bytes=self.settings.max_body_bytes)
        image, image_type = single_image(body, media_type, boundary)
        answer = predictor.predict(image, image_type, max_pixels=self.settings.max_pixels)
        exchange.model_version = predictor.version
        self.recorder.record(
            PredictionRow(
                request_id=exchange.request_id,
                at=datetime.now(UTC),
                replica=self.settings.replica,
                model_version=predictor.version,
                label=answer.label,
                probabilities=answer.probabilities,
                input_sha256=sha256(image).digest(),
                media_type=image_type,
                duration_ms=answer.duration_ms,
            )
        )
        return orjson.dumps(
            {
                "request_id": exchange.request_id,
                "model_version": predictor.version,
                "label": answer.label,
                "confidence": answer.confidence,
                "probabilities": answer.probabilities,
            }
        )
