"""The layers against Keras' layers with the same weights, and separable_conv2d against tf.nn's.

Keras in float64 is the oracle, on its Eigen kernels, compiled by XLA where strides are unequal.
Results and gradients are sums of products of up to four operands, whose error bound is that of
`tolerance.py` with the roundings of all stages added: a chain of relative errors (1 + d1)(1 +
d2)... acts on every term.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from cases import CORNERS, DTYPES, STRIDED_AND_DILATED, Case, rounded, to_format
from client import TensorFlowProcess
from ours import array, tensor
from tolerance import ACCUMULATOR, LOST_TO_UNDERFLOW, UNIT_ROUNDOFF, assert_within

import tfcompat_dw

Arrays = tuple[np.ndarray, ...]


# ---- error bounds of chains ----


@dataclass(frozen=True)
class Chain:
    """How often a term of one result is rounded: in sums, and on its way from stage to stage."""

    sums: int
    stages: int

    def error(self, magnitude: np.ndarray, largest: float, dtype: str) -> np.ndarray:
        """The bound for a result computed in `dtype`, whose absolute terms sum to `magnitude`.

        What a stage loses to underflow, the next may multiply by the `largest` operand and sum up.
        """
        logarithm = self.sums * math.log1p(UNIT_ROUNDOFF[ACCUMULATOR[dtype]])
        if ACCUMULATOR[dtype] != dtype:
            logarithm += self.stages * math.log1p(UNIT_ROUNDOFF[dtype])
        lost = LOST_TO_UNDERFLOW[dtype] * self.stages * (1 + self.sums * max(1.0, largest))
        return math.expm1(logarithm) * magnitude + lost


def depthwise_chains(taps: int, multiplier: int, pixels: int) -> list[Chain]:
    """Output, and gradients of input, kernel, bias."""
    return [Chain(taps + 1, 1), Chain(taps * multiplier, 1), Chain(pixels, 1), Chain(pixels, 1)]


def separable_chains(
    taps: int, multiplier: int, pixels: int, middle: int, filters: int
) -> list[Chain]:
    """Output, and gradients of input, depthwise kernel, pointwise kernel, bias."""
    return [
        Chain(taps + middle + 1, 2),
        Chain(filters + taps * multiplier, 2),
        Chain(filters + pixels, 2),
        Chain(taps + pixels, 2),
        Chain(pixels, 1),
    ]


def assert_chains(
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    magnitudes: Sequence[np.ndarray],
    chains: Sequence[Chain],
    largest: float,
    dtype: str,
) -> None:
    assert len(ours) == len(theirs) <= len(chains)
    for number, (mine, reference, magnitude) in enumerate(
        zip(ours, theirs, magnitudes, strict=True)
    ):
        chain = chains[number]
        allowed = chain.error(magnitude, largest, dtype) + chain.error(
            magnitude, largest, "float64"
        )
        assert_within(mine, reference, allowed, f"result {number}")


# ---- layers ----


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
        return separable_chains(taps, self.depth_multiplier, pixels, middle, self.filters)

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
    largest = max(np.abs(values).max() for values in example)
    assert_chains(
        run_our_layer(case, example), theirs, magnitudes, case.chains(), largest, case.dtype
    )


FLOAT32_LAYERS = [replace(case, dtype="float32") for case in LAYERS if not case.unequal_strides][
    ::3
]


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
    largest = max(np.abs(values).max() for values in example)
    for number, chain in enumerate(case.chains()[: len(theirs)]):
        allowed = 2 * chain.error(magnitudes[number], largest, "float32")
        assert_within(
            run_our_layer(case, example)[number], theirs[number], allowed, f"result {number}"
        )


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


# ---- separable_conv2d ----

# tf.nn computes a strided and dilated call the space-to-batch way.
SEPARABLE = [
    replace(case, dtype=DTYPES[number % 4], data_format=("NHWC", "NCHW")[number // 4 % 2])
    for number, case in enumerate(
        [
            *CORNERS,
            *(replace(case, strided_dilation="space_to_batch") for case in STRIDED_AND_DILATED),
        ]
    )
]
FILTERS = 4


def separable_example(case: Case, numbers: Callable[[tuple[int, ...]], np.ndarray]) -> Arrays:
    """Input, depthwise filter, pointwise filter, gradient pool."""
    middle = case.channels * case.multiplier
    pool = case.pool_size * FILTERS
    shapes = [case.input_shape, case.filter_shape, (1, 1, middle, FILTERS), (pool,)]
    return tuple(numbers(shape) for shape in shapes)


def run_our_separable(case: Case, example: Arrays) -> list[np.ndarray]:
    """Output and three gradients, channels-last."""
    x, *filters = (tensor(values, case.dtype) for values in example[:3])
    x = tensor(to_format(example[0], case.data_format), case.dtype)
    leaves = [operand.requires_grad_() for operand in (x, *filters)]
    output = tfcompat_dw.separable_conv2d(
        *leaves, **case.arguments(case.data_format), strided_dilation=case.strided_dilation
    )
    channel = 1 if case.data_format == "NCHW" else 3
    shape = tuple(output.movedim(channel, 3).shape)
    gradient = example[3][: output.numel()].reshape(shape)
    output.backward(tensor(to_format(gradient, case.data_format), case.dtype))
    images = [array(output), array(x.grad)]
    return [np.moveaxis(image, channel, 3) for image in images] + [array(f.grad) for f in filters]


@pytest.mark.parametrize("case", SEPARABLE, ids=str)
def test_separable_conv2d_and_its_gradients_are_those_of_tensorflow(
    case: Case, tf_eigen: TensorFlowProcess
) -> None:
    numbers = np.random.default_rng(zlib.crc32(str(case).encode()))
    example = separable_example(
        case, lambda shape: rounded(numbers.standard_normal(shape), case.dtype)
    )
    theirs, magnitudes = tf_eigen.ask(
        "separable_conv2d",
        examples=[example, tuple(map(np.abs, example))],
        dtype="float64",
        xla=case.unequal_strides,
        **case.arguments("NHWC"),
    )
    pixels = case.batch * math.prod(theirs[0].shape[1:3])
    middle = case.channels * case.multiplier
    chains = separable_chains(math.prod(case.kernel), case.multiplier, pixels, middle, FILTERS)
    largest = max(np.abs(values).max() for values in example)
    assert_chains(run_our_separable(case, example), theirs, magnitudes, chains, largest, case.dtype)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_separable_conv2d_of_whole_numbers_rounds_each_result_once(
    dtype: str, data_format: str, tf_eigen: TensorFlowProcess
) -> None:
    """What passes between the two stages is at most 256 here, so exact even in bfloat16."""
    case = Case(size=(9, 8), kernel=(2, 2), channels=2, batch=4, dtype=dtype)
    numbers = np.random.default_rng(5)
    example = separable_example(
        case, lambda shape: numbers.integers(-8, 9, shape).astype(np.float64)
    )
    example = (example[0], np.sign(example[1]), *example[2:])
    (theirs,) = tf_eigen.ask(
        "separable_conv2d", examples=[example], dtype="float64", **case.arguments("NHWC")
    )
    ours = run_our_separable(replace(case, data_format=data_format), example)
    for number, (mine, exact) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_array_equal(mine, rounded(exact, dtype), err_msg=f"result {number}")
