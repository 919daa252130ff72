"""One verified model in ONNX Runtime: image bytes in, probabilities out, in the caller's thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime

from system.errors import RegistryError
from system.model.artifact import INPUT_NAME, ONNX_NAME, OUTPUT_NAME, Manifest
from system.model.transform import SIDE, to_tensor
from system.telemetry import PREDICTION_SECONDS, STAGE_SECONDS, predictions

_WARM_UP_RUNS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says about one image.

    Attributes:
        label: the class with the highest probability.
        confidence: that probability.
        probabilities: one per class, each exactly a float32.
        duration_ms: from image bytes to this answer.
    """

    label: str
    confidence: float
    probabilities: list[float]
    duration_ms: float


class Predictor:
    """A model that is ready to answer."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Load `model.onnx` of a verified folder and warm it up.

        Raises:
            RegistryError: the file is no model of the promised shape.
        """
        self.version = manifest.version
        self.labels = manifest.labels
        options = onnxruntime.SessionOptions()
        # one process per core: threads of the runtime would only fight with those of the other processes
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(folder / ONNX_NAME), options, providers=["CPUExecutionProvider"])
            blank = np.zeros((1, SIDE, SIDE, 3), np.uint8)
            outputs = [self._session.run([OUTPUT_NAME], {INPUT_NAME: blank})[0] for _ in range(_WARM_UP_RUNS)]
        except Exception as error:  # the runtime's own exceptions have no common base
            raise RegistryError(f"{folder / ONNX_NAME} cannot be run: {error}; register the model again") from error
        last = outputs[-1]
        if last.dtype != np.float32 or last.shape != (1, len(self.labels)) or abs(float(last.sum()) - 1) > 1e-3:
            raise RegistryError(
                f"{folder / ONNX_NAME} answers {last.dtype} {last.shape} with sum {float(last.sum()):.4g}, "
                f"not float32 (1, {len(self.labels)}) with sum 1; register the model again"
            )

    def predict(self, image: bytes, media_type: str, *, max_pixels: int) -> Answer:
        """Decode one image and classify it.

        Raises:
            UnsupportedMedia, InvalidImage: as `system.model.transform.to_tensor` does.
        """
        began = perf_counter()
        tensor = to_tensor(image, media_type, max_pixels=max_pixels)
        decoded = perf_counter()
        raw = self._session.run([OUTPUT_NAME], {INPUT_NAME: tensor})[0][0]
        inferred = perf_counter()
        probabilities: list[float] = raw.tolist()
        best = int(raw.argmax())
        ended = perf_counter()
        STAGE_SECONDS["preprocess"].observe(decoded - began)
        STAGE_SECONDS["inference"].observe(inferred - decoded)
        STAGE_SECONDS["postprocess"].observe(ended - inferred)
        PREDICTION_SECONDS.observe(ended - began)
        predictions(self.version).inc()
        return Answer(self.labels[best], probabilities[best], probabilities, (ended - began) * 1000)
