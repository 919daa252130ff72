"""One verified model, ready to answer: image bytes to pixels, pixels to probabilities."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from system.model.artifact import Manifest
from system.model.engines import Engine, open_engine
from system.model.transform import Pixels, to_tensor
from system.serving import calibrate
from system.serving.batcher import Batcher
from system.serving.meters import ModelMetrics

_MOST_INLINE_US = 3000.0  # a slower model runs in a thread of its own: the event loop must answer health checks meanwhile
_MOST_IMAGES = 32

Probabilities = npt.NDArray[np.float32]


class Predictor:
    """A model that is loaded, warm, checked against its golden set, and calibrated.

    Attributes:
        version: in the registry.
        labels: of the classes.
        side: of the square that the model takes, in pixels.
        variant: that calibration chose.
        metrics: bound to this version.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, variant: str = calibrate.AUTO) -> None:
        """Load a verified folder.

        Raises:
            RegistryError: it cannot run, or does not say what it said when it was registered.
        """
        self.version = manifest.version
        self.labels = manifest.labels
        self.side = manifest.side
        self._engine, plan = calibrate.load(folder, manifest, variant)
        self.variant = plan.variant
        chosen = next(found for found in manifest.variants if found.name == plan.variant)
        self._open_another = partial(open_engine, folder, manifest, chosen)
        self._another: Engine | None = None
        self.metrics = ModelMetrics(manifest.version, manifest.labels)
        in_thread = plan.image_us > _MOST_INLINE_US
        self._batcher = (
            Batcher(self._engine, most_images=_MOST_IMAGES if plan.batches else 1, in_thread=in_thread)
            if in_thread or plan.batches
            else None
        )

    def decode(self, image: bytes, media_type: str, *, max_pixels: int) -> Pixels:
        """Pixels, uint8 (1, side, side, 3), of one image.

        Raises:
            UnsupportedMedia, InvalidImage: as `system.model.transform.to_tensor` does.
        """
        return to_tensor(image, media_type, max_pixels=max_pixels, side=self.side)

    async def infer(self, images: Pixels) -> Probabilities:
        """Probabilities, float32 (n, classes), of images, uint8 (n, side, side, 3)."""
        if self._batcher is None:
            return self._engine(images)
        return await self._batcher.infer(images)

    def infer_now(self, images: Pixels) -> Probabilities:
        """The same in one other thread, at any time: an engine takes one call at a time, so that thread has one of its own."""
        if self._another is None:
            self._another = self._open_another()
        return self._another(images)
