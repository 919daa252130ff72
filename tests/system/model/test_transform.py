from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from system.errors import InvalidImage, UnsupportedMedia
from system.model.transform import JPEG, PNG, Pixels, to_tensor

LIMIT = 1_000_000


def encode(pixels: np.ndarray[Any, Any] | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(width: int, height: int) -> Pixels:
    """A picture that survives JPEG: gradients, one per channel."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1)
    return np.stack([red, green, (red + green) / 2], axis=-1).astype(np.uint8)


def tensor(body: bytes, media_type: str) -> Pixels:
    return to_tensor(body, media_type, max_pixels=LIMIT)


def test_a_png_of_the_right_size_is_taken_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = tensor(encode(pixels, "PNG"), PNG)
    assert found.shape == (1, 32, 32, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found[0], pixels)


@pytest.mark.parametrize(
    "size", [(32, 32), (33, 40), (64, 64), (96, 96), (256, 256), (480, 360), (1000, 700), (20, 300), (900, 40), (1, 1)]
)
def test_jpeg_and_png_of_one_picture_agree(size: tuple[int, int]) -> None:
    pixels = smooth(*size)
    jpeg = tensor(encode(pixels, "JPEG", quality=95, subsampling=0), JPEG)
    png = tensor(encode(pixels, "PNG"), PNG)
    assert jpeg.shape == png.shape == (1, 32, 32, 3)
    assert np.abs(jpeg.astype(int) - png.astype(int)).max() <= 16
    assert np.abs(jpeg.astype(int) - png.astype(int)).mean() <= 2.5


def test_channels_are_red_green_blue() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    for body, media_type in ((encode(red, "JPEG"), JPEG), (encode(red, "PNG"), PNG)):
        means = tensor(body, media_type)[0].mean(axis=(0, 1))
        assert means[0] > 250
        assert max(means[1], means[2]) < 5


def test_a_large_picture_is_averaged_not_sampled() -> None:
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    found = tensor(encode(stripes, "PNG"), PNG)
    assert np.abs(found.astype(int) - 127).max() <= 1


def test_progressive_and_grey_jpegs_are_taken() -> None:
    pixels = smooth(64, 64)
    plain = tensor(encode(pixels, "JPEG"), JPEG)
    progressive = tensor(encode(pixels, "JPEG", progressive=True), JPEG)
    np.testing.assert_array_equal(plain, progressive)
    grey = tensor(encode(pixels[..., 0], "JPEG"), JPEG)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])


def test_cmyk_jpeg_becomes_rgb() -> None:
    picture = Image.fromarray(smooth(64, 64))
    found = tensor(encode(picture.convert("CMYK"), "JPEG", quality=95), JPEG)
    assert np.abs(found.astype(int) - tensor(encode(picture, "PNG"), PNG).astype(int)).mean() < 6


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65_535, 32 * 32).astype(np.uint16).reshape(32, 32)
    found = tensor(encode(ramp, "PNG"), PNG)
    np.testing.assert_array_equal(found[0, ..., 0], ramp >> 8)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_modes_without_colour_or_with_a_palette_become_rgb(mode: str) -> None:
    picture = Image.fromarray(smooth(32, 32)).convert(mode)
    np.testing.assert_array_equal(tensor(encode(picture, "PNG"), PNG)[0], np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(mode: str) -> None:
    clear = Image.new(mode, (32, 32), (0,) * len(mode))
    assert tensor(encode(clear, "PNG"), PNG).min() == 255


def test_a_transparent_palette_entry_is_white() -> None:
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    assert tensor(encode(picture, "PNG", transparency=0), PNG).min() == 255


@pytest.mark.parametrize("media_type", ["image/gif", "text/plain", "", "image/JPEG"])
def test_another_media_type_is_refused(media_type: str) -> None:
    with pytest.raises(UnsupportedMedia, match="send image/jpeg or image/png"):
        tensor(b"x", media_type)


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", JPEG), ("PNG", PNG)])
@pytest.mark.parametrize("body", [b"", b"x", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(100)])
def test_what_is_no_image_is_refused(kind: str, media_type: str, body: bytes) -> None:
    with pytest.raises(InvalidImage, match=f"the body is not a whole {kind}"):
        tensor(body, media_type)


def test_the_declared_type_must_be_the_real_one() -> None:
    pixels = smooth(32, 32)
    with pytest.raises(InvalidImage):
        tensor(encode(pixels, "PNG"), JPEG)
    with pytest.raises(InvalidImage):
        tensor(encode(pixels, "JPEG"), PNG)


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", JPEG), ("PNG", PNG)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_refused(kind: str, media_type: str, share: float) -> None:
    body = encode(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8), kind)
    with pytest.raises(InvalidImage):
        tensor(body[: int(len(body) * share)], media_type)


def test_a_jpeg_without_its_last_marker_is_refused() -> None:
    with pytest.raises(InvalidImage, match="Premature end"):
        tensor(encode(smooth(32, 32), "JPEG")[:-2], JPEG)


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", JPEG), ("PNG", PNG)])
def test_more_pixels_than_the_limit_are_refused(kind: str, media_type: str) -> None:
    body = encode(smooth(100, 50), kind)
    assert to_tensor(body, media_type, max_pixels=5_000).shape == (1, 32, 32, 3)
    with pytest.raises(InvalidImage, match="the image has 100 x 50 pixels, more than 4999"):
        to_tensor(body, media_type, max_pixels=4_999)


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(InvalidImage, match="65535 x 65535 pixels"):
        tensor(png(65_535, 65_535, zlib.compress(bytes(1000))), PNG)
    jpeg = encode(smooth(32, 32), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    with pytest.raises(InvalidImage, match="65500 x 65500 pixels"):
        tensor(jpeg[:frame] + struct.pack(">HH", 65_500, 65_500) + jpeg[frame + 4 :], JPEG)


def test_a_text_chunk_that_inflates_is_refused() -> None:
    body = png(32, 32, zlib.compress(bytes(32 * 97)))
    text = b"Comment\0\0" + zlib.compress(bytes(100_000_000))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    with pytest.raises(InvalidImage):
        tensor(body[:33] + chunk + body[33:], PNG)


def test_a_progressive_jpeg_with_endless_scans_is_refused() -> None:
    jpeg = encode(smooth(64, 64), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    with pytest.raises(InvalidImage, match="more than 100 scans"):
        tensor(jpeg[:-2] + jpeg[last:-2] * 200 + jpeg[-2:], JPEG)


@given(data=st.data())
def test_damaged_bytes_are_refused_or_decoded_never_more(data: st.DataObject) -> None:
    kind, media_type = data.draw(st.sampled_from([("JPEG", JPEG), ("PNG", PNG)]))
    body = bytearray(encode(smooth(40, 40), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidImage):
        assert tensor(bytes(body), media_type).shape == (1, 32, 32, 3)


def test_the_transform_needs_no_torch() -> None:
    code = (
        "import sys, system.model.transform, system.model.artifact; sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
