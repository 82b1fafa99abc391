"""Three networks with a depthwise convolution in every block, in plain PyTorch layers.

MobileNetV2 (Sandler et al., 2018), EfficientNet-B0 (Tan and Le, 2019) and the blocks of ConvNeXt-T
(Liu et al., 2022), with their published widths, depths, kernels and strides, random weights, and
images of 224 x 224.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE_SIZE = 224
CLASSES = 1000


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, activation: type[nn.Module]
) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), activation())


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole image shows."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same."""
        weights = self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(weights)


class InvertedResidual(nn.Module):
    """The block of MobileNetV2, and with ``squeezes`` of EfficientNet."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, squeezes: bool
    ) -> None:
        super().__init__()
        activation = nn.SiLU if squeezes else nn.ReLU6
        inner = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(_convolution(inputs, inner, 1, 1, 1, activation))
        layers.append(_convolution(inner, inner, kernel, stride, inner, activation))
        if squeezes:
            layers.append(SqueezeExcite(inner, max(1, inputs // 4)))
        layers.append(_convolution(inner, outputs, 1, 1, 1, nn.Identity))
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        result: Tensor = self.layers(x)
        return x + result if self.adds else result


def _inverted_residuals(
    stages: tuple[tuple[int, int, int, int, int], ...], last: int, squeezes: bool
) -> nn.Sequential:
    """Of (expansion, channels, blocks, stride, kernel) per stage."""
    activation = nn.SiLU if squeezes else nn.ReLU6
    layers: list[nn.Module] = [_convolution(3, 32, 3, 2, 1, activation)]
    channels = 32
    for expansion, outputs, blocks, first_stride, kernel in stages:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            layers.append(InvertedResidual(channels, outputs, kernel, stride, expansion, squeezes))
            channels = outputs
    layers += [
        _convolution(channels, last, 1, 1, 1, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last, CLASSES),
    ]
    return nn.Sequential(*layers)


def mobilenet_v2() -> nn.Module:
    """17 depthwise convolutions, 3 x 3."""
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )
    return _inverted_residuals(stages, 1280, squeezes=False)


def efficientnet_b0() -> nn.Module:
    """16 depthwise convolutions, 3 x 3 and 5 x 5."""
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    return _inverted_residuals(stages, 1280, squeezes=True)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of [n, c, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        result: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result


class ConvNeXtBlock(nn.Module):
    """7 x 7 depthwise, then two 1 x 1 on the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.reduce = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same."""
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inner = self.reduce(F.gelu(self.expand(inner)))
        result: Tensor = x + inner.permute(0, 3, 1, 2)
        return result


def convnext_tiny() -> nn.Module:
    """18 depthwise convolutions, 7 x 7."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), ChannelNorm(96)]
    channels = 96
    for outputs, blocks in ((96, 3), (192, 3), (384, 9), (768, 3)):
        if outputs != channels:
            layers += [ChannelNorm(channels), nn.Conv2d(channels, outputs, 2, 2)]
        layers += [ConvNeXtBlock(outputs) for _ in range(blocks)]
        channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*layers)


def initialize(network: nn.Module) -> nn.Module:
    """Weights with which values keep their size from layer to layer, so that errors show."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MobileNetV2": mobilenet_v2,
    "EfficientNet-B0": efficientnet_b0,
    "ConvNeXt-T": convnext_tiny,
}
