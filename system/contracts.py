"""What goes over the wire: request and response schemas and header names. The OpenAPI document derives from them."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FORM_TYPE = "multipart/form-data"
PROBLEM_TYPE = "application/problem+json"

API_KEY_HEADER = "X-API-Key"
REQUEST_ID_HEADER = "X-Request-ID"
MODEL_VERSION_HEADER = "X-Model-Version"

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
    probabilities: list[float] = Field(
        min_length=10, max_length=10, description="one per class, in the order of the model's labels; sum 1"
    )


class Problem(_Schema):
    """Every error, in the form of RFC 9457. `code` is stable: programs branch on it, people read `detail`."""

    type: str = Field(examples=["urn:ml-system:problem:invalid-image"])
    title: str = Field(description="the status in words", examples=["Bad Request"])
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what is wrong, with which value, and what to do")
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
