from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system.errors import RequestRefused, UnsupportedMedia
from system.serving.images import is_light, parse_media, single_image

JPEG, PNG = b"\xff\xd8\xff\xe0...", b"\x89PNG\r\n\x1a\n..."
FORM = "multipart/form-data"


def part(content: bytes, *, filename: str | None = "a.jpg", content_type: str | None = None) -> bytes:
    disposition = 'Content-Disposition: form-data; name="file"' + (f'; filename="{filename}"' if filename is not None else "")
    lines = [disposition, *([f"Content-Type: {content_type}"] if content_type else [])]
    return b"--B\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("image/jpeg", ("image/jpeg", b"")),
        ("IMAGE/PNG", ("image/png", b"")),
        ("image/jpeg; q=1", ("image/jpeg", b"")),
        ('multipart/form-data; boundary="a b"', (FORM, b"a b")),
    ],
)
def test_media_types_are_understood(content_type: str, expected: tuple[str, bytes]) -> None:
    assert parse_media(content_type.encode()) == expected


@pytest.mark.parametrize("sent", [None, b"", b"image/gif", b"image/jpg", b"multipart/mixed; boundary=B", b"text/plain"])
def test_other_media_types_are_refused(sent: bytes | None) -> None:
    with pytest.raises(UnsupportedMedia, match="send image/jpeg, image/png, image/webp or multipart/form-data"):
        parse_media(sent)


def test_a_form_needs_a_boundary() -> None:
    with pytest.raises(RequestRefused, match="no boundary"):
        parse_media(FORM.encode())


def test_a_raw_body_is_the_image() -> None:
    assert single_image(b"anything", "image/png", b"") == (b"anything", "image/png")


@pytest.mark.parametrize(
    ("content", "declared", "expected"),
    [
        (JPEG, None, "image/jpeg"),
        (PNG, "application/octet-stream", "image/png"),
        (PNG, "image/jpeg", "image/jpeg"),  # what is declared holds; decoding will say that it is wrong
        (JPEG, "Image/JPEG; x=y", "image/jpeg"),
    ],
)
def test_the_file_of_a_form_is_found_among_fields(content: bytes, declared: str | None, expected: str) -> None:
    body = part(b"text", filename=None) + part(content, content_type=declared) + b"--B--\r\n"
    assert single_image(body, FORM, b"B") == (content, expected)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"--B--\r\n", "0 files"),
        (part(b"x", filename=None) + b"--B--\r\n", "0 files"),
        (part(JPEG) + part(PNG) + b"--B--\r\n", "2 files"),
        (part(JPEG), "cut short"),
        (part(JPEG)[:-9], "cut short"),
        (b"", "cut short"),
        (b"no form at all", "cannot be read"),
    ],
)
def test_a_form_that_is_not_one_whole_file_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        single_image(body, FORM, b"B")


@pytest.mark.parametrize(("content", "declared"), [(b"GIF89a", None), (JPEG, "image/gif"), (b"", "application/octet-stream")])
def test_a_file_of_another_type_is_refused(content: bytes, declared: str | None) -> None:
    with pytest.raises(UnsupportedMedia):
        single_image(part(content, content_type=declared) + b"--B--\r\n", FORM, b"B")


@given(st.binary(max_size=300))
def test_any_image_survives_the_form(content: bytes) -> None:
    boundary = b"a-boundary-that-no-random-bytes-hold"
    body = (
        part(content, content_type="image/png").replace(b"--B\r\n", b"--" + boundary + b"\r\n", 1) + b"--" + boundary + b"--\r\n"
    )
    assert single_image(body, FORM, boundary) == (content, "image/png")


@given(st.binary(max_size=300))
def test_hostile_forms_are_refused_or_read_never_a_crash(body: bytes) -> None:
    try:
        single_image(b"--B\r\n" + body, FORM, b"B")
    except RequestRefused as error:
        assert str(error)  # noqa: PT017 - reading it without an error is fine too


def _png(side: int) -> bytes:
    return PNG[:8] + bytes(8) + side.to_bytes(4, "big") * 2


def test_what_may_take_long_to_decode_is_not_light(make_picture: Any) -> None:
    assert is_light(make_picture("JPEG", (40, 30)), "image/jpeg")
    assert not is_light(make_picture("JPEG", (1001, 1000)), "image/jpeg")
    assert not is_light(make_picture("JPEG", (40, 30)) + bytes(200_000), "image/jpeg")
    assert is_light(b"no JPEG at all", "image/jpeg")
    assert is_light(_png(1000), "image/png")
    assert not is_light(_png(1001), "image/png")
    assert not is_light(_png(1) + bytes(200_000), "image/png")
    assert not is_light(make_picture("WEBP", (40, 30)), "image/webp")
