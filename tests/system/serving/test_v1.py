from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from system.contracts import V1Request, V1Response
from system.errors import RequestRefused, UnsupportedMedia
from system.serving import v1

JPEG, PNG, WEBP = b"\xff\xd8\xff\xe0...", b"\x89PNG\r\n\x1a\n...", b"RIFF\x08\x00\x00\x00WEBPVP8 ..."
LABELS = tuple("0123456789")


def body(*images: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}).encode()


def refusal(sent: bytes, kind: type[RequestRefused] = RequestRefused) -> str:
    with pytest.raises(RequestRefused) as caught:
        v1.parse(sent, max_images=4)
    assert type(caught.value) is kind
    return str(caught.value)


def test_images_come_back_in_order_with_the_type_of_their_signature() -> None:
    sent = body(JPEG, PNG, WEBP, JPEG)
    V1Request.model_validate_json(sent)
    assert v1.parse(sent, max_images=4) == [
        (JPEG, "image/jpeg"),
        (PNG, "image/png"),
        (WEBP, "image/webp"),
        (JPEG, "image/jpeg"),
    ]


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (b"", "truncated"),
        (b"\xff\xd8\xff\xe0", "malformed"),
        (b'{"instances": []} {}', "trailing characters"),
        (b"[]", "got `array`"),
        (b'{"inputs": []}', "unknown field `inputs`"),
        (b"{}", "missing required field `instances`"),
        (b'{"instances": {"b64": ""}}', "got `object` - at `$.instances`"),
        (b'{"instances": ["/9j/"]}', "got `str` - at `$.instances[0]`"),
        (b'{"instances": [{"b64": "/9j/"}, {"image": {"b64": "/9j/"}}]}', "unknown field `image` - at `$.instances[1]`"),
        (b'{"instances": [{"b64": 7}]}', "Expected `bytes`, got `int` - at `$.instances[0].b64`"),
        (b'{"instances": [{"b64": null}]}', "got `null` - at `$.instances[0].b64`"),
        (b'{"instances": [{"b64": "/9j"}]}', "Invalid base64"),
        (b'{"instances": [{"b64": "_9j_"}]}', "Invalid base64"),
        (b'{"instances": [{"b64": "/9j/\\n/9j/"}]}', "without line breaks"),
        (b'{"instances": []}', "holds 0 images; send 1 to 4"),
        (body(*[JPEG] * 5), "holds 5 images; send 1 to 4"),
    ],
)
def test_a_refusal_names_field_kind_and_remedy(sent: bytes, named: str) -> None:
    assert named in refusal(sent)


def test_bytes_that_are_no_image_are_named_by_their_place_and_not_shown() -> None:
    message = refusal(body(JPEG, b"GIF89a-secret"), UnsupportedMedia)
    assert "`instances[1]` holds 13 bytes" in message
    assert "image/webp" in message
    assert "secret" not in message


def test_a_message_does_not_grow_with_what_was_sent() -> None:
    assert len(refusal(json.dumps({"x" * 100_000: 1}).encode())) < 500


def test_the_answer_is_the_documented_one_and_reads_back_exactly() -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(10), 3).astype(np.float32)
    read = V1Response.model_validate_json(v1.render((probabilities.tolist(), probabilities.argmax(1).tolist()), LABELS))
    assert np.array_equal(np.array([one.probabilities for one in read.predictions], np.float32), probabilities)
    assert [one.label for one in read.predictions] == [LABELS[index] for index in probabilities.argmax(1)]
    assert [one.confidence for one in read.predictions] == probabilities.max(1).tolist()


@given(st.binary())
@example(b'{"instances":' + b"[" * 100_000)
@example(b'{"instances":[{"b64":"\\ud800"}]}')
@example(b'{"instances":[{"b\x80":""}]}')
@example(b'{"instances":[{"b64":"\xff"}]}')
def test_any_bytes_are_images_or_refused(sent: bytes) -> None:
    with suppress(RequestRefused):
        assert v1.parse(sent, max_images=4)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary().map(lambda raw: base64.b64encode(raw).decode()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64", "instances"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_json_is_images_or_refused(instances: Any) -> None:
    with suppress(RequestRefused):
        assert v1.parse(json.dumps({"instances": instances}).encode(), max_images=4)
