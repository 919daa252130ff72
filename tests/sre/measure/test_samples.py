from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sre.errors import EvidenceDamaged
from sre.measure import samples
from sre.measure.samples import SAMPLE, Recording, Samples

MakeRecording = Callable[..., tuple[Recording, Samples]]


@pytest.fixture
def written(tmp_path: Path, make_recording: MakeRecording) -> tuple[Path, Recording, Samples]:
    recording, records = make_recording(rate=10.0, seconds=3.0, failed=[4])
    (tmp_path / "samples.bin").write_bytes(records[::-1].tobytes())
    samples.write_header(tmp_path, recording)
    return tmp_path, recording, records


def test_a_recording_comes_back_ordered_by_planned_time(written: tuple[Path, Recording, Samples]) -> None:
    folder, recording, records = written
    found, read = samples.read(folder)
    assert found == recording
    np.testing.assert_array_equal(read, records)


def test_a_record_is_packed_into_27_bytes() -> None:
    assert SAMPLE.itemsize == 27


def test_a_recording_without_header_proves_nothing(written: tuple[Path, Recording, Samples]) -> None:
    (written[0] / "samples.json").unlink()
    with pytest.raises(EvidenceDamaged, match=r"samples\.json is missing"):
        samples.read(written[0])


def test_a_record_cut_short_is_damage(written: tuple[Path, Recording, Samples]) -> None:
    records = written[0] / "samples.bin"
    records.write_bytes(records.read_bytes()[:-1])
    with pytest.raises(EvidenceDamaged, match="ends inside a record"):
        samples.read(written[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": "sre.samples/0"}, "not of schema"), ({"rate": None, "colour": "red"}, "does not describe a recording")],
)
def test_a_header_of_another_shape_is_damage(
    written: tuple[Path, Recording, Samples], change: dict[str, str], message: str
) -> None:
    header = written[0] / "samples.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | change))
    with pytest.raises(EvidenceDamaged, match=message):
        samples.read(written[0])


def test_a_header_that_is_not_json_is_damage(written: tuple[Path, Recording, Samples]) -> None:
    (written[0] / "samples.json").write_text("{")
    with pytest.raises(EvidenceDamaged, match="is not JSON"):
        samples.read(written[0])
