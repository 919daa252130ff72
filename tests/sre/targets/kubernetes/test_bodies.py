"""Images that users send."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sre.targets.kubernetes import bodies


def test_every_digit_is_an_image_of_one_size_dark_on_white(tmp_path: Path) -> None:
    bodies.write(tmp_path)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert {path.parent.name for path in paths} == set("0123456789")
    assert {path.suffix for path in paths} == {".jpg", ".png"}
    assert len(paths) == 1797
    with Image.open(tmp_path / "0" / "0000.jpg") as first:
        assert (first.size, first.mode) == ((32, 32), "RGB")
        pixels = np.asarray(first.convert("L"))
    # Paper in the corners, ink somewhere.
    assert pixels[::31, ::31].min() > 200
    assert pixels.min() < 64


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    bodies.write(tmp_path)
    (tmp_path / "0" / "0000.jpg").write_bytes(b"mine")
    bodies.write(tmp_path)
    assert (tmp_path / "0" / "0000.jpg").read_bytes() == b"mine"
    last = max(tmp_path.rglob("1796.*"))
    last.unlink()
    bodies.write(tmp_path)
    assert (tmp_path / "0" / "0000.jpg").read_bytes() != b"mine"
    assert last.exists()
