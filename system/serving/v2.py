"""The V2 protocol (Open Inference Protocol) with Triton's binary tensors. Pure: bytes in, bytes out.

    protocol        https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
    binary tensors  https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

A request has one of two inputs, and asks for any of three outputs:

    image          BYTES  [n]                  encoded images: raw in a binary tensor (the fast way in), base64 in JSON
    pixels         UINT8  [n, side, side, 3]   RGB, 0 to 255, scaled by the client
    probabilities  FP32   [n, classes]
    label          BYTES  [n]                  the class with the highest probability
    confidence     FP32   [n]                  that probability

A parameter that is not served (shared memory, classification, sequences) is refused: it would change the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod
from struct import pack
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from system.contracts import HEADER_LENGTH_HEADER, JSON_TYPE, TENSORS_TYPE
from system.errors import RequestRefused, UnsupportedMedia
from system.serving.v1 import quote, with_type

PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data",)

_LENGTH_BYTES = 4
_LONGEST_ID = 256
_LONGEST_NUMBER = 10
_NESTED = re.compile(rb"\s*\[\s*\[")
_INPUTS = {"image": "BYTES", "pixels": "UINT8"}
_OUTPUTS = {"probabilities": "FP32", "label": "BYTES", "confidence": "FP32"}


class Request(msgspec.Struct, frozen=True):
    """One inference request.

    Attributes:
        id: the client's own, "" when it gave none.
        images: encoded images, each with its media type; None when `pixels` is given.
        pixels: uint8 (n, side, side, 3), read-only where it lies in the body; None when `images` is given.
        outputs: names in the order of the answer, and whether each shall be a binary tensor.
    """

    id: str
    images: list[tuple[bytes, str]] | None
    pixels: npt.NDArray[np.uint8] | None
    outputs: tuple[tuple[str, bool], ...]


class _RequestParameters(msgspec.Struct, forbid_unknown_fields=True):
    binary_data_output: bool = False


class _InputParameters(msgspec.Struct, forbid_unknown_fields=True):
    binary_data_size: int | None = None
    content_type: Literal["base64"] | None = None  # MLServer's clients say how JSON strings are encoded


class _OutputParameters(msgspec.Struct, forbid_unknown_fields=True):
    binary_data: bool | None = None


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    parameters: _InputParameters | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: _OutputParameters | None = None


class _Request(msgspec.Struct):
    # other members are passed over: Triton's documentation sends model_name here
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] | None = None
    parameters: _RequestParameters | None = None


class _Size(msgspec.Struct):
    binary_data_size: int


class _Tensor(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _Size | msgspec.UnsetType = msgspec.UNSET
    data: list[float] | list[str] | msgspec.UnsetType = msgspec.UNSET


class _Answer(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Tensor]
    id: str = ""


_Level = Annotated[int, msgspec.Meta(ge=0, le=255)]

_request_decoder = msgspec.json.Decoder(_Request)
_images_decoder = msgspec.json.Decoder(list[bytes])
_flat_decoder = msgspec.json.Decoder(list[_Level])
_nested_decoder = msgspec.json.Decoder(list[list[list[list[_Level]]]])
_encoder = msgspec.json.Encoder()

_ALL = {binary: tuple((name, binary) for name in _OUTPUTS) for binary in (False, True)}
_JSON = (b"content-type", JSON_TYPE.encode())
_TENSORS = (b"content-type", TENSORS_TYPE.encode())
_LENGTH_NAME = HEADER_LENGTH_HEADER.lower().encode()


def refuse_compressed(encoding: bytes | None) -> None:
    """Look at a request's Content-Encoding.

    Raises:
        UnsupportedMedia: the body is compressed: images are so already, and unpacking would be a way to exhaust memory.
    """
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:40].decode('latin-1')!r} is not supported; send the body uncompressed"
        )


def parse(body: bytes, header_length: bytes | None, *, max_images: int, side: int) -> Request:
    """Read an inference request.

    Args:
        body: JSON, followed by the binary tensor if there is one.
        header_length: the value of Inference-Header-Content-Length, the length of the JSON; None when it was not sent.
        max_images: the most in one request.
        side: height and width of `pixels`.

    Raises:
        UnsupportedMedia: an image of a type that is not served.
        RequestRefused: anything else that is wrong; the message names what was sent and what is expected.
    """
    end = len(body) if header_length is None else _json_length(header_length, len(body))
    try:
        request = _request_decoder.decode(body if end == len(body) else memoryview(body)[:end])
    except (ValueError, RecursionError) as error:  # DecodeError is a ValueError; so is UnicodeDecodeError, of a name
        hint = f"; a body with a binary tensor needs {HEADER_LENGTH_HEADER}" if header_length is None else ""
        raise RequestRefused(f"the inference request is not as /openapi.json describes it: {quote(error)}{hint}") from None
    if len(request.id) > _LONGEST_ID:
        raise RequestRefused(f"`id` has {len(request.id)} characters; send at most {_LONGEST_ID}")
    if len(request.inputs) != 1:
        names = _names(one.name for one in request.inputs[:4])
        raise RequestRefused(f"`inputs` holds {len(request.inputs)} tensors ({names}); send one, `image` or `pixels`")
    tensor = request.inputs[0]
    _check_tensor(tensor, max_images, side)
    _check_lengths(tensor, header_length, len(body) - end)
    outputs = _outputs(request)
    if tensor.name == "pixels":
        return Request(request.id, None, _pixels(body, end, tensor.data, tensor.shape), outputs)
    images = _images(body, end, tensor.data, tensor.shape[0])
    return Request(request.id, [with_type(image, "image", index) for index, image in enumerate(images)], None, outputs)


def render(
    request: Request, answers: tuple[list[list[float]], list[int]], *, model: str, version: str, labels: Sequence[str]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The answer's body, and the headers that say how to read it: Content-Type and, with binary tensors, the JSON's length.

    Args:
        request: says which outputs, and in which form.
        answers: of each image, the probabilities of the classes, each exactly a float32; and of each image, its best class.
        model: its name.
        version: the version that answered.
        labels: the names of the classes.
    """
    rows, best = answers
    outputs: list[_Tensor] = []
    tensors: list[bytes] = []
    for name, binary in request.outputs:
        shape = (len(rows), len(labels)) if name == "probabilities" else (len(rows),)
        values = _values(name, rows, best, labels)
        if binary:
            tensors.append(_packed(values))
            outputs.append(_Tensor(name, _OUTPUTS[name], shape, _Size(len(tensors[-1]))))
        else:
            outputs.append(_Tensor(name, _OUTPUTS[name], shape, data=values))
    head = _encoder.encode(_Answer(model, version, outputs, request.id))
    if not tensors:
        return head, [_JSON]
    return b"".join((head, *tensors)), [_TENSORS, (_LENGTH_NAME, b"%d" % len(head))]


def server_metadata(*, name: str, version: str) -> dict[str, Any]:
    """The answer of GET /v2; `version` is the server's own."""
    return {"name": name, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(*, model: str, versions: Sequence[str], side: int, classes: int) -> dict[str, Any]:
    """The answer of GET /v2/models/{model}. The two inputs are alternatives, for which the protocol has no word."""
    return {
        "name": model,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, side, side, 3]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "confidence", "datatype": "FP32", "shape": [-1]},
        ],
    }


def _json_length(header_length: bytes, total: int) -> int:
    length = int(header_length) if header_length.isdigit() and len(header_length) <= _LONGEST_NUMBER else 0
    if not 1 <= length <= total:
        sent = header_length[:40].decode("latin-1")
        raise RequestRefused(f"{HEADER_LENGTH_HEADER} is {sent!r} and the body has {total} bytes; send the length of the JSON")
    return length


def _check_tensor(tensor: _Input, max_images: int, side: int) -> None:
    expected = _INPUTS.get(tensor.name)
    if expected is None:
        raise RequestRefused(f"there is no input {tensor.name[:80]!r}; send `image` or `pixels`")
    if tensor.datatype != expected:
        raise RequestRefused(f"`{tensor.name}` is sent as {tensor.datatype[:20]!r}; send it as {expected}")
    rest = [] if tensor.name == "image" else [side, side, 3]
    if tensor.shape[1:] != rest or not tensor.shape:
        wanted = ["n", *rest]
        raise RequestRefused(
            f"`{tensor.name}` has shape {_shape(tensor.shape)}; send {_shape(wanted)}, n being the number of images"
        )
    if not 1 <= tensor.shape[0] <= max_images:
        raise RequestRefused(f"`{tensor.name}` has shape {_shape(tensor.shape)}; send 1 to {max_images} images in one request")


def _check_lengths(tensor: _Input, header_length: bytes | None, rest: int) -> None:
    """The data is in exactly one place, and the body ends where it ends."""
    size = None if tensor.parameters is None else tensor.parameters.binary_data_size
    in_json = tensor.data is not msgspec.UNSET
    if in_json == (size is not None):
        sent = "both `data` and `binary_data_size`" if in_json else "neither `data` nor `binary_data_size`"
        raise RequestRefused(f"`{tensor.name}` has {sent}; send one of them")
    if size is not None and header_length is None:
        raise RequestRefused(f"`{tensor.name}` has `binary_data_size` and the request no {HEADER_LENGTH_HEADER}; send both")
    if rest != (size or 0):
        raise RequestRefused(f"after the JSON come {rest} bytes and `{tensor.name}` declares {size or 0}; make them agree")


def _outputs(request: _Request) -> tuple[tuple[str, bool], ...]:
    default = request.parameters is not None and request.parameters.binary_data_output
    if not request.outputs:
        return _ALL[default]
    names = [one.name for one in request.outputs]
    if len(set(names)) != len(names) or not set(names) <= set(_OUTPUTS):
        raise RequestRefused(f"`outputs` asks for {_names(names[:4])}; ask for any of {_names(list(_OUTPUTS))}, each once")
    return tuple((one.name, _is_binary(one, default=default)) for one in request.outputs)


def _is_binary(output: _Output, *, default: bool) -> bool:
    if output.parameters is None or output.parameters.binary_data is None:
        return default
    return output.parameters.binary_data


def _images(body: bytes, at: int, data: msgspec.Raw | msgspec.UnsetType, count: int) -> list[bytes]:
    """From JSON; else from the body: elements of 4 bytes of length, little-endian, and the content, up to its end."""
    if data is not msgspec.UNSET:
        return _json_images(data, count)
    images = []
    for index in range(count):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(body[at:start], "little")
        if at > len(body):
            raise RequestRefused(
                f"`image[{index}]` ends at byte {at} of a body of {len(body)}, by the length before it; "
                "send each image behind its length, 4 bytes, little-endian"
            )
        images.append(body[start:at])
    if at != len(body):
        raise RequestRefused(f"{len(body) - at} bytes follow the {count} images of `image`; make shape and data agree")
    return images


def _json_images(data: msgspec.Raw, count: int) -> list[bytes]:
    try:
        images = _images_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise RequestRefused(
            f"`data` of `image` is not a list of base64 strings: {quote(error)}; raw bytes go into a binary tensor"
        ) from None
    if len(images) != count:
        raise RequestRefused(f"`image` has shape [{count}] and {len(images)} elements; make them agree")
    return images


def _pixels(body: bytes, at: int, data: msgspec.Raw | msgspec.UnsetType, shape: list[int]) -> npt.NDArray[np.uint8]:
    """From JSON, flat or nested: the protocol allows both. Else a view of the body."""
    pixels = np.frombuffer(body, np.uint8, offset=at) if data is msgspec.UNSET else _json_pixels(data)
    expected = shape if pixels.ndim > 1 else [prod(shape)]
    if list(pixels.shape) != expected:
        raise RequestRefused(
            f"`pixels` has shape {_shape(shape)}, {prod(shape)} numbers, and data of shape {_shape(pixels.shape)}"
        )
    return pixels.reshape(shape)


def _json_pixels(data: msgspec.Raw) -> npt.NDArray[np.uint8]:
    decoder = _nested_decoder if _NESTED.match(data) else _flat_decoder
    try:
        return np.array(decoder.decode(data), np.uint8)
    except ValueError as error:  # msgspec's, and numpy's about lists of unequal length
        raise RequestRefused(
            f"`data` of `pixels` is not a list of whole numbers from 0 to 255, flat or nested as its shape: {quote(error)}"
        ) from None


def _values(name: str, rows: Sequence[Sequence[float]], best: Sequence[int], labels: Sequence[str]) -> list[float] | list[str]:
    """The elements of one output, in a flat list."""
    if name == "label":
        return [labels[top] for top in best]
    if name == "probabilities":
        return list(chain.from_iterable(rows))
    return [row[top] for row, top in zip(rows, best, strict=True)]


def _packed(values: Sequence[float] | Sequence[str]) -> bytes:
    """The content of a binary tensor: numbers as FP32, texts behind their lengths."""
    if isinstance(values[0], str):
        return b"".join([_prefixed(str(one)) for one in values])
    return pack(f"<{len(values)}f", *values)


def _prefixed(name: str) -> bytes:
    data = name.encode()
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def _shape(shape: Sequence[object]) -> str:
    cut = [*shape[:5], "..."] if len(shape) > 5 else shape
    return f"[{', '.join(map(str, cut))}]"


def _names(names: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names) or "none"
