"""What goes over the wire: request and response schemas and header names. The OpenAPI document derives from them."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORM_TYPE = "multipart/form-data"
JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
TENSORS_TYPE = "application/octet-stream"
API_KEY_HEADER = "X-API-Key"
ASSIGNMENT_KEY_HEADER = "X-Assignment-Key"
HEADER_LENGTH_HEADER = "Inference-Header-Content-Length"
MODEL_VARIANT_HEADER = "X-Model-Variant"
MODEL_VERSION_HEADER = "X-Model-Version"
REQUEST_ID_HEADER = "X-Request-ID"
TIMEOUT_HEADER = "X-Request-Timeout-Ms"
TRACE_HEADER = "traceparent"

# A client's own id is taken only in this form: it goes into logs, headers and the prediction log.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Prediction(_Schema):
    """The answer to one image. Each number is the model's float32, written so that it reads back exactly."""

    request_id: str = Field(description="the client's X-Request-ID, else one made here")
    model_version: str = Field(description="version in the model registry", examples=["3"])
    label: str = Field(description="the class with the highest probability", examples=["7"])
    confidence: float = Field(ge=0, le=1, description="the probability of `label`")
    probabilities: list[float] = Field(min_length=1, description="one per class, in the order of the model's labels; sum 1")


class Problem(_Schema):
    """Every error, in the form of RFC 9457. `code` is stable: programs branch on it, people read `detail`."""

    type: str = Field(examples=["urn:ml-system:problem:invalid-image"])
    title: str = Field(description="the status in words", examples=["Bad Request"])
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what is wrong, with which value, and what to do")
    error: str = Field(description="the same as `detail`: the member that clients of V1 and V2 read")
    code: str = Field(examples=["invalid-image"])
    request_id: str


class Live(_Schema):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(_Schema):
    """A verified and warmed model is loaded and the replica is not shutting down."""

    status: Literal["ready"] = "ready"
    replica: str
    model_version: str


class ModelReady(_Schema):
    """Whether this model, in this version if the path names one, is loaded and requests are welcome. V1 and V2."""

    name: str
    ready: bool


class V1Models(_Schema):
    """The names of the models served."""

    models: list[str]


class V1Instance(_Schema):
    """One encoded image."""

    b64: str = Field(description="a whole image file in base64: standard alphabet, padded", json_schema_extra={"format": "byte"})


class V1Request(_Schema):
    """Images for the model."""

    instances: list[V1Instance] = Field(min_length=1)


class V1Prediction(_Schema):
    """The answer to one image, as in `Prediction`; the model's version is in the header X-Model-Version."""

    label: str
    confidence: float = Field(ge=0, le=1)
    probabilities: list[float] = Field(min_length=1)


class V1Response(_Schema):
    """One answer for each instance, in their order."""

    predictions: list[V1Prediction]


class V2Health(_Schema):
    """The answer to both questions, live and ready: the protocol has the same member in both."""

    live: Literal[True] = True


class V2Server(_Schema):
    """The server's metadata."""

    name: str
    version: str
    extensions: list[str]


class V2Tensor(_Schema):
    """One input or output; in the model's metadata -1 in `shape` stands for the number of images."""

    name: str
    datatype: str
    shape: list[int]


class V2Model(_Schema):
    """The model's metadata. Of the inputs, a request sends one."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Tensor]
    outputs: list[V2Tensor]


class V2Input(_Schema):
    """One tensor: its data is in `data`, or behind the JSON with its length in `parameters.binary_data_size`."""

    name: Literal["image", "pixels"]
    shape: list[int] = Field(description="`image`: [n]; `pixels`: [n, side, side, 3]")
    datatype: Literal["BYTES", "UINT8"]
    parameters: dict[Literal["binary_data_size", "content_type"], int | Literal["base64"]] | None = None
    data: list[Any] | None = Field(None, description="`image`: base64 strings; `pixels`: whole numbers from 0 to 255")


class V2RequestedOutput(_Schema):
    """An output that the client wants; `parameters.binary_data` asks for it as a binary tensor."""

    name: Literal["probabilities", "label", "confidence"]
    parameters: dict[Literal["binary_data"], bool] | None = None


class V2InferRequest(_Schema):
    """One inference; without `outputs` all are sent, as binary tensors if `parameters.binary_data_output` is true."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field("", max_length=256)
    inputs: list[V2Input] = Field(min_length=1, max_length=1)
    outputs: list[V2RequestedOutput] | None = None
    parameters: dict[Literal["binary_data_output"], bool] | None = None


class V2Output(V2Tensor):
    """One tensor of the answer; without `data` it stands behind the JSON."""

    parameters: dict[Literal["binary_data_size"], int] | None = None
    data: list[float] | list[str] | None = None


class V2InferResponse(_Schema):
    """The answer to one inference."""

    model_name: str
    model_version: str
    id: str | None = Field(None, description="the request's, if it had one")
    outputs: list[V2Output]


class V2IndexRequest(_Schema):
    """What the repository's index shall list."""

    ready: bool = Field(default=False, description="only models that are ready")


class V2IndexEntry(_Schema):
    """One version of a model in the repository."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE", "UNKNOWN"]
    reason: str = ""
