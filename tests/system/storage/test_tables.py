from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pytest

from system.storage.engine import migrate
from system.storage.tables import PredictionRow, holds_prediction, real_array, write_predictions


@pytest.fixture
def connection(database_url: str) -> Any:
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        yield connection


def make_row(**changes: Any) -> PredictionRow:
    row = PredictionRow(
        request_id="r",
        at=datetime.now(UTC),
        replica="serving-1",
        model_version="3",
        label="7",
        probabilities=real_array([0.5, 0.5]),
        input_sha256=bytes(range(32)),
        media_type="image/png",
        duration_ms=1.25,
        variant="int8",
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )
    return row._replace(**changes)


def test_every_column_comes_back_as_it_was_written_floats_bit_for_bit(connection: Any) -> None:
    random = np.random.default_rng(3).random(1000, np.float32)
    hard = np.array(
        [0.0, 1.0, np.nextafter(np.float32(0), np.float32(1)), np.nextafter(np.float32(1), np.float32(0))], np.float32
    )
    numbers = np.concatenate([random, hard]).tolist()
    row = make_row(probabilities=real_array(numbers))
    write_predictions(connection, [row])
    columns = ", ".join(PredictionRow._fields)
    found = connection.cursor(binary=True).execute(f"SELECT {columns} FROM predictions").fetchone()  # noqa: S608 - our columns
    assert PredictionRow(*found) == row._replace(probabilities=numbers)
    assert connection.execute("SELECT array_dims(probabilities) FROM predictions").fetchone() == ("[1:1004]",)


def test_all_rows_or_none(connection: Any) -> None:
    with pytest.raises(psycopg.IntegrityError):
        write_predictions(connection, [make_row(), make_row(input_sha256=b"short")])
    assert connection.execute("SELECT count(*) FROM predictions").fetchone() == (0,)


def test_a_row_is_found_by_what_makes_it_one(connection: Any) -> None:
    row = make_row()
    write_predictions(connection, [row])
    connection.commit()
    assert holds_prediction(connection, row)
    for other in (row._replace(at=datetime.now(UTC)), row._replace(request_id="s"), row._replace(replica="serving-2")):
        assert not holds_prediction(connection, other)
