"""The one transform between image bytes and the model; training and serving both call it, so they cannot drift apart.

JPEG, CMYK included, is decoded by libjpeg-turbo at the smallest scale that still covers the model's input, PNG and WebP by
Pillow. The picture is turned upright where EXIF says how; transparency becomes white. An animation has no one picture and is
refused, but the first of several pictures in one JPEG file is the photo itself: phones put previews behind it.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
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
WEBP = "image/webp"

# Each type that is taken, and the bytes that its files begin with.
MEDIA_TYPES = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG\r\n\x1a\n", WEBP: b"RIFF"}

Pixels = npt.NDArray[np.uint8]

# A photo has ten scans, one for print eighteen; a hostile progressive file has thousands, each a pass over every pixel.
_MOST_SCANS = 100
_MOST_SCANS_AT_MOST_PIXELS = 20
# The whole head of a scan, not its marker alone: a video that a phone appends to its photo holds every pair of bytes.
_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")

_EXIF = b"Exif\0\0"
_EXIF_WITHIN = 1024  # it stands first in the file, behind 18 bytes of JFIF at most
_ORIENTATION = 0x0112
_MOST_TAGS = 100

_STRIP_PIXELS = 1 << 20

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on the header, before Pillow decodes anything
warnings.filterwarnings("error", module=r"PIL\.")  # Pillow warns of damage that it guesses its way around
cv2.setNumThreads(1)  # one process per core; and a pool of threads does not survive the fork of a server's workers
# glibc would give the memory of each image back and fault it in anew, 2 us a page: half of the time at 224 pixels. Having freed
# one block of this size, it keeps twice as much for the next image.
np.empty(8 << 20, np.uint8)


def sniff(body: bytes) -> str:
    """The media type that the first bytes are of; empty when it is none that is taken."""
    for media_type, signature in MEDIA_TYPES.items():
        if body.startswith(signature):
            return media_type if media_type != WEBP or body[8:12] == b"WEBP" else ""
    return ""


def to_tensor(body: bytes, media_type: str, *, max_pixels: int, side: int = SIDE) -> Pixels:
    """Decode an image and scale it to the model's input, whatever its aspect ratio.

    Takes at most 16 bytes of memory for each pixel of `max_pixels`: WebP does, PNG and progressive JPEG take 8, baseline JPEG
    next to none. Orientation is read from EXIF in the first KiB of a JPEG, from a PNG's eXIf and a WebP's EXIF chunk.

    Args:
        body: the whole file.
        media_type: one of `MEDIA_TYPES`, lower case, without parameters.
        max_pixels: limit on width x height; the header is read first and nothing larger is decoded.
        side: of the model's square input, in pixels, at least 1.

    Returns:
        uint8 (1, side, side, 3), RGB, 0 to 255, C-contiguous.

    Raises:
        UnsupportedMedia: another media type.
        InvalidImage: the bytes are not one whole image of that type, or hold more pixels than the limit.
    """
    if media_type == JPEG:
        image, orientation = _jpeg(body, max_pixels, side)
    elif media_type == PNG:
        image, orientation = _pillow(body, "PNG", max_pixels)
    elif media_type == WEBP:
        _check_webp(body, max_pixels)
        image, orientation = _pillow(body, "WEBP", max_pixels)
    else:
        raise UnsupportedMedia(f"media type {media_type[:80]!r} is not supported; send {', '.join(MEDIA_TYPES)}")
    # the square is turned, not the photo: fewer pixels, and scaling treats both axes and directions alike
    image = _upright(_square(image, side), orientation)
    return image[np.newaxis]


def _jpeg(body: bytes, max_pixels: int, side: int) -> tuple[Pixels, int]:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(body)
        _check_pixels(width, height, max_pixels)
        most = min(_MOST_SCANS, _MOST_SCANS_AT_MOST_PIXELS * max_pixels // (width * height))
        if len(_SCAN.findall(body)) > most:
            raise InvalidImage(f"the JPEG has more than {most} scans; send one that is saved as baseline")
        # min_factor: scales between 1 and 2 have no SIMD code and are slower than full size
        image: Pixels = simplejpeg.decode_jpeg(body, "RGB", min_height=side, min_width=side, min_factor=2)
    except ValueError as error:
        raise InvalidImage(f"the body is not a whole JPEG: {error}") from None
    at = body.find(_EXIF, 0, _EXIF_WITHIN)
    orientation = _orientation(memoryview(body)[at:]) if body[at - 4 : at - 2] == b"\xff\xe1" else 1
    return image, orientation


def _pillow(body: bytes, kind: Literal["PNG", "WEBP"], max_pixels: int) -> tuple[Pixels, int]:
    try:
        with Image.open(io.BytesIO(body), formats=(kind,)) as image:
            _check_pixels(*image.size, max_pixels)
            _check_still(image)
            image.load()
            exif = image.info.get("exif")  # a text, where a PNG has one of that name
            return _rgb(image), _orientation(memoryview(exif)) if isinstance(exif, bytes) else 1
    except (InvalidImage, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - on hostile bytes Pillow raises SyntaxError, KeyError, struct.error and more
        raise InvalidImage(f"the body is not a whole {kind}: {type(error).__name__}") from None


def _rgb(image: Image.Image) -> Pixels:
    """Any mode as RGB, in strips: Pillow's copies on the way take up to 16 bytes a pixel."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_strip_rgb(strip))
    return pixels


def _strip_rgb(image: Image.Image) -> Image.Image:
    """16 bits scaled, not clipped; transparency on white, as a browser's page shows it."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _square(image: Pixels, side: int) -> Pixels:
    """Scaled without aliasing: uint8 (side, side, 3).

    Linear looks at two pixels along each axis, which is right up to about half as many again. Up to three times, the filter
    (1, 2, 1) / 4 before it does what averaging does, in a third of the time; beyond that, averaging.
    """
    height, width = image.shape[:2]
    if max(height, width) > 3 * side:
        # OpenCV averages only where neither axis grows
        size = (min(width, side), min(height, side))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    elif 2 * max(height, width) > 3 * side:
        kernel = (3 if 2 * width > 3 * side else 1, 3 if 2 * height > 3 * side else 1)
        image = cv2.GaussianBlur(image, kernel, 0, dst=image).astype(np.uint8, copy=False)
    if image.shape[:2] != (side, side):
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return image


def _orientation(exif: memoryview) -> int:
    """The orientation in an EXIF block, 1 to 8; 1, upright, where there is none or it is damaged. EXIF 2.32, 4.6.4 A."""
    if exif[:6] == _EXIF:
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(exif[:4]))
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for entry in range(min(count, _MOST_TAGS)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if kind == 3 and 1 <= value <= 8 else 1  # kind 3: a 16-bit number
    except struct.error:
        return 1
    return 1


def _upright(image: Pixels, orientation: int) -> Pixels:
    """The picture as the photographer saw it. 5 to 8 have rows and columns exchanged."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    down = -1 if orientation in {3, 4, 7, 8} else 1
    right = -1 if orientation in {2, 3, 6, 7} else 1
    return np.ascontiguousarray(image[::down, ::right])


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidImage(f"the image has {width} x {height} pixels, more than {max_pixels}; send a smaller one")
    if not width * height:
        raise InvalidImage(f"the image has {width} x {height} pixels, none at all; send one that shows something")


def _check_still(image: Image.Image) -> None:
    if getattr(image, "is_animated", False):
        raise InvalidImage(f"the {image.format} is animated; send one picture")


def _check_webp(body: bytes, max_pixels: int) -> None:
    """The limit, before Pillow makes room for the whole picture, which it does when it opens one. RFC 9649, 2.5 to 2.7."""
    kind = body[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(body[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(body[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    _check_pixels(max(width, 1), max(height, 1), max_pixels)  # zero, where bytes are missing, is Pillow's to name
