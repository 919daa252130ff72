"""What every peer's program shares: bytes in, probabilities out, in one ONNX Runtime session.

Runs in a peer's environment, so it imports nothing of the system unless BENCH_MODE lends it the system's own transform.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
import onnxruntime
from PIL import Image

SIDE = int(os.environ.get("BENCH_SIDE", "32"))
LENT = os.environ.get("BENCH_MODE", "lent") == "lent"


def transform() -> Callable[[bytes], np.ndarray]:
    """Bytes of a JPEG to uint8 (1, side, side, 3): the system's own function, or Pillow as the tutorials have it."""
    if LENT:
        from system.model.transform import to_tensor  # noqa: PLC0415 - only where it is lent

        return lambda body: to_tensor(body, "image/jpeg", max_pixels=40_000_000, side=SIDE)
    return lambda body: np.asarray(Image.open(io.BytesIO(body)).convert("RGB").resize((SIDE, SIDE)))[None]


class Predictor:
    """The model of BENCH_MODEL with the session settings that the system uses: one thread that never spins."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = os.environ["BENCH_MODEL"]
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.transform = transform()

    def infer(self, tensor: np.ndarray) -> np.ndarray:
        """float32 (n, classes) of uint8 (n, side, side, 3)."""
        return self._session.run(None, {"image": tensor})[0]

    def __call__(self, body: bytes) -> np.ndarray:
        """float32 (1, classes) of a JPEG."""
        return self.infer(self.transform(body))
