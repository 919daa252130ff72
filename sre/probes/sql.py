"""What the prediction log holds."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from sre.readings import Endpoints


@dataclass(frozen=True, slots=True)
class Prediction:
    """One recorded prediction.

    Attributes:
        bits: its probabilities, float32, as hexadecimal of the big-endian bytes.
        input_sha256: of the image, hexadecimal.
        variant: of the model that answered: another one rounds differently.
    """

    bits: str
    input_sha256: str
    variant: str


def float32_bits(values: Sequence[float]) -> str:
    """Floats as hexadecimal of big-endian float32: equal strings are equal bits."""
    return struct.pack(f">{len(values)}f", *values).hex()


def prediction(endpoints: Endpoints, request_id: str) -> Prediction | None:
    """The recorded prediction of a request, None when there is none. Raises psycopg.Error when the log cannot be asked."""
    with _connect(endpoints) as connection:
        # Binary, so that no text form of a float stands between the two bit patterns.
        cursor = connection.cursor(binary=True)
        query = "SELECT probabilities, input_sha256, variant FROM predictions WHERE request_id = %s"
        row = cursor.execute(query, [request_id]).fetchone()
    if row is None:
        return None
    digest = row[1].hex() if isinstance(row[1], bytes) else str(row[1])
    return Prediction(float32_bits(row[0]), digest, row[2])


def predictions_since(endpoints: Endpoints, since: float) -> int:
    """How many requests were recorded since `since`, seconds since the epoch; one that two replicas answered counts once."""
    query = "SELECT count(DISTINCT request_id) FROM predictions WHERE at >= to_timestamp(%s)"
    with _connect(endpoints) as connection:
        row = connection.execute(query, [since]).fetchone()
    return int(row[0]) if row else 0


def _connect(endpoints: Endpoints) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(endpoints.database, passfile=str(endpoints.passfile), connect_timeout=10)
