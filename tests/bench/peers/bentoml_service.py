"""BentoML: an image as a file part, the number of workers in the decorator."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from model import LENT, SIDE, Predictor

_SETTINGS = {"workers": int(os.environ["BENCH_WORKERS"]), "logging": {"access": {"enabled": False}}}

if LENT:

    @bentoml.service(**_SETTINGS)
    class Bench:
        """A file, for whoever decodes it without Pillow."""

        def __init__(self) -> None:
            self.predictor = Predictor()

        @bentoml.api
        def predict(self, image: Annotated[Path, ContentType("image/jpeg")]) -> list[float]:
            return self.predictor(image.read_bytes())[0].tolist()

else:

    @bentoml.service(**_SETTINGS)
    class Bench:
        """As the image examples of the documentation: the framework hands over Pillow's image."""

        def __init__(self) -> None:
            self.predictor = Predictor()

        @bentoml.api
        def predict(self, image: Image.Image) -> list[float]:
            return self.predictor.infer(np.asarray(image.convert("RGB").resize((SIDE, SIDE)))[None])[0].tolist()
