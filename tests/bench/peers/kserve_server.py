"""KServe's Python SDK: protocol V1 with base64, uvicorn workers, no line per request."""

from __future__ import annotations

import base64
import sys
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
from kserve import Model, ModelServer, logging, model_server

sys.path.insert(0, str(Path(__file__).parent))
from model import Predictor

predictor = cache(Predictor)  # made by each worker for itself: the model is pickled on its way there, a session cannot be


class Loopback(uvicorn.Config):
    """The SDK would listen on every address, and has no option for another."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"host": "127.0.0.1"})


uvicorn.Config = Loopback


class Bench(Model):
    """As the custom model of the documentation: decode, then predict."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def preprocess(self, payload: Any, headers: Any = None) -> list[Any]:
        return [predictor().transform(base64.b64decode(item["image"]["b64"])) for item in payload["instances"]]

    def predict(self, payload: list[Any], headers: Any = None) -> dict[str, Any]:
        return {"predictions": [predictor().infer(tensor)[0].tolist() for tensor in payload]}


if __name__ == "__main__":
    options, _ = model_server.parser.parse_known_args()
    if options.configure_logging:
        logging.configure_logging(options.log_config_file)
    ModelServer().start([Bench("bench")])
