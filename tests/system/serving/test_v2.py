"""Both directions against Triton's own client: what it writes is read, what is answered it reads."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from system.contracts import HEADER_LENGTH_HEADER, V2InferRequest, V2InferResponse, V2Model, V2Server
from system.errors import RequestRefused, UnsupportedMedia
from system.serving import v2

JPEG, PNG = b"\xff\xd8\xff\xe0...", b"\x89PNG\r\n\x1a\n..."
LABELS = ("zero", "one", "zw\u00f6lf")
SIDE = 4
ALL = ("probabilities", "label", "confidence")
IMAGE = {"name": "image", "shape": [1], "datatype": "BYTES"}
PIXELS = {"name": "pixels", "shape": [1, SIDE, SIDE, 3], "datatype": "UINT8"}
TEXT = base64.b64encode(JPEG).decode()
NUMBERS = SIDE * SIDE * 3


def parse(body: bytes, length: bytes | None = None) -> v2.Request:
    return v2.parse(body, length, max_images=4, side=SIDE)


def in_json(*inputs: dict[str, Any], **members: Any) -> bytes:
    return json.dumps({"inputs": inputs, **members}).encode()


def prefixed(*images: bytes) -> bytes:
    return b"".join(len(image).to_bytes(4, "little") + image for image in images)


def binary(tensor: dict[str, Any], raw: bytes, size: int | None = None) -> tuple[bytes, bytes]:
    """A body with a binary tensor, and the length of its JSON."""
    head = in_json(tensor | {"parameters": {"binary_data_size": len(raw) if size is None else size}})
    return head + raw, str(len(head)).encode()


def refusal(body: bytes, length: bytes | None = None) -> str:
    with pytest.raises(RequestRefused) as caught:
        parse(body, length)
    assert type(caught.value) is RequestRefused
    return str(caught.value)


def from_client(tensor: InferInput, **options: Any) -> v2.Request:
    body, length = InferenceServerClient.generate_request_body([tensor], **options)
    return parse(body, None if length is None else str(length).encode())


def image_input(images: list[bytes]) -> InferInput:
    tensor = InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, np.object_))
    return tensor


def pixel_input(pixels: np.ndarray[Any, Any], *, binary_data: bool) -> InferInput:
    tensor = InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary_data)
    return tensor


def probabilities(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(count).dirichlet(np.ones(len(LABELS)), count).astype(np.float32)


def answer(request: v2.Request, count: int) -> tuple[bytes, dict[bytes, bytes]]:
    found = probabilities(count)
    body, headers = v2.render(request, (found.tolist(), found.argmax(1).tolist()), model="digits", version="7", labels=LABELS)
    return body, dict(headers)


@given(st.lists(st.binary().map(lambda tail: JPEG + tail), min_size=1, max_size=4))
def test_the_clients_binary_images_arrive_as_they_were(images: list[bytes]) -> None:
    request = from_client(image_input(images), request_id="r-1")
    assert request.images == [(image, "image/jpeg") for image in images]
    assert request.pixels is None
    assert request.id == "r-1"
    assert request.outputs == tuple((name, True) for name in ALL)  # the client asks for binary when it names no output


@pytest.mark.parametrize("binary_data", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_the_clients_pixels_arrive_as_they_were(count: int, *, binary_data: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    request = from_client(pixel_input(pixels, binary_data=binary_data))
    assert request.images is None
    assert request.pixels is not None
    assert request.pixels.dtype == np.uint8
    assert np.array_equal(request.pixels, pixels)


def test_base64_strings_in_json_are_images() -> None:
    tensor = IMAGE | {"shape": [2], "data": [TEXT, base64.b64encode(PNG).decode()], "parameters": {"content_type": "base64"}}
    body = in_json(tensor, model_name="ignored")
    V2InferRequest.model_validate_json(body)
    request = parse(body)
    assert request.images == [(JPEG, "image/jpeg"), (PNG, "image/png")]
    assert request.outputs == tuple((name, False) for name in ALL)


def test_a_length_that_covers_the_whole_body_is_allowed() -> None:
    body = in_json(IMAGE | {"data": [TEXT]})
    assert parse(body, str(len(body)).encode()) == parse(body)


def test_pixels_in_json_may_be_nested() -> None:
    pixels = np.arange(NUMBERS, dtype=np.uint8).reshape(1, SIDE, SIDE, 3)
    request = parse(in_json(PIXELS | {"data": pixels.tolist()}))
    assert request.pixels is not None
    assert np.array_equal(request.pixels, pixels)


@pytest.mark.parametrize(
    ("outputs", "everything", "expected"),
    [
        (None, False, [(name, False) for name in ALL]),
        (None, True, [(name, True) for name in ALL]),
        ([], True, [(name, True) for name in ALL]),
        ([{"name": "confidence"}, {"name": "label"}], True, [("confidence", True), ("label", True)]),
        ([{"name": "label", "parameters": {"binary_data": False}}], True, [("label", False)]),
        (
            [{"name": "label", "parameters": {"binary_data": True}}, {"name": "confidence"}],
            False,
            [("label", True), ("confidence", False)],
        ),
        ([{"name": "label", "parameters": {}}], True, [("label", True)]),
    ],
)
def test_an_outputs_own_parameter_goes_before_the_requests(outputs: Any, expected: Any, *, everything: bool) -> None:
    body = in_json(IMAGE | {"data": [TEXT]}, outputs=outputs, parameters={"binary_data_output": everything})
    assert list(parse(body).outputs) == expected


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "truncated"),
        (b"[]", "got `array`"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs": []} {}', "trailing characters"),
        (JPEG, HEADER_LENGTH_HEADER),
        (in_json(), "holds 0 tensors (none); send one, `image` or `pixels`"),
        (in_json(IMAGE | {"data": [TEXT]}, PIXELS | {"data": [0] * NUMBERS}), "holds 2 tensors ('image', 'pixels')"),
        (in_json(IMAGE | {"name": "input0", "data": [TEXT]}), "no input 'input0'"),
        (in_json(IMAGE | {"datatype": "UINT8", "data": [TEXT]}), "`image` is sent as 'UINT8'; send it as BYTES"),
        (in_json(PIXELS | {"datatype": "FP32", "data": [0.5] * NUMBERS}), "`pixels` is sent as 'FP32'; send it as UINT8"),
        (in_json(IMAGE | {"shape": [], "data": [TEXT]}), "`image` has shape []; send [n]"),
        (in_json(IMAGE | {"shape": [1, 1], "data": [TEXT]}), "`image` has shape [1, 1]; send [n]"),
        (in_json(IMAGE | {"shape": [0], "data": []}), "[0]; send 1 to 4 images"),
        (in_json(IMAGE | {"shape": [-1], "data": [TEXT]}), "[-1]; send 1 to 4 images"),
        (in_json(IMAGE | {"shape": [5], "data": [TEXT] * 5}), "[5]; send 1 to 4 images"),
        (in_json(IMAGE | {"shape": [True], "data": [TEXT]}), "got `bool`"),
        (in_json(IMAGE | {"shape": [1.0], "data": [TEXT]}), "got `float`"),
        (in_json(PIXELS | {"shape": [1, SIDE, SIDE, 4], "data": []}), "[1, 4, 4, 4]; send [n, 4, 4, 3]"),
        (in_json(PIXELS | {"shape": [1] * 1000, "data": []}), "[1, 1, 1, 1, 1, ...]"),
        (in_json(IMAGE), "neither `data` nor `binary_data_size`"),
        (in_json(IMAGE | {"data": [TEXT], "parameters": {"binary_data_size": 3}}), "both `data` and `binary_data_size`"),
        (in_json(IMAGE | {"parameters": {"binary_data_size": 3}}), f"no {HEADER_LENGTH_HEADER}"),
        (in_json(IMAGE | {"parameters": {"shared_memory_region": "x"}}), "unknown field `shared_memory_region`"),
        (in_json(IMAGE | {"data": [TEXT, TEXT]}), "shape [1] and 2 elements"),
        (in_json(IMAGE | {"data": TEXT}), "not a list of base64 strings: Expected `array`, got `str`"),
        (in_json(IMAGE | {"data": None}), "not a list of base64 strings: Expected `array`, got `null`"),
        (in_json(IMAGE | {"data": ["%"]}), "raw bytes go into a binary tensor"),
        (in_json(IMAGE | {"data": [7]}), "got `int` - at `$[0]`"),
        (in_json(PIXELS | {"data": [0] * (NUMBERS - 1)}), "`pixels` has shape [1, 4, 4, 3], 48 numbers, and data of shape [47]"),
        (in_json(PIXELS | {"data": []}), "data of shape [0]"),
        (in_json(PIXELS | {"data": [[[[0, 0, 0]]]]}), "data of shape [1, 1, 1, 3]"),
        (in_json(PIXELS | {"data": [[[[0]], [[0, 0]]]]}), "whole numbers from 0 to 255"),
        (in_json(PIXELS | {"data": [256] * NUMBERS}), "Expected `int` <= 255 - at `$[0]`"),
        (in_json(PIXELS | {"data": [-1] * NUMBERS}), "Expected `int` >= 0"),
        (in_json(PIXELS | {"data": [0.5] * NUMBERS}), "got `float`"),
        (in_json(PIXELS | {"data": [True] * NUMBERS}), "got `bool`"),
        (in_json(PIXELS | {"data": [float("nan")] * NUMBERS}), "malformed"),
        (in_json(IMAGE | {"data": [TEXT]}, outputs=[{"name": "logits"}]), "asks for 'logits'; ask for any of 'probabilities'"),
        (in_json(IMAGE | {"data": [TEXT]}, outputs=[{"name": "label"}] * 2), "each once"),
        (
            in_json(IMAGE | {"data": [TEXT]}, outputs=[{"name": "label", "parameters": {"classification": 3}}]),
            "unknown field `classification`",
        ),
        (in_json(IMAGE | {"data": [TEXT]}, parameters={"sequence_id": 1}), "unknown field `sequence_id` - at `$.parameters`"),
        (in_json(IMAGE | {"data": [TEXT]}, id="x" * 257), "`id` has 257 characters"),
        (in_json(IMAGE | {"data": [TEXT]}, id=7), "got `int` - at `$.id`"),
    ],
)
def test_json_that_is_wrong_is_refused_by_what_was_sent_and_what_is_expected(body: bytes, named: str) -> None:
    assert named in refusal(body)


@pytest.mark.parametrize(
    "length", [b"", b"0", b"-1", b"+5", b" 5", b"5.0", b"0x5", b"1_0", b"99999", b"9" * 5000, "\u0665".encode()]
)
def test_a_header_length_that_is_none_is_refused(length: bytes) -> None:
    body, _ = binary(IMAGE, prefixed(JPEG))
    message = refusal(body, length)
    assert f"the body has {len(body)} bytes; send the length of the JSON" in message
    assert len(message) < 300


@pytest.mark.parametrize("off_by", [-1, 1])
def test_a_header_length_that_cuts_elsewhere_is_refused(off_by: int) -> None:
    body, length = binary(IMAGE, prefixed(JPEG))
    refusal(body, str(int(length) + off_by).encode())


@pytest.mark.parametrize(
    ("tensor", "raw", "size", "named"),
    [
        (IMAGE, prefixed(JPEG), 3, "come 11 bytes and `image` declares 3"),
        (IMAGE, prefixed(JPEG), -1, "declares -1"),
        (IMAGE, b"", None, "`image[0]` ends at byte"),
        (IMAGE, b"\x00\x00", None, "`image[0]` ends at byte"),
        (IMAGE, JPEG, None, "send each image behind its length"),  # a client that forgot it
        (IMAGE, b"\xff\xff\xff\xff" + JPEG, None, "`image[0]` ends at byte"),
        (IMAGE, prefixed(JPEG)[:-1], None, "`image[0]` ends at byte"),
        (IMAGE, prefixed(JPEG) + b"x", None, "1 bytes follow the 1 images"),
        (IMAGE, prefixed(JPEG, JPEG), None, "11 bytes follow the 1 images"),
        (IMAGE | {"shape": [2]}, prefixed(JPEG), None, "`image[1]` ends at byte"),
        (PIXELS, bytes(NUMBERS - 1), None, "48 numbers, and data of shape [47]"),
        (PIXELS, bytes(NUMBERS + 1), None, "48 numbers, and data of shape [49]"),
        (PIXELS, b"", None, "data of shape [0]"),
        (IMAGE | {"data": [TEXT]}, b"", 0, "both `data` and `binary_data_size`"),
    ],
)
def test_lengths_that_lie_are_refused(tensor: dict[str, Any], raw: bytes, size: int | None, named: str) -> None:
    assert named in refusal(*binary(tensor, raw, size))


def test_bytes_behind_json_data_are_refused() -> None:
    head = in_json(IMAGE | {"data": [TEXT]})
    assert "come 5 bytes and `image` declares 0" in refusal(head + b"extra", str(len(head)).encode())


def test_bytes_that_are_no_image_are_named_by_their_place() -> None:
    with pytest.raises(UnsupportedMedia, match=r"`image\[1\]` holds 6 bytes"):
        parse(*binary(IMAGE | {"shape": [2]}, prefixed(JPEG, b"GIF89a")))


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"identity, gzip", b"x" * 9000])
def test_a_compressed_body_is_refused(encoding: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="send the body uncompressed") as caught:
        v2.refuse_compressed(encoding)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("encoding", [None, b"", b"identity", b" Identity "])
def test_an_uncompressed_body_is_taken(encoding: bytes | None) -> None:
    v2.refuse_compressed(encoding)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("binary_names", [(), ALL, ("label",), ("probabilities", "confidence")])
def test_the_client_reads_the_answer(count: int, binary_names: tuple[str, ...]) -> None:
    wanted = [InferRequestedOutput(name, binary_data=name in binary_names) for name in reversed(ALL)]
    request = from_client(image_input([JPEG] * count), outputs=wanted, request_id="42")
    body, headers = answer(request, count)
    length = headers.get(b"inference-header-content-length")
    assert headers[b"content-type"] == (b"application/octet-stream" if binary_names else b"application/json")
    assert (length is None) == (not binary_names)
    read = InferResult.from_response_body(body, header_length=length)
    described = V2InferResponse.model_validate(read.get_response())
    assert (described.model_name, described.model_version, described.id) == ("digits", "7", "42")
    assert [one.name for one in described.outputs] == list(reversed(ALL))
    expected = probabilities(count)
    assert np.array_equal(read.as_numpy("probabilities"), expected)
    assert np.array_equal(read.as_numpy("confidence"), expected.max(1))
    labels = [one if isinstance(one, str) else one.decode() for one in read.as_numpy("label")]
    assert labels == [LABELS[index] for index in expected.argmax(1)]


def test_an_answer_has_an_id_only_if_the_request_had_one() -> None:
    body, _ = answer(parse(in_json(IMAGE | {"data": [TEXT]})), 1)
    assert "id" not in json.loads(body)


def test_metadata_is_as_the_contract_says_and_requests_made_from_it_are_taken() -> None:
    V2Server.model_validate(v2.server_metadata(name="digits", version="1"))
    model = V2Model.model_validate(v2.model_metadata(model="digits", versions=["6", "7"], side=SIDE, classes=len(LABELS)))
    data = {"BYTES": [TEXT], "UINT8": [0] * NUMBERS}
    for tensor in model.inputs:
        shape = [1 if size == -1 else size for size in tensor.shape]
        parse(in_json({"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "data": data[tensor.datatype]}))
    outputs = json.loads(answer(parse(in_json(IMAGE | {"data": [TEXT]})), 1)[0])["outputs"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in outputs] == [
        (tensor.name, tensor.datatype, [1 if size == -1 else size for size in tensor.shape]) for tensor in model.outputs
    ]


@given(st.binary(), st.none() | st.binary(max_size=12) | st.integers(0, 60).map(lambda length: str(length).encode()))
@example(b'{"x":' + b"[" * 100_000, None)
@example(
    b'{"inputs":[{"name":"pixels","shape":[1,4,4,3],"datatype":"UINT8","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}", None
)
@example(b'{"inputs":[{"n\x80":1}]}', None)
@example(b'{"inputs":[],"id":"\\ud800"}', None)
def test_any_bytes_are_a_request_or_refused(body: bytes, length: bytes | None) -> None:
    with suppress(RequestRefused):
        parse(body, length)


members = {
    "name": st.sampled_from(["image", "pixels"]),
    "datatype": st.sampled_from(["BYTES", "UINT8"]),
    "shape": st.lists(st.sampled_from([1, 2, 3, SIDE, 2**64, -1]), max_size=4) | st.just(PIXELS["shape"]),
}
optional = {
    "data": st.lists(st.integers(-1, 256), max_size=50)
    | st.lists(st.just(TEXT) | st.text(), max_size=3)
    | st.none()
    | st.floats(),
    "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 60) | st.just(2**64)}) | st.none(),
}


@given(tensor=st.fixed_dictionaries(members, optional=optional), raw=st.binary(max_size=60), declared=st.booleans())
def test_any_tensor_is_a_request_or_refused(tensor: dict[str, Any], raw: bytes, *, declared: bool) -> None:
    head = in_json(tensor)
    with suppress(RequestRefused):
        request = parse(head + raw, str(len(head)).encode() if declared else None)
        found = request.images if request.pixels is None else request.pixels
        assert found is not None
        assert len(found) == tensor["shape"][0]


@given(st.integers(0, 200), st.integers(0, 255))
def test_one_changed_byte_never_passes_for_other_lengths(at: int, value: int) -> None:
    body, length = binary(IMAGE | {"shape": [2]}, prefixed(JPEG, PNG))
    changed = bytearray(body)
    changed[at % len(changed)] = value
    with suppress(RequestRefused):
        request = parse(bytes(changed), length)
        assert request.images is not None
        assert [len(image) for image, _ in request.images] == [len(JPEG), len(PNG)]
