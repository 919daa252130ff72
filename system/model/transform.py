"""The one transform between image bytes and the model; training and serving both call it, so they cannot drift apart.

JPEG is decoded by libjpeg-turbo at the smallest scale that still covers the model's input; everything else, CMYK JPEG
included, by Pillow. EXIF orientation is not applied.
"""

from __future__ import annotations

import io
import re
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from system.errors import InvalidImage, UnsupportedMedia

SIDE = 32
JPEG = "image/jpeg"
PNG = "image/png"

Pixels = npt.NDArray[np.uint8]

# A photo has about ten scans; a hostile progressive file of a few megabytes has thousands, each a pass over every pixel.
_MOST_SCANS = 100
_SCAN = re.compile(rb"\xff\xda")  # three times faster than bytes.count

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on the header, before Pillow decodes anything
cv2.setNumThreads(1)  # one process per core; and a pool of threads does not survive the fork of a server's workers


def to_tensor(body: bytes, media_type: str, *, max_pixels: int) -> Pixels:
    """Decode an image and scale it to the model's input, whatever its aspect ratio.

    Args:
        body: the whole file.
        media_type: `image/jpeg` or `image/png`, lower case, without parameters.
        max_pixels: limit on width x height; the header is read first and nothing larger is decoded.

    Returns:
        uint8 (1, 32, 32, 3), RGB, 0 to 255, C-contiguous.

    Raises:
        UnsupportedMedia: another media type.
        InvalidImage: the bytes are not a whole image of that type, or hold more pixels than the limit.
    """
    if media_type == JPEG:
        image = _jpeg(body, max_pixels)
    elif media_type == PNG:
        image = _pillow(body, "PNG", max_pixels)
    else:
        raise UnsupportedMedia(f"media type {media_type[:80]!r} is not supported; send {JPEG} or {PNG}")
    if image.shape[:2] != (SIDE, SIDE):
        # Linear looks at four pixels: right up to half size; beyond that averaging is what prevents aliasing.
        much_larger = max(image.shape[:2]) > 2 * SIDE
        kind = cv2.INTER_AREA if much_larger else cv2.INTER_LINEAR
        image = cv2.resize(image, (SIDE, SIDE), interpolation=kind).astype(np.uint8, copy=False)
    return image[np.newaxis]


def _jpeg(body: bytes, max_pixels: int) -> Pixels:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(body)
        _check_pixels(width, height, max_pixels)
        if len(_SCAN.findall(body)) > _MOST_SCANS:
            raise InvalidImage(f"the JPEG has more than {_MOST_SCANS} scans; send one that is saved as baseline")
        if colorspace == "CMYK":
            return _pillow(body, "JPEG", max_pixels)
        # min_factor: scales between 1 and 2 have no SIMD code and are slower than full size
        image: Pixels = simplejpeg.decode_jpeg(body, "RGB", min_height=SIDE, min_width=SIDE, min_factor=2)
    except ValueError as error:
        raise InvalidImage(f"the body is not a whole JPEG: {error}") from None
    return image


def _pillow(body: bytes, kind: Literal["JPEG", "PNG"], max_pixels: int) -> Pixels:
    try:
        with Image.open(io.BytesIO(body), formats=(kind,)) as image:
            _check_pixels(*image.size, max_pixels)
            return np.array(_rgb(image))
    except (InvalidImage, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - on hostile bytes Pillow raises SyntaxError, KeyError, struct.error and more
        raise InvalidImage(f"the body is not a whole {kind}: {type(error).__name__}") from None


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: 16 bits scaled, not clipped; transparency on white, as a browser's page shows it."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidImage(f"the image has {width} x {height} pixels, more than {max_pixels}; send a smaller one")
