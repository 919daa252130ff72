"""The prediction log: its row, and how rows get into it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from struct import Struct
from typing import NamedTuple

import psycopg


class PredictionRow(NamedTuple):
    """One answered prediction, in the order of the columns. `id` is the database's."""

    request_id: str
    at: datetime
    replica: str
    model_version: str
    label: str
    probabilities: bytes  # of `real_array`
    input_sha256: bytes
    media_type: str
    duration_ms: float
    variant: str
    trace_id: str  # 32 hexadecimal digits, as in the log lines and in spans


_COPY = f"COPY predictions ({', '.join(PredictionRow._fields)}) FROM STDIN (FORMAT BINARY)"
# A binary COPY carries no types: an array that is in the server's form already travels like any other bytes.
_TYPES = ("text", "timestamptz", "text", "text", "text", "bytea", "bytea", "text", "float4", "text", "text")


@cache
def _form(count: int) -> Struct:
    return Struct(">5i" + "if" * count)


def real_array(values: Sequence[float]) -> bytes:
    """At least one number as PostgreSQL's `real[]` in binary (`array_send` in its source): a float32 stays the same bit for bit.

    Made by whoever has just computed the numbers, it costs less than a microsecond; the thread that writes them later finds its
    caches cold.
    """
    count = len(values)
    sized = [4] * (2 * count)  # bytes of each element, in front of it
    sized[1::2] = values  # type: ignore[assignment]
    dimensions, nulls, oid, lower_bound = 1, 0, 700, 1
    return _form(count).pack(dimensions, nulls, oid, count, lower_bound, *sized)


def write_predictions(connection: psycopg.Connection, rows: Sequence[PredictionRow]) -> None:
    """Write all rows in one transaction, or none of them.

    Raises:
        psycopg.Error: if the connection broke, `holds_prediction` on a new one tells whether the rows arrived.
    """
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            copy.write_row(row)


def holds_prediction(connection: psycopg.Connection, row: PredictionRow) -> bool:
    """Whether the row is in the table."""
    query = "SELECT 1 FROM predictions WHERE at = %s AND request_id = %s AND replica = %s"
    with connection.transaction():
        return connection.execute(query, [row.at, row.request_id, row.replica]).fetchone() is not None
