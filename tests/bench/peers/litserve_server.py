"""LitServe: a file part of a multipart form, inference workers behind API servers.

No `from __future__ import annotations`: LitServe compares the annotation of `decode_request` with the class itself.
"""

import sys
from pathlib import Path
from typing import Any

import litserve
from fastapi import Request

sys.path.insert(0, str(Path(__file__).parent))
from model import Predictor


class Bench(litserve.LitAPI):
    """As the image example of the documentation."""

    def setup(self, device: str) -> None:
        self.predictor = Predictor()

    def decode_request(self, request: Request) -> Any:
        return self.predictor.transform(request["content"].file.read())

    def predict(self, x: Any) -> Any:
        return self.predictor.infer(x)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        return {"probabilities": output[0].tolist()}


if __name__ == "__main__":
    port, workers = sys.argv[1:]
    server = litserve.LitServer(Bench(), accelerator="cpu", workers_per_device=int(workers))
    server.run(host="127.0.0.1", port=int(port), num_api_servers=int(workers), log_level="warning", generate_client_file=False)
