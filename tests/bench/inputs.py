"""The pictures that are sent, made from a seed: the same bytes in every run of one Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo-like picture.

    Attributes:
        name: as the design names it.
        width: pixels.
        height: pixels.
        noise: standard deviation of the grain, 0 to 255; so chosen that the file is as large as a photo of that size.
    """

    name: str
    width: int
    height: int
    noise: float


MEDIUM = Picture("m", 256, 256, 2.5)  # 9.8 KB
LARGE = Picture("l", 480, 360, 2.0)  # 20.8 KB
HUGE = Picture("12MP", 4000, 3000, 3.0)


def jpeg(picture: Picture) -> bytes:
    """A baseline JPEG of quality 85: smooth fields of colour, some edges, and grain."""
    random = np.random.default_rng(20_260_101)
    coarse = random.integers(0, 256, (picture.height // 64 + 2, picture.width // 64 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((picture.width, picture.height), Image.Resampling.BICUBIC))
    grain = random.normal(0, picture.noise, (picture.height, picture.width, 1))
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    # a few hard edges, as objects in front of a background have
    for _ in range(6):
        top, left = int(random.integers(0, picture.height * 3 // 4)), int(random.integers(0, picture.width * 3 // 4))
        block = pixels[top : top + picture.height // 5, left : left + picture.width // 5]
        block[:] = (block // 2) + random.integers(0, 128, 3, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()
