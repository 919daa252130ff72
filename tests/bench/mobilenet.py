"""MobileNetV3-small as an ONNX graph with random weights: what a bigger model costs, not what it knows.

Source: A. Howard et al., "Searching for MobileNetV3", 2019, arXiv:1905.02244, table 2; the classifier has ten classes.
BatchNorm is folded, as an export does. `image` is uint8 (batch, 224, 224, 3); it is transposed while a pixel is one byte, the
mean is subtracted, and 1/std is part of the first convolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 224
CLASSES = 10
OPSET = 17

Weights = npt.NDArray[np.float32]

_MEAN = (123.675, 116.28, 103.53)  # of ImageNet, 0 to 255
_STD = (58.395, 57.12, 57.375)
# kernel, expanded channels, channels out, squeeze and excitation, hard swish (else ReLU), stride
_BLOCKS = (
    (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1), (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1), (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)  # fmt: skip


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(3)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.NDArray[np.generic]) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def normal(self, shape: tuple[int, ...], fan_in: int) -> Weights:
        return self._random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)

    def convolution(self, x: str, channels: tuple[int, int], kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        inputs, outputs = channels
        shape = (outputs, inputs // groups, kernel, kernel)
        weights = self.normal(shape, shape[1] * kernel * kernel)
        if inputs == 3:
            weights /= np.array(_STD, np.float32).reshape(1, 3, 1, 1)
        tensors = self.constant(weights), self.constant(np.zeros(outputs, np.float32))
        pad = kernel // 2
        return self.add("Conv", x, *tensors, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups)

    def activate(self, x: str, *, hard_swish: bool) -> str:
        return self.add("HardSwish", x) if hard_swish else self.add("Relu", x)

    def squeeze(self, x: str, channels: int) -> str:
        inner = max(8, (channels // 4 + 4) // 8 * 8)
        y = self.convolution(self.add("GlobalAveragePool", x), (channels, inner))
        y = self.convolution(self.add("Relu", y), (inner, channels))
        return self.add("Mul", x, self.add("HardSigmoid", y, alpha=1 / 6, beta=0.5))


def build() -> onnx.ModelProto:
    """The graph: 56 MMAC, 1.5 M parameters (2.5 M with the thousand classes of ImageNet, which cost nothing that shows)."""
    graph = _Graph()
    x = graph.add("Cast", graph.add("Transpose", "image", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.constant(np.array(_MEAN, np.float32).reshape(1, 3, 1, 1)))
    x, channels = graph.activate(graph.convolution(x, (3, 16), 3, 2), hard_swish=True), 16
    for kernel, wide, outputs, excited, hard_swish, stride in _BLOCKS:
        y = x if wide == channels else graph.activate(graph.convolution(x, (channels, wide)), hard_swish=hard_swish)
        y = graph.activate(graph.convolution(y, (wide, wide), kernel, stride, wide), hard_swish=hard_swish)
        y = graph.convolution(graph.squeeze(y, wide) if excited else y, (wide, outputs))
        x, channels = graph.add("Add", x, y) if stride == 1 and channels == outputs else y, outputs
    x = graph.activate(graph.convolution(x, (channels, 576)), hard_swish=True)
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    for inputs, outputs, last in ((576, 1024, False), (1024, CLASSES, True)):
        scale = 0.5 if last else 1.0  # random logits of a moderate size, so that no class takes it all
        tensors = (
            graph.constant(graph.normal((inputs, outputs), inputs) * np.float32(scale)),
            graph.constant(np.zeros(outputs, np.float32)),
        )
        x = graph.add("Gemm", x, *tensors)
        x = x if last else graph.activate(x, hard_swish=True)
    graph.nodes.append(helper.make_node("Softmax", [x], ["probabilities"], axis=1))
    ends = (
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
    )
    made = helper.make_graph(graph.nodes, "mobilenet-v3-small", *ends, graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def data() -> bytes:
    """The graph as a file holds it; the same bytes every time."""
    found: bytes = build().SerializeToString(deterministic=True)
    return found
