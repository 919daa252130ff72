"""Ten thousand images that want to do harm, the same ones for the same seed.

`corpus` gives what is built by hand first (bombs, lies, polyglots, odd but honest files), then mutations of honest seeds. Honest
files are among them on purpose: whoever refuses everything fails too.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"
SIGNATURES = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG\r\n\x1a\n", WEBP: b"RIFF\x24\0\0\0WEBPVP8 "}


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request's image.

    Attributes:
        name: of its kind and, for a mutation, of the seed and the steps; unique within a corpus.
        body: the bytes.
        media_type: what the sender declares; ASCII, not always the truth.
    """

    name: str
    body: bytes
    media_type: str


def corpus(count: int, seed: int) -> Iterator[Hostile]:
    """The first `count` of an endless sequence that `seed` decides."""
    return islice(_endless(seed), count)


def _endless(seed: int) -> Iterator[Hostile]:
    rng = random.Random(seed)
    seeds = list(honest())
    yield from seeds
    yield from _crafted(rng)
    number = 0
    while True:
        origin = rng.choice(seeds)
        body, steps = origin.body, []
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            mutation = rng.choice(_MUTATIONS)
            body = mutation(body, rng)
            steps.append(mutation.__name__.strip("_"))
        declared = origin.media_type if rng.random() < 0.97 else rng.choice((JPEG, PNG, WEBP, "image/gif", "text/html", ""))
        number += 1
        yield Hostile(f"{number} {origin.name}: {', '.join(steps)}", body, declared)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 48, height: int = 40) -> Image.Image:
    """Gradients with noise: something for every coder to do."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 24, (height, width))
    planes = (x * 200 // max(width - 1, 1) + noise, y * 200 // max(height - 1, 1) + noise, (x + y) % 200 + noise)
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block, without its marker, that holds nothing but the orientation."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk whose CRC is right."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes, form: bytes = b"\x08\2\0\0\0", extra: bytes = b"") -> bytes:
    """A PNG by hand: `form` is depth, colour type, 0, 0 and interlacing, `data` the IDAT, `extra` chunks in front of it."""
    header = struct.pack(">II", width, height) + form
    return SIGNATURES[PNG] + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP container by hand."""
    body = b"".join(kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def interlaced() -> bytes:
    """8 x 8 grey in Adam7 order, which Pillow reads and does not write."""
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = (row for y, x, down, right in passes for row in values[y::down, x::right])
    return png(8, 8, zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)), b"\x08\0\0\0\1")


def sized(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header lies about its size."""
    frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) + 5
    return jpeg[:frame] + struct.pack(">HH", height, width) + jpeg[frame + 4 :]


def honest() -> Iterator[Hostile]:
    """Whole files of every kind that the service must take, animations apart, which it refuses."""
    rgb = picture()
    cmyk = encode(rgb.convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe") + 11  # where the colour transform stands: 0 is CMYK, 2 is YCCK
    bodies: dict[str, tuple[str, bytes]] = {
        "jpeg": (JPEG, encode(rgb, "JPEG")),
        "jpeg 4:4:4": (JPEG, encode(rgb, "JPEG", subsampling=0)),
        "jpeg progressive": (JPEG, encode(rgb, "JPEG", progressive=True)),
        "jpeg restarts": (JPEG, encode(rgb, "JPEG", restart_marker_blocks=2)),
        "jpeg grey": (JPEG, encode(rgb.convert("L"), "JPEG")),
        "jpeg cmyk": (JPEG, cmyk),
        "jpeg ycck": (JPEG, cmyk[:adobe] + b"\2" + cmyk[adobe + 1 :]),
        "jpeg large": (JPEG, encode(picture(300, 200), "JPEG")),
        "jpeg 1x1": (JPEG, encode(picture(1, 1), "JPEG")),
        "jpeg 1x20000": (JPEG, encode(picture(1, 20_000), "JPEG")),
        "jpeg 20000x1": (JPEG, encode(picture(20_000, 1), "JPEG")),
        "png interlaced": (PNG, interlaced()),
        "png 16 bit": (PNG, encode(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40), "PNG")),
        "png palette with transparency": (PNG, encode(rgb.quantize(16), "PNG", transparency=b"\0\x80\xff")),
        "png 1x1": (PNG, encode(picture(1, 1), "PNG")),
        "png 1x20000": (PNG, encode(picture(1, 20_000), "PNG")),
        "png animated": (PNG, encode(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)])),
        "webp": (WEBP, encode(rgb, "WEBP")),
        "webp lossless": (WEBP, encode(rgb, "WEBP", lossless=True)),
        "webp alpha": (WEBP, encode(rgb.convert("RGBA").rotate(45), "WEBP")),
        "webp 1x1": (WEBP, encode(picture(1, 1), "WEBP")),
        "webp 1x16383": (WEBP, encode(picture(1, 16_383), "WEBP", method=0)),
        "webp animated": (WEBP, encode(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)])),
    }
    bodies |= {f"png {mode}": (PNG, encode(rgb.convert(mode), "PNG")) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")}
    for way in range(1, 9):
        bodies[f"jpeg turned {way}"] = (JPEG, encode(rgb, "JPEG", exif=b"Exif\0\0" + exif(way, "<>"[way % 2])))
    bodies["png turned"] = (PNG, encode(rgb, "PNG", exif=exif(6)))
    bodies["webp turned"] = (WEBP, encode(rgb, "WEBP", exif=exif(8)))
    for name, (media_type, body) in bodies.items():
        yield Hostile(name, body, media_type)


def _crafted(rng: random.Random) -> Iterator[Hostile]:
    yield from _systematic()
    yield from _bombs()
    yield from _polyglots()
    for media_type, signature in SIGNATURES.items():
        yield Hostile(f"{media_type} empty", b"", media_type)
        yield Hostile(f"{media_type} one byte", b"\0", media_type)
        yield Hostile(f"{media_type} zeros", bytes(10_000), media_type)
        for length in range(1, len(signature) + 1):
            yield Hostile(f"{media_type} signature {length}", signature[:length], media_type)
        for length in (1, 10, 100, 1_000, 10_000, 100_000):
            for again in range(5):
                body = signature + rng.randbytes(length)
                yield Hostile(f"{media_type} random {length} {again}", body, media_type)
    gif = encode(picture(), "GIF")
    for declared in (*SIGNATURES, "image/gif"):
        yield Hostile(f"gif as {declared}", gif, declared)
    for declared in ("", "image/*", "IMAGE/JPEG", "image/jpeg; q=1", "image/svg+xml", "a" * 1_000):
        yield Hostile(f"jpeg as {declared[:40]!r}", encode(picture(), "JPEG"), declared)


def _systematic() -> Iterator[Hostile]:
    """Every place of a cut, every form of a PNG."""
    flat = zlib.compress(bytes(32 * 97))
    for depth in (0, 1, 2, 3, 4, 8, 16, 17, 255):
        for colour in range(8):
            yield Hostile(f"png depth {depth} colour {colour}", png(32, 32, flat, bytes((depth, colour, 0, 0, 0))), PNG)
    for kind, media_type in (("JPEG", JPEG), ("PNG", PNG), ("WEBP", WEBP)):
        body = encode(picture(8, 8), kind)
        for end in range(0, len(body), 5):
            yield Hostile(f"{kind} cut at {end}", body[:end], media_type)


def _bombs() -> Iterator[Hostile]:
    """Small files that ask for much memory or time, and sizes of zero."""
    jpeg, progressive = encode(picture(), "JPEG"), encode(picture(), "JPEG", progressive=True)
    zeros, flat = zlib.compress(bytes(50_000_000), 9), zlib.compress(bytes(32 * 97))
    vp8, vp8l = encode(picture(8, 8), "WEBP"), encode(picture(8, 8), "WEBP", lossless=True)
    last = progressive.rindex(b"\xff\xda")
    texts = {b"zTXt": b"a\0\0" + zeros, b"iTXt": b"a\0\1\0\0\0" + zeros, b"iCCP": b"a\0\0" + zeros, b"tEXt": b"a\0" * 50_000}
    for width, height in ((65_535, 65_535), (65_500, 65_500), (65_500, 1), (0, 0), (0, 40), (40, 0), (1, 65_535), (1_999, 1_000)):
        yield Hostile(f"jpeg says {width} x {height}", sized(jpeg, width, height), JPEG)
        yield Hostile(f"progressive jpeg says {width} x {height}", sized(progressive, width, height), JPEG)
        yield Hostile(f"png says {width} x {height}", png(width, height, zeros), PNG)
        canvas = bytes(4) + max(width - 1, 0).to_bytes(3, "little") + max(height - 1, 0).to_bytes(3, "little")
        yield Hostile(f"webp canvas {width} x {height}", riff((b"VP8X", canvas), (b"VP8 ", vp8[20:])), WEBP)
    yield Hostile("png says 2^31 - 1", png(2**31 - 1, 2**31 - 1, zeros), PNG)
    yield Hostile("png says 2^32 - 1", png(2**32 - 1, 2**32 - 1, zeros), PNG)
    yield Hostile("png has far more data than pixels", png(32, 32, zeros), PNG)
    yield Hostile("webp says 16383 x 16383", vp8[:26] + b"\xff\x3f\xff\x3f" + vp8[30:], WEBP)
    yield Hostile("webp lossless says 16384 x 16384", vp8l[:21] + b"\xff\xff\xff\x0f" + vp8l[25:], WEBP)
    yield Hostile("webp of one colour, 1400 x 1400", encode(Image.new("RGBA", (1400, 1400)), "WEBP", lossless=True), WEBP)
    for kind, content in texts.items():
        yield Hostile(f"png {kind.decode()} inflates", png(32, 32, flat, extra=chunk(kind, content)), PNG)
        yield Hostile(f"png {kind.decode()} 70 times", png(32, 32, flat, extra=chunk(kind, content) * 70), PNG)
    yield Hostile("png of 20000 chunks", png(32, 32, flat, extra=chunk(b"prVt", b"") * 20_000), PNG)
    yield Hostile("png says 4 billion frames", png(32, 32, flat, extra=chunk(b"acTL", b"\xff" * 8)), PNG)
    yield Hostile("png text called exif", png(32, 32, flat, extra=chunk(b"tEXt", b"exif\0x")), PNG)
    yield Hostile("png text called transparency", png(32, 32, flat, extra=chunk(b"tEXt", b"transparency\0x")), PNG)
    for times in (50, 90, 5_000):
        yield Hostile(f"jpeg of {times} scans", progressive[:-2] + progressive[last:-2] * times + progressive[-2:], JPEG)
    yield Hostile("jpeg with 4 MB of heads", jpeg[:2] + (b"\xff\xe2\xff\xff" + bytes(65_533)) * 60 + jpeg[2:], JPEG)
    yield Hostile("jpeg with 200000 fill bytes", jpeg[:2] + b"\xff" * 200_000 + jpeg[2:], JPEG)
    for name, block in (("points at itself", exif(6)[:4] + struct.pack("<IH", 8, 65_535)), ("empty", b""), ("cut", exif(6)[:12])):
        yield Hostile(f"jpeg exif {name}", encode(picture(), "JPEG", exif=b"Exif\0\0" + block), JPEG)


def _polyglots() -> Iterator[Hostile]:
    jpeg, still, webp = encode(picture(), "JPEG"), encode(picture(), "PNG"), encode(picture(), "WEBP")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(zipfile.ZipInfo("payload.py"), "print(0)")  # a bare name would get today's date
    page = b"<html><script>alert(1)</script></html>"
    for media_type, body in ((JPEG, jpeg), (PNG, still), (WEBP, webp)):
        for name, tail in (("zip", archive.getvalue()), ("page", page), ("another", jpeg), ("zeros", bytes(100_000))):
            yield Hostile(f"{media_type} then {name}", body + tail, media_type)
            yield Hostile(f"{name} then {media_type}", tail + body, media_type)
        for declared in SIGNATURES:
            yield Hostile(f"{media_type} declared {declared}", body, declared)
    comment = b"\xff\xfe" + struct.pack(">H", len(page) + 2) + page
    yield Hostile("jpeg with a page in a comment", jpeg[:2] + comment + jpeg[2:], JPEG)
    yield Hostile("png with a page in a text", still[:33] + chunk(b"tEXt", b"a\0" + page) + still[33:], PNG)
    yield Hostile("jpeg inside png's signature", SIGNATURES[PNG] + jpeg, PNG)
    yield Hostile("jpeg inside a png's chunk", png(32, 32, jpeg), PNG)


def _parts(body: bytes) -> list[tuple[int, int]]:
    """First byte and end of each chunk or segment, as far as the container can be followed."""
    at, found = {b"\x89": 8, b"\xff": 2, b"R": 12}.get(body[:1], len(body)), []
    while at + 8 <= len(body):
        if body[:1] == b"\x89":
            end = at + 12 + int.from_bytes(body[at : at + 4], "big")
        elif body[:1] == b"R":
            length = int.from_bytes(body[at + 4 : at + 8], "little")
            end = at + 8 + length + length % 2
        else:
            end = at + 2 + int.from_bytes(body[at + 2 : at + 4], "big")
        if end > len(body):
            break
        found.append((at, end))
        at = end
    return found or [(0, len(body))]


def _cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randint(0, len(body))]


def _cut_at_a_part(body: bytes, rng: random.Random) -> bytes:
    return body[: max(0, rng.choice(rng.choice(_parts(body))) + rng.randint(-2, 12))]


def _flip_bits(body: bytes, rng: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.choice((1, 2, 8, 64)) if body else 0):
        changed[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_in_head(body: bytes, rng: random.Random) -> bytes:
    return _flip_bits(body[:64], rng) + body[64:]


def _overwrite(body: bytes, rng: random.Random) -> bytes:
    at, length = rng.randint(0, len(body)), rng.choice((1, 4, 16, 64))
    filling = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return body[:at] + filling + body[at + length :]


def _insert(body: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(body))
    return body[:at] + rng.randbytes(rng.choice((1, 4, 64, 5_000))) + body[at:]


def _delete_part(body: bytes, rng: random.Random) -> bytes:
    start, end = rng.choice(_parts(body))
    return body[:start] + body[end:]


def _repeat_part(body: bytes, rng: random.Random) -> bytes:
    start, end = rng.choice(_parts(body))
    return body[:end] + body[start:end] * rng.choice((1, 1, 3, 20)) + body[end:]


def _move_part(body: bytes, rng: random.Random) -> bytes:
    parts = _parts(body)
    (start, end), (target, _) = rng.choice(parts), rng.choice(parts)
    rest = body[:start] + body[end:]
    return rest[:target] + body[start:end] + rest[target:]


def _lie_about_length(body: bytes, rng: random.Random) -> bytes:
    start, _ = rng.choice(_parts(body))
    at = start + {b"\x89": 0, b"R": 4}.get(body[:1], 2)
    lie = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", rng.randbytes(4)))
    length = 2 if body[:1] == b"\xff" else 4
    return body[:at] + lie[:length] + body[at + length :]


def _edit_part(body: bytes, rng: random.Random) -> bytes:
    """Bytes within a part; a PNG's CRC is put right, so that the damage gets behind it."""
    start, end = rng.choice(_parts(body))
    is_png = body[:1] == b"\x89" and end - start > 12
    first, last = (start + 8, end - 4) if is_png else (start, end)
    changed = _flip_bits(body[first:last], rng)
    if is_png:
        return body[:start] + chunk(body[start + 4 : start + 8], changed) + body[end:]
    return body[:first] + changed + body[last:]


def _append_itself(body: bytes, rng: random.Random) -> bytes:
    return body + body[rng.randint(0, len(body)) :]


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut,
    _cut_at_a_part,
    _flip_bits,
    _flip_in_head,
    _overwrite,
    _insert,
    _delete_part,
    _repeat_part,
    _move_part,
    _lie_about_length,
    _edit_part,
    _edit_part,
    _append_itself,
)
