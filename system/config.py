"""Typed settings, one frozen class per role, read from environment variables that begin with `ML_`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, AnyHttpUrl, Field, PostgresDsn, SecretStr, TypeAdapter, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MODEL_NAME = "digits-resnet8"
PRODUCTION_ALIAS = "production"
BUCKETS = ("ml-datasets", "ml-models-staging", "ml-models-production", "ml-backups")

_OBJECTS_FORMS = "file:///absolute/folder, s3://host:port or s3+https://host[:port]"


def _is_objects_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"a query, a fragment or an account has no place in {_OBJECTS_FORMS}")
    # The port tells a server from a bucket: `s3://NAME` means a bucket to everyone else.
    server = bool(parts.hostname) and parts.path in {"", "/"} and (parts.scheme == "s3+https" or parts.port is not None)
    folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    if not (folder or (server and parts.scheme in {"s3", "s3+https"})):
        raise ValueError(f"{value!r} is none of {_OBJECTS_FORMS}")
    return value


ObjectsUrl = Annotated[str, AfterValidator(_is_objects_url), Field(description=f"where the buckets are: {_OBJECTS_FORMS}")]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ML_", frozen=True, extra="forbid")

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    objects_url: ObjectsUrl
    mlflow_url: str = Field(description="base URL of the MLflow tracking server")
    model_name: str = Field(
        MODEL_NAME, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$", description="a folder and a path are named after it"
    )
    model_alias: str = PRODUCTION_ALIAS

    @field_validator("mlflow_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        TypeAdapter(AnyHttpUrl).validate_python(value)
        return value


class ServeSettings(_Settings):
    """`python -m system serve`."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65_535)
    workers: int = Field(1, ge=1, le=64, description="processes, each with its own SO_REUSEPORT socket")
    replica: str = Field("serving-1", description="name in logs and metrics; the pod's name on Kubernetes")
    database_url: SecretStr = Field(description="libpq connection string of the prediction log")
    api_keys_file: Path = Field(description='JSON: {"keys": [{"name": ..., "sha256": ...}]}; a change is taken up within seconds')
    cache_dir: Path = Field(description="verified model files are kept here; a restart needs no registry")

    variant: str = Field("auto", description="auto: the fastest that calibration finds; else a variant's name, as fp32 or int8")
    registry_poll_s: float = Field(5.0, gt=0, description="how often the registry's aliases are looked at")
    registry_deadline_s: float = Field(60.0, gt=0, description="how long a start keeps asking the registry for a model")
    challenger_alias: str = Field("challenger", description="alias of the second model, where there is one")
    challenger_share: float = Field(0.0, ge=0, le=1, description="share of request keys that the challenger answers")
    shadow_share: float = Field(0.0, ge=0, le=1, description="share of requests that the challenger answers too, unseen")

    max_active: int = Field(8, ge=1, description="requests that are worked on at once; few, so that refusals are quick")
    max_waiting: int = Field(256, ge=1, description="requests that wait for their turn; more get 429")
    max_reading: int = Field(256, ge=1, description="requests whose bodies may be arriving at once; more get 429")
    max_reading_bytes: int = Field(128_000_000, ge=1, description="memory for bodies that are arriving, all together")
    max_body_bytes: int = Field(5_000_000, ge=1)
    max_pixels: int = Field(25_000_000, ge=1, description="of one image; decoding may take 16 bytes of memory for each")
    max_images: int = Field(64, ge=1, description="images in one request")
    header_timeout_s: float = Field(10.0, gt=0, description="for the head of a request, from the connection or its first byte")
    body_timeout_s: float = Field(10.0, gt=0, description="for the body of a request, from the end of its head")
    max_connections: int = Field(4096, ge=1, description="open connections of one process; more are closed at once")
    drain_pause_s: float = Field(
        1.0, ge=0, description="after SIGTERM, connections are still taken so long and closed by their answers"
    )

    otlp_url: str = Field("", description="OpenTelemetry collector, as http://host:4318/v1/traces; empty: no spans leave")
    trace_share: float = Field(0.01, ge=0, le=1, description="share of requests without a traceparent that are sampled")
    recorder_capacity: int = Field(20_000, ge=1, description="predictions waiting to be written; more are dropped and counted")

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        TypeAdapter(PostgresDsn).validate_python(value.get_secret_value())
        return value


class TrainSettings(_Settings):
    """`python -m system train`."""

    seed: int = 20_260_101
    epochs: int = Field(7, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    min_accuracy: float = Field(0.85, ge=0, le=1)
    dataset: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="version to train with; empty: a new one is ingested")
    release_alias: str = Field(
        PRODUCTION_ALIAS, description="what a model that passes gets; another than production leaves that step to a canary"
    )


class MigrateSettings(BaseSettings):
    """`python -m system migrate`."""

    model_config = SettingsConfigDict(env_prefix="ML_", frozen=True, extra="forbid")

    database_url: SecretStr


class BucketsSettings(BaseSettings):
    """`python -m system buckets`."""

    model_config = SettingsConfigDict(env_prefix="ML_", frozen=True, extra="forbid")

    objects_url: ObjectsUrl
