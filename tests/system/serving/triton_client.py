"""A program: what Triton's own client, as it is, gets from a server. Prints one JSON document.

    triton_client.py CONVERSATION HOST:PORT MODEL VERSION API-KEY IMAGE...

It is a process of its own because the client runs on gevent, which does not belong beside asyncio.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferenceServerException, InferInput, InferRequestedOutput

OUTPUTS = ("probabilities", "label", "confidence")


@dataclass
class Talk:
    """One client and what it asks about."""

    client: InferenceServerClient
    model: str
    version: str
    headers: dict[str, str]
    images: list[bytes]

    def infer(
        self, tensor: InferInput, *, version: str = "", outputs: tuple[str, ...] = (), binary: bool = True
    ) -> dict[str, Any]:
        wanted = [InferRequestedOutput(name, binary_data=binary) for name in outputs]
        found = self.client.infer(self.model, [tensor], version, outputs=wanted, request_id="r-1", headers=dict(self.headers))
        return tell(found, outputs or OUTPUTS)


def image_input(images: list[bytes]) -> InferInput:
    tensor = InferInput("image", [len(images)], "BYTES")
    return tensor.set_data_from_numpy(np.array(images, np.object_))


def pixel_input(*, binary: bool) -> InferInput:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    return InferInput("pixels", list(pixels.shape), "UINT8").set_data_from_numpy(pixels, binary_data=binary)


def tell(found: Any, outputs: tuple[str, ...]) -> dict[str, Any]:
    """An answer as plain values."""
    arrays = {name: found.as_numpy(name).tolist() for name in outputs}
    arrays["label"] = [one.decode() if isinstance(one, bytes) else one for one in arrays.get("label", [])]
    response = found.get_response()
    return {**arrays, **{name: response[name] for name in ("id", "model_name", "model_version")}}


def error(ask: Callable[[], object]) -> dict[str, Any]:
    try:
        ask()
    except InferenceServerException as refused:
        return {"status": refused.status(), "message": refused.message()}
    return {"status": "200", "message": "none"}


def metadata(talk: Talk) -> dict[str, Any]:
    client, model, version, headers = talk.client, talk.model, talk.version, talk.headers
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model, headers=headers),
        "version_ready": client.is_model_ready(model, version, headers=headers),
        "other_model_ready": client.is_model_ready("other", headers=headers),
        "other_version_ready": client.is_model_ready(model, "999", headers=headers),
        "server": client.get_server_metadata(headers=headers),
        "model": client.get_model_metadata(model, headers=headers),
        "version": client.get_model_metadata(model, version, headers=headers),
        "other": error(lambda: client.get_model_metadata("other", headers=headers)),
    }


def inference(talk: Talk) -> dict[str, Any]:
    each = [image_input([image]) for image in talk.images]
    pending = [
        talk.client.async_infer(talk.model, [tensor], request_id=f"r-{index}", headers=dict(talk.headers))
        for index, tensor in enumerate(each)
    ]
    return {
        "one": [talk.infer(tensor) for tensor in each],
        "together": talk.infer(image_input(talk.images)),
        "version": talk.infer(image_input(talk.images), version=talk.version),
        "json": talk.infer(image_input(talk.images), outputs=OUTPUTS, binary=False),
        "label": talk.infer(image_input(talk.images), outputs=("label",)),
        "pixels": talk.infer(pixel_input(binary=True)),
        "pixels_json": talk.infer(pixel_input(binary=False)),
        "concurrent": [tell(one.get_result(timeout=10), OUTPUTS) for one in pending],
    }


def refusals(talk: Talk) -> dict[str, Any]:
    client, model, headers = talk.client, talk.model, talk.headers
    good = image_input(talk.images[:1])
    return {
        "not_an_image": error(lambda: talk.infer(image_input([b"GIF89a"]))),
        "cut_short": error(lambda: talk.infer(image_input([talk.images[0][:60]]))),
        "no_key": error(lambda: client.infer(model, [good])),
        "other_model": error(lambda: client.infer("other", [good], headers=dict(headers))),
        "other_version": error(lambda: talk.infer(good, version="999")),
        "compressed": error(lambda: client.infer(model, [good], headers=dict(headers), request_compression_algorithm="gzip")),
        "parameter": error(lambda: client.infer(model, [good], headers=dict(headers), timeout=1000)),
        "afterwards": talk.infer(good),  # on the same connection
    }


def main(conversation: str, address: str, model: str, version: str, key: str, *images: str) -> None:
    client = InferenceServerClient(address, concurrency=4, connection_timeout=10, network_timeout=10)
    talk = Talk(client, model, version, {"X-API-Key": key}, [Path(image).read_bytes() for image in images])
    sys.stdout.write(json.dumps({"metadata": metadata, "inference": inference, "refusals": refusals}[conversation](talk)))
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
