"""Images that users send: scikit-learn's handwritten digits, dark on white, JPEG and PNG by turns, a folder per digit."""

from __future__ import annotations

from pathlib import Path

SIDE = 32  # pixels, as in the datasets that are trained on
_INK = 16  # the largest value of a digit's pixel


def write(folder: Path) -> None:
    """Write them, unless they are there. The last file is written last, so a folder cut short is written again."""
    from PIL import Image  # noqa: PLC0415 - slow to import, and needed once
    from sklearn.datasets import load_digits  # noqa: PLC0415

    digits = load_digits()
    paths = [folder / str(label) / f"{number:04}.{'png' if number % 2 else 'jpg'}" for number, label in enumerate(digits.target)]
    if paths[-1].exists():
        return
    for path, grey in zip(paths, digits.images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        paper = Image.fromarray((255 - grey * (255 / _INK)).astype("uint8"))
        paper.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB").save(path, quality=92)
