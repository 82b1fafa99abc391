"""The layers, their gradients and initial weights equal those of Keras.

Keras in float64 is the oracle, on its Eigen kernels, compiled by XLA where strides are unequal.
"""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from cases import DTYPES, rounded
from client import TensorFlowProcess
from ours import array, tensor
from tolerance import (
    Chain,
    assert_within_chains,
    depthwise_chains,
    largest_of,
    separable_chains,
)

import tfcompat_dw

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class LayerCase:
    """A layer, and the input it is called on: `size` has one or two dimensions."""

    name: str
    kernel_size: int | tuple[int, ...]
    strides: int | tuple[int, ...]
    padding: str
    depth_multiplier: int
    data_format: str
    dilation_rate: int | tuple[int, ...]
    use_bias: bool
    filters: int  # of a separable layer
    size: tuple[int, ...]
    channels: int
    dtype: str
    batch: int = 2

    def __str__(self) -> str:
        return "-".join(str(value).replace(" ", "") for value in vars(self).values())

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def separable(self) -> bool:
        return self.name.startswith("Separable")

    @property
    def kernel(self) -> tuple[int, ...]:
        return self._each(self.kernel_size)

    @property
    def unequal_strides(self) -> bool:
        return len(set(self._each(self.strides))) > 1

    @property
    def fits(self) -> bool:
        reach = [
            (k - 1) * d + 1
            for k, d in zip(self.kernel, self._each(self.dilation_rate), strict=True)
        ]
        return self.padding.lower() == "same" or all(
            n >= e for n, e in zip(self.size, reach, strict=True)
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels-last."""
        return (self.batch, *self.size, self.channels)

    @property
    def weight_shapes(self) -> list[tuple[int, ...]]:
        """In Keras' order."""
        middle = self.channels * self.depth_multiplier
        shapes = [(*self.kernel, self.channels, self.depth_multiplier)]
        if self.separable:
            shapes.append((*(1,) * self.rank, middle, self.filters))
        return shapes + [(self.filters if self.separable else middle,)] * self.use_bias

    def keras_arguments(self) -> dict[str, Any]:
        """Always channels-last: Keras 3.15 adds a channels-first bias along the wrong axis where
        the output has as many columns as channels.
        """
        return self.arguments() | {"data_format": "channels_last"}

    def arguments(self) -> dict[str, Any]:
        """The arguments that Keras' layer and ours share."""
        names = [
            "kernel_size",
            "strides",
            "padding",
            "depth_multiplier",
            "data_format",
            "dilation_rate",
        ]
        names += ["use_bias"] + ["filters"] * self.separable
        return {name: getattr(self, name) for name in names}

    def chains(self) -> list[Chain]:
        taps, pixels = math.prod(self.kernel), self.batch * math.prod(self.size)
        if not self.separable:
            return depthwise_chains(taps, self.depth_multiplier, pixels)
        middle = self.channels * self.depth_multiplier
        return separable_chains(
            taps, self.depth_multiplier, pixels, middle, self.filters, biased=self.use_bias
        )

    def example(self) -> Arrays:
        """Input, weights in Keras' order, gradient pool: channels-last."""
        numbers = np.random.default_rng(zlib.crc32(str(self).encode()))
        outputs = self.filters if self.separable else self.channels * self.depth_multiplier
        pool = self.batch * math.prod(self.size) * outputs
        shapes = [self.input_shape, *self.weight_shapes, (pool,)]
        return tuple(rounded(numbers.standard_normal(shape), self.dtype) for shape in shapes)

    def _each(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * self.rank if isinstance(value, int) else value


def sampled_layers(name: str, count: int, seed: int) -> list[LayerCase]:
    source = random.Random(f"{name}{seed}")
    cases: dict[LayerCase, None] = {}
    while len(cases) < count:
        case = draw_layer(name, source)
        if case.fits:
            cases[case] = None
    return list(cases)


def draw_layer(name: str, source: random.Random) -> LayerCase:
    rank = 1 if name.endswith("1D") else 2

    def sizes(*choices: int) -> int | tuple[int, ...]:
        """One for all dimensions, mostly."""
        if source.random() < 0.6:
            return source.choice(choices)
        return tuple(source.choice(choices) for _ in range(rank))

    return LayerCase(
        name=name,
        kernel_size=sizes(1, 2, 3, 3, 5),
        strides=sizes(1, 1, 2, 3),
        padding=source.choice(("same", "valid", "SAME")),
        depth_multiplier=source.choice((1, 1, 2, 3)),
        data_format=source.choice(("channels_last", "channels_first")),
        dilation_rate=sizes(1, 1, 1, 2, 3),
        use_bias=source.random() < 0.7,
        filters=source.choice((1, 4, 7)),
        size=tuple(source.sample(range(3, 12), rank)),
        channels=source.choice((1, 3, 5, 8, 17)),
        dtype=source.choice(DTYPES),
    )


NAMES = ("DepthwiseConv2D", "SeparableConv2D", "DepthwiseConv1D", "SeparableConv1D")
LAYERS = [case for name in NAMES for case in sampled_layers(name, 40, seed=7)]


def our_layer(case: LayerCase) -> torch.nn.Module:
    return getattr(tfcompat_dw, case.name)(
        case.channels, **case.arguments(), dtype=getattr(torch, case.dtype)
    )


def weights_in_keras_order(layer: torch.nn.Module) -> list[torch.nn.Parameter]:
    names = ("weight", "depthwise_weight", "pointwise_weight", "bias")
    found = [getattr(layer, name, None) for name in names]
    return [weight for weight in found if weight is not None]


def run_our_layer(case: LayerCase, example: Arrays) -> list[np.ndarray]:
    """Output, input gradient, gradient of each weight: images channels-last."""
    values, *weights, pool = example
    layer = our_layer(case)
    channel = 1 if case.data_format == "channels_first" else -1
    x = tensor(np.moveaxis(values, -1, channel), case.dtype).requires_grad_()
    parameters = weights_in_keras_order(layer)
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            assert parameter.shape == weight.shape
            parameter.copy_(tensor(weight, case.dtype))
    output = layer(x)
    assert output.dtype == x.dtype
    shape = tuple(output.movedim(channel, -1).shape)
    gradient = pool[: output.numel()].reshape(shape)
    output.backward(tensor(np.moveaxis(gradient, -1, channel), case.dtype))
    images = [np.moveaxis(array(image), channel, -1) for image in (output, x.grad)]
    return images + [array(parameter.grad) for parameter in parameters]


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_a_layer_and_its_gradients_are_those_of_keras(
    case: LayerCase, tf_eigen: TensorFlowProcess
) -> None:
    example = case.example()
    theirs, magnitudes = tf_eigen.ask(
        "layer",
        name=case.name,
        examples=[example, tuple(map(np.abs, example))],
        dtype="float64",
        xla=case.unequal_strides,
        **case.keras_arguments(),
    )
    ours, largest = run_our_layer(case, example), largest_of(example)
    types = (case.dtype, "float64")
    assert_within_chains(ours, theirs, magnitudes, case.chains(), largest, types)


# Keras without XLA wants equal strides.
FLOAT32_LAYERS = [case for case in LAYERS if case.dtype == "float32" and not case.unequal_strides]


@pytest.mark.parametrize("case", FLOAT32_LAYERS, ids=str)
def test_a_float32_layer_agrees_with_default_keras_in_float32(
    case: LayerCase, tf_onednn: TensorFlowProcess
) -> None:
    example = case.example()
    arguments = {"name": case.name, **case.keras_arguments()}
    (theirs,) = tf_onednn.ask("layer", examples=[example], dtype="float32", **arguments)
    (magnitudes,) = tf_onednn.ask(
        "layer", examples=[tuple(map(np.abs, example))], dtype="float64", **arguments
    )
    ours, largest = run_our_layer(case, example), largest_of(example)
    types = ("float32", "float32")
    assert_within_chains(ours, theirs, magnitudes, case.chains(), largest, types)


# ---- initial weights ----

INITIAL = [
    ("DepthwiseConv2D", {"kernel_size": (5, 3), "depth_multiplier": 4}, 64),
    ("SeparableConv2D", {"kernel_size": (3, 4), "depth_multiplier": 3, "filters": 50}, 80),
    ("DepthwiseConv1D", {"kernel_size": 9, "depth_multiplier": 5}, 70),
    ("SeparableConv1D", {"kernel_size": 7, "depth_multiplier": 2, "filters": 60}, 90),
]


def glorot_limit(shape: tuple[int, ...]) -> float:
    """Of Keras' glorot_uniform, with the fans of a dense kernel [..., in, out]."""
    *taps, fan_in, fan_out = shape
    return math.sqrt(6 / (math.prod(taps) * (fan_in + fan_out)))


def assert_uniform(weight: np.ndarray, limit: float) -> None:
    """Uniform on (-limit, limit), as far as mean, variance (5 sigma) and extremes can tell."""
    count = weight.size
    assert np.abs(weight).max() <= limit * (1 + 2**-20)
    assert np.abs(weight).max() > limit * (1 - 20 / count)  # below with probability exp(-20)
    assert abs(weight.mean()) < 5 * limit / math.sqrt(3 * count)
    assert abs((weight**2).mean() - limit**2 / 3) < 5 * limit**2 * math.sqrt(4 / 45 / count)


@pytest.mark.parametrize(("name", "arguments", "channels"), INITIAL, ids=lambda value: str(value))
def test_initial_weights_are_distributed_as_in_keras(
    name: str, arguments: dict[str, Any], channels: int, tf_eigen: TensorFlowProcess
) -> None:
    torch.manual_seed(3)
    ours = weights_in_keras_order(getattr(tfcompat_dw, name)(channels, **arguments))
    shape = (None, 9, 9, channels) if name.endswith("2D") else (None, 9, channels)
    theirs = tf_eigen.ask("initial_weights", name=name, shape=shape, **arguments)
    assert [tuple(weight.shape) for weight in ours] == [weight.shape for weight in theirs]
    for mine, their in zip(ours[:-1], theirs[:-1], strict=True):
        assert_uniform(their, glorot_limit(their.shape))
        assert_uniform(array(mine), glorot_limit(their.shape))
    assert not ours[-1].any()
    assert not theirs[-1].any()
