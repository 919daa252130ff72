"""From torch to the graph that is served, and the proof that both say the same. Serving never imports this."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from system.model.artifact import INPUT_NAME, OUTPUT_NAME
from system.model.engines import answers, open_graph
from system.model.network import ResNet8
from system.model.transform import SIDE, Pixels

LARGEST_DIFFERENCE = 1e-4

_OPSET = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far the exported graph is from the network.

    Attributes:
        largest_difference: of any probability.
        top1_agreement: share of images that both give the same class, 0 to 1.
    """

    largest_difference: float
    top1_agreement: float

    @property
    def holds(self) -> bool:
        """Whether the graph may stand in for the network: at most 1e-4 apart, the same class for every image."""
        return self.largest_difference <= LARGEST_DIFFERENCE and self.top1_agreement == 1.0


def export_onnx(network: ResNet8, path: Path) -> None:
    """Write the network as an ONNX graph with normalisation, folded BatchNorm and softmax inside."""
    images = torch.zeros((1, SIDE, SIDE, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The successor of this exporter needs onnxscript and a minute for a first call; torch is pinned, so the old one stays.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            torch.nn.Sequential(network.folded(), torch.nn.Softmax(dim=1)).eval(),
            (images,),
            str(path),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def parity(network: ResNet8, path: Path, images: Pixels) -> Parity:
    """Compare the network in torch with its graph in ONNX Runtime on images, uint8 (n, 32, 32, 3), n at least 1."""
    network.eval()
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(images)), dim=1).numpy()
    found = answers(open_graph(path), images)
    return Parity(
        largest_difference=float(np.abs(expected - found).max()),
        top1_agreement=float((expected.argmax(1) == found.argmax(1)).mean()),
    )
