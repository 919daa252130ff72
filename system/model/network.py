"""ResNet-8: the residual network of MLPerf Tiny's image classification benchmark, 78 thousand parameters.

Source: C. Banbury et al., "MLPerf Tiny Benchmark", 2021, arXiv:2106.07597; reference model `resnet_v1_eembc`. Here
stride-2 convolutions pad on both sides.
"""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLASSES = 10


class _Stack(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return functional.relu(y + self.shortcut(x))


class ResNet8(nn.Module):
    """From pixels to logits; the normalisation is part of the network, so that no caller can forget it.

    Args:
        mean: float32 (3,), of each channel over the training images, 0 to 255.
        std: float32 (3,), likewise, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean.copy()).view(1, 3, 1, 1))
        self.register_buffer("std", torch.from_numpy(std.copy()).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stem_norm: nn.Module = nn.BatchNorm2d(16)
        self.stacks = nn.Sequential(_Stack(16, 16, 1), _Stack(16, 32, 2), _Stack(32, 64, 2))
        self.head = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 (batch, 10), of images, uint8 (batch, 32, 32, 3)."""
        x = images.permute(0, 3, 1, 2).float() - self.mean  # transposed while a pixel is one byte: four times less to move
        # Dividing the 3x3 weights instead of every pixel is exact: zero padding comes after the mean is gone.
        x = functional.conv2d(x, self.stem.weight / self.std, self.stem.bias, padding=1)
        x = self.stacks(functional.relu(self.stem_norm(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits

    def folded(self) -> ResNet8:
        """A copy to evaluate and export, with 1/std and the stem's BatchNorm folded into its convolution.

        The exporter folds every other BatchNorm, but not one behind weights that are computed.
        """
        folded = copy.deepcopy(self).eval()
        with torch.no_grad():
            folded.stem.weight /= folded.std
            folded.std.fill_(1)
        folded.stem = fuse_conv_bn_eval(folded.stem, cast("nn.BatchNorm2d", folded.stem_norm))
        folded.stem_norm = nn.Identity()
        return folded
