"""Other ways to run a model: made from its float32 graph when it is registered, measured, and refused where they cost accuracy.

What was measured for ResNet-8 on a processor with VNNI, us of CPU an image at batch 1 (fp32: 236): activations in uint8 and
weights in int8, a scale for each channel, 147; with the first convolution left in float 127 in ONNX Runtime, whose int8 kernels
are poor with three channels, but 111 in OpenVINO against 105. Activations in int8: 304; weights in uint8: 285; the other file
format, QOperator: 148. Dense layer and softmax in int8 bring nothing and cost accuracy.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from system.model.artifact import (
    INPUT_NAME,
    INT8_NAME,
    KINDS,
    ONNX_NAME,
    OPENVINO_INT8_NAME,
    Golden,
    Probabilities,
    Variant,
    describe,
)
from system.model.engines import Engine, answers, open_graph, supported
from system.model.transform import Pixels

LARGEST_LOSS = 0.005
LEAST_AGREEMENT = 0.99

_GOLDEN_IMAGES = 32
_CALIBRATION_IMAGES = 512
_BATCH = 64
_ROUNDS = 5
_ROUND_S = 0.02

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one variant.

    Attributes:
        name: of the variant.
        variant: as the manifest shall list it; None when it cannot run on this machine.
        microseconds: of CPU for one image, on this machine; NaN when it cannot run.
        refused: why it may not be served; None when it may.
    """

    name: str
    variant: Variant | None = None
    microseconds: float = float("nan")
    refused: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """What every variant is held to.

    Attributes:
        images: uint8 (n, side, side, 3), of the test split.
        labels: int (n,), of the images.
        expected: float32 (n, classes), what the float32 graph says about them.
        golden: the answers that will be sealed with the model.
    """

    images: Pixels
    labels: Labels
    expected: Probabilities
    golden: Golden

    def accuracy(self, found: Probabilities) -> float:
        """Share of right answers, 0 to 1."""
        return float((found.argmax(axis=1) == self.labels).mean())

    def agreement(self, found: Probabilities) -> float:
        """Share of images with the class that the float32 graph gives, 0 to 1."""
        return float((found.argmax(axis=1) == self.expected.argmax(axis=1)).mean())

    def complaint(self, variant: Variant, golden: Probabilities) -> str | None:
        """Why a variant may not be served, given its answers to the golden images; None when it may.

        It may lose at most half a point of accuracy, must agree with float32 on at least 99 % of the test images, and must
        pass the check of the golden images that every server will repeat.
        """
        exact = self.accuracy(self.expected)
        if not variant.accuracy >= exact - LARGEST_LOSS:
            return (
                f"{variant.name} has accuracy {variant.accuracy:.4f} on {len(self.labels)} images, "
                f"more than {LARGEST_LOSS} below the {exact:.4f} of float32"
            )
        if not variant.agreement >= LEAST_AGREEMENT:
            return (
                f"{variant.name} agrees with float32 on {variant.agreement:.4f} of {len(self.labels)} images, "
                f"less than {LEAST_AGREEMENT}"
            )
        return self.golden.complaint(golden, variant)


def choose_golden(labels: Labels) -> npt.NDArray[np.intp]:
    """Positions of the 32 golden images among labels, int (n,): the first of every class, then the second, and so on."""
    ranks = [(labels[:place] == label).sum() for place, label in enumerate(labels)]
    return np.lexsort((labels, ranks))[:_GOLDEN_IMAGES]


def make_variants(folder: Path, calibration: Pixels, images: Pixels, labels: Labels, golden: Golden) -> tuple[Trial, ...]:
    """Make every variant of the folder's `model.onnx`, write its graph beside it, and hold it to its bounds.

    Args:
        folder: holds `model.onnx`.
        calibration: uint8 (n, side, side, 3), n at least 1, of the training split; the first 512 set the scales of int8.
        images: uint8 (n, side, side, 3), of the test split.
        labels: int (n,), of the images.
        golden: answers of `model.onnx`.

    Returns:
        One trial for each variant, float32 first.

    Raises:
        RegistryError: `model.onnx` cannot be run.
    """
    expected = answers(open_graph(folder / ONNX_NAME), images)
    yardstick = Yardstick(images, labels, expected, golden)
    quantise(folder / ONNX_NAME, folder / INT8_NAME, calibration, first_in_float=True)
    quantise(folder / ONNX_NAME, folder / OPENVINO_INT8_NAME, calibration, first_in_float=False)
    return tuple(attempt(folder, name, yardstick) for name in KINDS)


def attempt(folder: Path, name: str, yardstick: Yardstick) -> Trial:
    """Run one variant of a folder and hold it to its bounds, through the engine that serves it."""
    file, library, precision = KINDS[name]
    if not supported(library, precision):
        return Trial(name=name, refused=f"{name} cannot be tried: this machine has no {library} that computes in {precision}")
    try:
        engine = open_graph(folder / file, library, precision, side=yardstick.images.shape[1])
        found, golden = answers(engine, yardstick.images), answers(engine, yardstick.golden.images)
        us = microseconds(engine, yardstick.images[:1])
    except Exception as error:  # noqa: BLE001 - the engines' exceptions have no common base, and the other variants go on
        return Trial(name=name, refused=f"{name} cannot be run: {error}")
    if found.shape != yardstick.expected.shape:
        return Trial(name=name, refused=f"{name} answers {found.shape} to the test images, not {yardstick.expected.shape}")
    variant = describe(folder, name, accuracy=yardstick.accuracy(found), agreement=yardstick.agreement(found))
    return Trial(name=name, variant=variant, microseconds=us, refused=yardstick.complaint(variant, golden))


def quantise(source: Path, target: Path, calibration: Pixels, *, first_in_float: bool) -> None:
    """Write an int8 copy of a graph: convolutions, additions and ReLU between nodes that quantise and dequantise.

    Args:
        source: the float32 graph.
        target: the file to write; the same arguments give the same bytes.
        calibration: uint8 (n, side, side, 3); the first 512 show the range of every tensor.
        first_in_float: leave the first convolution as it is.
    """
    from onnxruntime import quantization  # noqa: PLC0415 - takes a while, and whoever reads the bounds needs none of it
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
        def __init__(self) -> None:
            chosen = calibration[:_CALIBRATION_IMAGES]
            self._batches = iter([chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)])

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT_NAME: batch}

    first = next(node.name for node in onnx.load(source).graph.node if node.op_type == "Conv")
    with tempfile.TemporaryDirectory(prefix="ml-int8-") as folder:
        prepared = Path(folder) / ONNX_NAME
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,  # the one that both engines read
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # weights in 7 bits: no slower, and a processor without VNNI cannot overflow
            op_types_to_quantize=["Conv", "Add", "Relu"],
            nodes_to_exclude=[first] if first_in_float else [],
        )


def microseconds(engine: Engine, images: Pixels) -> float:
    """Microseconds of CPU that an engine takes for one image; median of five rounds, in batches of the images given."""
    engine(images)
    times = []
    for _ in range(_ROUNDS):
        began, count = process_time(), 0
        while (spent := process_time() - began) < _ROUND_S:
            engine(images)
            count += len(images)
        times.append(spent / count * 1e6)
    return float(np.median(times))
