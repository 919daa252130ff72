"""The V1 protocol of KServe and TensorFlow Serving: images as base64 in JSON, answers as JSON. Pure: bytes in, bytes out.

TensorFlow Serving's REST API names the form of a binary value, `{"b64": "..."}`, and lets a model with one input take it
as the instance itself: https://www.tensorflow.org/tfx/serving/api_rest#encoding_binary_values
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from system.errors import RequestRefused, UnsupportedMedia
from system.model.transform import MEDIA_TYPES, sniff

# A message quotes what the client sent, a field's name for instance, and must not grow with it.
_LONGEST_QUOTE = 200


class _Instance(msgspec.Struct, forbid_unknown_fields=True):
    b64: bytes


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    instances: list[_Instance]


_decoder = msgspec.json.Decoder(_Request)
_encoder = msgspec.json.Encoder()


def parse(body: bytes, *, max_images: int) -> list[tuple[bytes, str]]:
    """The encoded images of a request, each with its media type, told by its signature.

    Raises:
        UnsupportedMedia: an image of a type that is not served.
        RequestRefused: not `{"instances": [{"b64": "..."}, ...]}`, no image, or more than `max_images`.
    """
    try:
        instances = _decoder.decode(body).instances
    except (ValueError, RecursionError) as error:  # DecodeError is a ValueError; so is UnicodeDecodeError, of a name
        raise RequestRefused(
            f'the body is not {{"instances": [{{"b64": "..."}}, ...]}}: {quote(error)}; '
            "base64 is of the standard alphabet, padded and without line breaks"
        ) from None
    if not 1 <= len(instances) <= max_images:
        raise RequestRefused(f"`instances` holds {len(instances)} images; send 1 to {max_images} in one request")
    return [with_type(instance.b64, "instances", index) for index, instance in enumerate(instances)]


def render(answers: tuple[list[list[float]], list[int]], labels: Sequence[str]) -> bytes:
    """`{"predictions": [{"label", "confidence", "probabilities"}, ...]}`, one for each image in the request's order.

    Args:
        answers: of each image, the probabilities of the classes; and of each image, the index of its best class.
        labels: the names of the classes.
    """
    return _encoder.encode(
        {
            "predictions": [
                {"label": labels[top], "confidence": row[top], "probabilities": row} for row, top in zip(*answers, strict=True)
            ]
        }
    )


def with_type(image: bytes, field: str, index: int) -> tuple[bytes, str]:
    """An encoded image and its media type.

    Raises:
        UnsupportedMedia: it begins with no signature that is served; the message names `field[index]`.
    """
    if media_type := sniff(image):
        return image, media_type
    raise UnsupportedMedia(
        f"`{field}[{index}]` holds {len(image)} bytes that begin as no image that is served; send {', '.join(MEDIA_TYPES)}"
    )


def quote(error: Exception) -> str:
    """What a decoder says about the client's JSON, cut to a length that fits a message."""
    text = str(error)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."
