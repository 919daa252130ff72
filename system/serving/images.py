"""From a request's body to one encoded image, its content and its media type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import simplejpeg
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from system.contracts import FORM_TYPE
from system.errors import RequestRefused, UnsupportedMedia
from system.model.transform import MEDIA_TYPES, PNG, WEBP, sniff

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Image = tuple[bytes, str]

_UNDECLARED = ("", "application/octet-stream")
_LIGHT_BYTES = 200_000
_LIGHT_PIXELS = 1_000_000
_SUPPORTED = f"{', '.join(MEDIA_TYPES)} or {FORM_TYPE}"
_RAW = {media_type.encode(): media_type for media_type in MEDIA_TYPES}


def is_light(content: bytes, media_type: str) -> bool:
    """Whether decoding takes a few milliseconds at most, so that it may happen in the event loop.

    Few bytes can hold many pixels, so the header tells. A WebP's has three forms, and 38 bytes can take a second: none is light.
    """
    if len(content) > _LIGHT_BYTES or media_type == WEBP:
        return False
    if media_type == PNG:
        return int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big") <= _LIGHT_PIXELS
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return True  # it is refused, and that is quick
    return bool(height * width <= _LIGHT_PIXELS)


def parse_media(sent: bytes | None) -> tuple[str, bytes]:
    """The media type, lower case and without parameters, and a form's boundary (else empty).

    Raises:
        UnsupportedMedia: neither an image type that the model takes nor a form.
        RequestRefused: a form without a boundary.
    """
    if sent in _RAW:  # the usual case needs no parsing
        return _RAW[sent], b""
    media, options = parse_options_header(sent)
    media_type = media.decode("latin-1")
    if media_type == FORM_TYPE:
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise RequestRefused(f"{FORM_TYPE} has no boundary; let the HTTP library write the Content-Type")
        return media_type, boundary
    if media_type not in MEDIA_TYPES:
        raise UnsupportedMedia(f"content type {media_type[:80]!r} is not supported; send {_SUPPORTED}")
    return media_type, b""


def single_image(body: bytes, media_type: str, boundary: bytes) -> Image:
    """The image in a body of the given type, and the image's own type.

    Raises:
        UnsupportedMedia: the form's file is of another type.
        RequestRefused: the form is malformed, cut short, or has not exactly one file.
    """
    if media_type != FORM_TYPE:
        return body, media_type
    files = _files(body, boundary)
    if len(files) != 1:
        raise RequestRefused(f"the form has {len(files)} files; send exactly one image")
    image, declared = files[0]
    if declared in _UNDECLARED:
        declared = sniff(image) or declared
    if declared not in MEDIA_TYPES:
        raise UnsupportedMedia(f"the form's file is of type {declared[:80]!r}, not supported; send {', '.join(MEDIA_TYPES)}")
    return image, declared


def _files(body: bytes, boundary: bytes) -> list[Image]:
    """Content and declared type of each part that has a file name."""
    reader = _FormReader()
    try:
        MultipartParser(boundary, reader.callbacks()).write(body)
    except FormParserError as error:
        raise RequestRefused(f"the form cannot be read: {error}") from None
    if not reader.complete:
        raise RequestRefused("the form is cut short: its last boundary is missing")
    return reader.files


class _FormReader:
    """Collects what the push parser reports."""

    def __init__(self) -> None:
        self.files: list[Image] = []
        self.complete = False
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._data: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_part_data": self._part_data,
            "on_part_end": self._part_ends,
            "on_end": self._ends,
        }

    def _part_begins(self) -> None:
        self._headers, self._data = {}, []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _part_ends(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"filename" in options:
            declared, _ = parse_options_header(self._headers.get(b"content-type"))
            self.files.append((b"".join(self._data), declared.decode("latin-1")))

    def _ends(self) -> None:
        self.complete = True
