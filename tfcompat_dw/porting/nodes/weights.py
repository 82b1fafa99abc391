"""Nodes with weights as layers: their arguments in Keras' terms, their weights in TF's layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfcompat_dw.checkpoint.graph import GraphNode, Output
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.patterns import Chain, Normalization

CHANNELS_LAST = ("NHWC", "NDHWC", None)
CHANNELS_FIRST = ("NCHW", "NCDHW")


@dataclass(frozen=True)
class Weighted:
    """A layer's description and the values of its variables."""

    class_name: str
    config: Mapping[str, Any]
    values: Mapping[str, Tensor]
    """By TF's short names, in Keras' order and in TF's layouts."""
    sources: Mapping[str, Output]
    """Which node each value is the result of, or is made of."""
    keras: int = 3
    """Whose rules hold where those of Keras 2 and 3 differ: normalizations of TensorFlow's fused
    kernel train as in Keras 2, those that are written out as in Keras 3."""


Shape = tuple[int | None, ...] | None
Known = Mapping[Output, Tensor]


class NotALayerError(Exception):
    """These nodes are no layer together; each of them may still be an operation."""


def weighted_layer(chain: Chain, known: Known, values: Mapping[str, Any], shape: Shape) -> Weighted:
    """The layer that a chain is.

    Args:
        chain: the nodes.
        known: constants.
        values: sizes, by the names of the nodes that compute them.
        shape: of what goes in.

    Raises:
        NotALayerError: an argument is one that no layer has.
    """
    node = chain.weighted
    if node.op in ("MatMul", "BatchMatMulV2"):
        described = _dense(node, known, shape)
    elif node.op == "Conv2DBackpropInput":
        described = _transposed(node, known)
    else:
        described = _convolution(chain, known, values, shape)
    return _with_channels(described, chain, known)


# ---- convolutions --------------------------------------------------------------------------------


def _convolution(chain: Chain, known: Known, values: Mapping[str, Any], shape: Shape) -> Weighted:
    node = chain.weighted
    kernel = known[node.inputs[1]]
    rank = 3 if node.op == "Conv3D" else 2
    is_last = _is_last(node)
    if kernel.dim() != rank + 2:
        raise UnsupportedLayerError(f"its filter has shape {tuple(kernel.shape)}")
    strides = _spatial(node, "strides", rank, is_last)
    dilations = _spatial(node, "dilations", rank, is_last)
    config: dict[str, Any] = {
        "strides": strides,
        "dilation_rate": dilations,
        "data_format": "channels_last" if is_last else "channels_first",
        "use_bias": False,
    }
    config |= _padding(chain, rank, is_last, known, values)
    sources = {"kernel": node.inputs[1]}
    if node.op == "DepthwiseConv2dNative":
        config["depth_multiplier"] = kernel.shape[-1]
        return Weighted("DepthwiseConv2D", config, {"kernel": kernel}, sources)
    channels = None if shape is None else shape[-1 if is_last else 1]
    if channels is not None and kernel.shape[-2] and channels != kernel.shape[-2]:
        config["groups"] = channels // kernel.shape[-2]
    return Weighted(f"Conv{rank}D", config, {"kernel": kernel}, sources)


def _padding(
    chain: Chain, rank: int, is_last: bool, known: Known, values: Mapping[str, Any]
) -> dict[str, Any]:
    """``padding``, ``explicit_padding``, and the dilation that pieces of the image stand for."""
    node, before = chain.weighted, chain.before
    padding = node.attributes.get("padding")
    if before is None:
        if padding == "EXPLICIT":
            pads = node.attributes.get("explicit_paddings") or []
            pairs = [list(pads[i : i + 2]) for i in range(0, len(pads), 2)]
            return _explicit(pairs, rank, is_last)
        if padding not in ("SAME", "VALID"):
            raise UnsupportedLayerError(f"its padding is {padding!r}")
        return {"padding": padding.lower()}
    if before.op != "SpaceToBatchND":
        return _explicit(known[before.inputs[1]].tolist(), rank, is_last)
    way_back = next(one for one in chain.after if one.op == "BatchToSpaceND")
    block, pads, back, crops = (
        _numbers(output, known, values) for output in (*before.inputs[1:], *way_back.inputs[1:])
    )
    if not is_last or block != back or len(block) != rank or not _whole(block):
        raise NotALayerError
    pairs = [
        [pad - crop for pad, crop in zip(one, other, strict=True)]
        for one, other in zip(pads, crops, strict=True)
    ]
    if any(crop[0] != 0 for crop in crops):
        raise NotALayerError
    return {"dilation_rate": block, **_explicit([[0, 0], *pairs, [0, 0]], rank, is_last)}


def _whole(numbers: Any) -> bool:
    return all(type(number) is int for number in numbers)


def _numbers(output: Output, known: Known, values: Mapping[str, Any]) -> Any:
    """A known array, or one of sizes, as nested lists."""
    if output in known:
        return known[output].tolist()
    value = values.get(output.node)
    if not isinstance(value, np.ndarray):
        raise NotALayerError
    return value.tolist()


def _explicit(pairs: Any, rank: int, is_last: bool) -> dict[str, Any]:
    """(before, after) of every axis of the input; images alone may be padded."""
    if not isinstance(pairs, list) or len(pairs) != rank + 2:
        raise NotALayerError
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not _whole(pair) or min(pair) < 0:
            raise NotALayerError
    outside = (pairs[0], pairs[-1] if is_last else pairs[1])
    if any(any(pair) for pair in outside):
        raise NotALayerError
    inner = pairs[1:-1] if is_last else pairs[2:]
    return {"explicit_padding": [list(pair) for pair in inner]}


def _is_last(node: GraphNode) -> bool:
    data_format = node.attributes.get("data_format")
    if data_format in CHANNELS_LAST:
        return True
    if data_format in CHANNELS_FIRST:
        return False
    raise UnsupportedLayerError(f"its data_format is {data_format!r}")


def _spatial(node: GraphNode, key: str, rank: int, is_last: bool) -> list[int]:
    """A stride or dilation for each axis of the image."""
    value = node.attributes.get(key)
    if value is None or value == []:
        return [1] * rank
    if not isinstance(value, (list, tuple)) or len(value) != rank + 2 or not _whole(value):
        raise UnsupportedLayerError(f"its {key} are {value!r}")
    inner = list(value[1:-1] if is_last else value[2:])
    if value[0] != 1 or value[-1 if is_last else 1] != 1:
        raise UnsupportedLayerError(f"its {key} are {value!r}: not of the image's axes alone")
    return inner


def _transposed(node: GraphNode, known: Known) -> Weighted:
    kernel, is_last = known[node.inputs[1]], _is_last(node)
    padding = node.attributes.get("padding")
    if padding not in ("SAME", "VALID") or kernel.dim() != 4:
        raise NotALayerError
    if max(_spatial(node, "dilations", 2, is_last)) > 1:
        raise NotALayerError
    config = {
        "strides": _spatial(node, "strides", 2, is_last),
        "padding": padding.lower(),
        "data_format": "channels_last" if is_last else "channels_first",
        "use_bias": False,
    }
    sources = {"kernel": node.inputs[1]}
    return Weighted("Conv2DTranspose", config, {"kernel": kernel}, sources)


def _dense(node: GraphNode, known: Known, shape: Shape) -> Weighted:
    """``[..., in]`` times ``[in, units]``."""
    kernel = known[node.inputs[1]]
    left = node.attributes.get("transpose_a") or node.attributes.get("adj_x")
    right = node.attributes.get("transpose_b") or node.attributes.get("adj_y")
    if left or kernel.dim() != 2 or not kernel.is_floating_point() or shape is None:
        raise NotALayerError
    kernel = kernel.T if right else kernel
    if shape[-1] != kernel.shape[0]:
        raise UnsupportedLayerError(
            f"its matrix has shape {tuple(kernel.shape)}, its input {shape}"
        )
    return Weighted("Dense", {"use_bias": False}, {"kernel": kernel}, {"kernel": node.inputs[1]})


# ---- scale and bias ------------------------------------------------------------------------------


def _with_channels(layer: Weighted, chain: Chain, known: Known) -> Weighted:
    """The scale that follows goes into the kernel, what is added after it becomes the bias."""
    values, sources, config = dict(layer.values), dict(layer.sources), dict(layer.config)
    previous = chain.weighted.name
    for node in chain.after:
        if node.op != "BatchToSpaceND":
            other = next(one for one in node.inputs if one.node != previous)
            operand = known[other].flatten()
            if node.op == "Mul":
                values["kernel"] = _scaled(values["kernel"], operand, layer.class_name)
            else:
                values["bias"], sources["bias"] = operand, other
                config["use_bias"] = True
        previous = node.name
    return Weighted(layer.class_name, config, values, sources)


def _scaled(kernel: Tensor, factors: Tensor, class_name: str) -> Tensor:
    """In double precision, so that one rounding is all that is added."""
    if class_name == "DepthwiseConv2D":
        factors = factors.reshape(kernel.shape[-2:])
    elif class_name == "Conv2DTranspose":
        factors = factors[:, None]
    return (kernel.double() * factors.double()).to(kernel.dtype)


# ---- batch normalization -------------------------------------------------------------------------


def fused_normalization(node: GraphNode, known: Known) -> Weighted:
    """``FusedBatchNorm`` of any version, of constants.

    Raises:
        NotALayerError: it takes the statistics of the batch, or something that is computed.
    """
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    sources = dict(zip(names, node.inputs[1:5], strict=False))
    if node.attributes.get("is_training", True) or not all(o in known for o in sources.values()):
        raise NotALayerError
    values = {name: known[output].float() for name, output in sources.items()}
    epsilon = node.attributes.get("epsilon", 1e-4)
    axis = -1 if _is_last(node) else 1
    return replace(_normalization(values, sources, epsilon, axis), keras=2)


def written_out_normalization(found: Normalization, known: Known, rank: int) -> Weighted:
    """A batch normalization made of products and sums, of a tensor of this rank.

    Raises:
        NotALayerError: its parts are not one number per channel, the last axis.
    """
    parts = {
        "gamma": found.gamma,
        "beta": found.beta,
        "moving_mean": found.mean,
        "moving_variance": found.variance,
    }
    sources = {name: output for name, output in parts.items() if output is not None}
    shapes = [known[output].shape for output in sources.values()]
    channels = shapes[-1].numel()
    if any(
        shape.numel() != channels or list(shape[-1:]) != [channels] or len(shape) > rank
        for shape in shapes
    ):
        raise NotALayerError
    values = {name: known[output].flatten() for name, output in sources.items()}
    return _normalization(values, sources, float(known[found.epsilon]), -1)


def _normalization(
    values: Mapping[str, Tensor], sources: Mapping[str, Output], epsilon: Any, axis: int
) -> Weighted:
    config = {
        "axis": axis,
        "epsilon": epsilon,
        "scale": "gamma" in values,
        "center": "beta" in values,
    }
    return Weighted("BatchNormalization", config, values, sources)


def prelu(alpha: Tensor, source: Output, negated: bool) -> Weighted:
    """Slopes below zero: one for each channel, or for each number of an example."""
    slopes = -alpha if negated else alpha
    while slopes.dim() > 1 and slopes.shape[0] == 1:
        slopes = slopes[0]
    if not slopes.dim():
        raise NotALayerError
    return Weighted("PReLU", {}, {"alpha": slopes}, {"alpha": source})


def one_prelu(node: GraphNode, known: Known) -> Weighted:
    """A ``Prelu`` node.

    Raises:
        NotALayerError: its slopes are computed, or a single number.
    """
    if node.inputs[1] not in known:
        raise NotALayerError
    return prelu(known[node.inputs[1]], node.inputs[1], negated=False)


RECURRENT = "RecurrentLayer"
"""This package's own node, which TFLite's recurrent operators become: a kernel, a recurrent kernel
and a bias as Keras has them behind its input; attributes ``layer`` and ``config``."""


def recurrent(node: GraphNode, known: Known) -> Weighted:
    """A layer that goes from step to step.

    Raises:
        UnsupportedLayerError: its weights are computed.
    """
    names = ("kernel", "recurrent_kernel", "bias")
    sources = dict(zip(names, node.inputs[1:], strict=True))
    if not all(source in known for source in sources.values()):
        raise UnsupportedLayerError("its weights are computed")
    values = {name: known[source] for name, source in sources.items()}
    return Weighted(node.attributes["layer"], node.attributes["config"], values, sources)


def stored(value: Tensor, source: Output, trainable: bool) -> Weighted:
    """A tensor on its own."""
    dtype = str(value.dtype).removeprefix("torch.")
    config = {"dtype": dtype, "trainable": trainable and value.is_floating_point()}
    return Weighted("StoredTensor", config, {"value": value}, {"value": source})


def small_list(value: Tensor) -> Any:
    """As nested lists, for an argument that is written down."""
    return value.to(torch.float64).tolist() if value.is_floating_point() else value.tolist()


def shapes_of(values: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Of a layer's variables."""
    return {name: tuple(value.shape) for name, value in values.items()}
