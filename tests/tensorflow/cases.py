"""The calls that are compared with TensorFlow: hand-written corners and a seeded sampler.

Arrays here are float64 and channels-last; `Case.to_format` and `from_format` convert to the
case's layout.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

Pair = tuple[int, int]
Padding = str | tuple[Pair, Pair]

DTYPES = ("float64", "float32", "bfloat16", "float16")


class Passes(NamedTuple):
    """What one call computes, forward and backward."""

    output: np.ndarray
    input_gradient: np.ndarray
    filter_gradient: np.ndarray

    def from_format(self, data_format: str) -> Passes:
        """Channels-last, from results in a data format."""
        output, of_input = (from_format(result, data_format) for result in self[:2])
        return Passes(output, of_input, self.filter_gradient)


class Example(NamedTuple):
    """The data of one call. The gradient is a flat pool, whose first elements fill the output."""

    input: np.ndarray
    filter: np.ndarray
    gradient: np.ndarray

    def gradient_of_shape(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.gradient[: np.prod(shape, dtype=int)].reshape(shape)

    def in_format(self, data_format: str, output_shape: tuple[int, ...]) -> Example:
        """The same data in a data format, with the gradient of just that (channels-last) output."""
        gradient = to_format(self.gradient_of_shape(output_shape), data_format)
        return Example(to_format(self.input, data_format), self.filter, gradient.ravel())


@dataclass(frozen=True)
class Case:
    """One call of depthwise_conv2d. Pairs are (rows, columns)."""

    size: Pair = (6, 7)
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Padding = "SAME"
    dilation: Pair = (1, 1)
    batch: int = 2
    channels: int = 3
    multiplier: int = 2
    data_format: str = "NHWC"
    dtype: str = "float32"
    strided_dilation: str = "error"

    def __str__(self) -> str:
        pads = (
            self.padding
            if isinstance(self.padding, str)
            else "pads" + "_".join(map(_joined, self.padding))
        )
        parts = [
            f"{self.batch}x{_joined(self.size)}x{self.channels}x{self.multiplier}",
            f"k{_joined(self.kernel)}",
            f"s{_joined(self.stride)}",
            f"d{_joined(self.dilation)}",
            pads,
            self.data_format,
            self.dtype,
        ]
        return "-".join(parts + [self.strided_dilation] * self.strided_and_dilated)

    # ---- what kind of call it is ----

    @property
    def strided_and_dilated(self) -> bool:
        return max(self.stride) > 1 and max(self.dilation) > 1

    @property
    def unequal_strides(self) -> bool:
        return self.stride[0] != self.stride[1]

    @property
    def explicit_pads(self) -> tuple[Pair, Pair]:
        """The explicit padding; zeros under SAME and VALID."""
        return ((0, 0), (0, 0)) if isinstance(self.padding, str) else self.padding

    @property
    def fits(self) -> bool:
        """Whether there is an output: under SAME always, else the dilated kernel must fit."""
        if self.padding == "SAME":
            return True
        return all(
            n + sum(pads) >= (k - 1) * d + 1
            for n, k, d, pads in zip(
                self.size, self.kernel, self.dilation, self.explicit_pads, strict=True
            )
        )

    # ---- as arguments ----

    def arguments(self, data_format: str) -> dict[str, Any]:
        """The arguments of tf.nn.depthwise_conv2d after the tensors, for one data format."""
        return {
            "strides": in_format((1, *self.stride, 1), data_format),
            "padding": self.padding_argument(data_format),
            "data_format": data_format,
            "dilations": list(self.dilation),
        }

    def padding_argument(self, data_format: str) -> str | list[Pair]:
        if isinstance(self.padding, str):
            return self.padding
        return in_format(((0, 0), *self.padding, (0, 0)), data_format)

    # ---- as data ----

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.size, self.channels)

    @property
    def filter_shape(self) -> tuple[int, ...]:
        return (*self.kernel, self.channels, self.multiplier)

    @property
    def pool_size(self) -> int:
        """At least the output's: no more pixels than the padded input, times the multiplier."""
        area = [n + sum(pads) for n, pads in zip(self.size, self.explicit_pads, strict=True)]
        return self.batch * area[0] * area[1] * self.channels * self.multiplier

    def integers(self) -> Example:
        """Small whole numbers: every sum of their products is exact in float32, in any order."""
        random_numbers = self._random_numbers()
        return self._example(lambda size: random_numbers.integers(-8, 9, size).astype(np.float64))

    def reals(self) -> Example:
        """Normally distributed numbers, rounded to the case's type."""
        random_numbers = self._random_numbers()
        return self._example(lambda size: rounded(random_numbers.standard_normal(size), self.dtype))

    def ones(self) -> Example:
        """Ones: what they compute is the number of terms in each sum."""
        return self._example(np.ones)

    def _example(self, make: Any) -> Example:
        return Example(make(self.input_shape), make(self.filter_shape), make(self.pool_size))

    def _random_numbers(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(str(self).encode()))


def magnitudes(example: Example) -> Example:
    """The absolute values: what they compute is the sum of absolute terms in each sum."""
    return Example(*map(np.abs, example))


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest values of a dtype, as float64: exactly, if they are exact in float32."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(getattr(torch, dtype)).double().numpy()


def in_format(items: Any, data_format: str) -> list[Any]:
    """Four items in NHWC order, in the order of a data format."""
    batch, *space, channels = items
    return [batch, channels, *space] if data_format == "NCHW" else [batch, *space, channels]


def to_format(array: np.ndarray, data_format: str) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if data_format == "NCHW" else array


def from_format(array: np.ndarray, data_format: str) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if data_format == "NCHW" else array


def _joined(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"


# ---- the corners ----

CORNERS = (
    Case(size=(1, 1), kernel=(1, 1), batch=1, channels=1, multiplier=1),
    Case(size=(1, 1), kernel=(3, 3), batch=1, channels=5, multiplier=1),
    Case(size=(1, 13), kernel=(3, 3)),
    Case(size=(13, 1), kernel=(1, 5)),
    Case(size=(2, 3), kernel=(5, 4)),  # larger than the input: pads on both sides exceed it
    Case(size=(2, 3), kernel=(13, 9), multiplier=1),
    Case(size=(3, 2), kernel=(31, 1), channels=2),
    Case(size=(5, 4), kernel=(2, 2)),  # even: the extra row and column come after
    Case(size=(5, 4), kernel=(4, 2), stride=(2, 2)),
    Case(
        size=(6, 5), kernel=(3, 3), stride=(2, 2)
    ),  # even and odd sizes pad differently at stride 2
    Case(size=(5, 6), kernel=(3, 3), stride=(2, 2), multiplier=1),
    Case(
        size=(7, 8), kernel=(2, 2), stride=(3, 3), padding="VALID"
    ),  # stride beyond the kernel: unused pixels
    Case(size=(7, 8), kernel=(1, 2), stride=(5, 5)),
    Case(size=(3, 4), kernel=(2, 3), stride=(9, 9)),  # stride beyond the input
    Case(size=(6, 5), kernel=(6, 5), padding="VALID"),  # one window covers all
    Case(size=(6, 5), kernel=(6, 1), padding="VALID", multiplier=4),
    Case(size=(9, 8), kernel=(7, 7), padding="VALID", channels=17, multiplier=1),
    Case(size=(14, 15), kernel=(5, 5), stride=(2, 2), channels=33, multiplier=1),
    Case(size=(7, 9), channels=65, multiplier=1),
    Case(size=(5, 6), channels=16, multiplier=1),
    Case(size=(5, 6), channels=8, multiplier=2),
    Case(size=(5, 6), channels=1, multiplier=8),
    Case(size=(5, 6), channels=3, multiplier=8, stride=(2, 2)),
    Case(size=(5, 6), channels=7, multiplier=3),
    Case(size=(5, 6), channels=13, multiplier=5),
    Case(size=(4, 6), batch=7, channels=2, multiplier=1),
    Case(size=(3, 4), kernel=(2, 2), padding=((0, 0), (0, 0))),  # the same as VALID
    Case(size=(3, 4), kernel=(2, 3), padding=((4, 0), (0, 5))),  # windows of nothing but padding
    Case(size=(3, 4), kernel=(2, 3), padding=((3, 3), (4, 4)), stride=(2, 2)),
    Case(
        size=(2, 3), kernel=(5, 7), padding=((3, 0), (1, 3))
    ),  # the kernel fits thanks to the padding alone
    Case(size=(6, 7), padding=((0, 1), (2, 0)), stride=(3, 3)),
    Case(size=(6, 7), padding=((1, 2), (0, 3)), dilation=(2, 1)),
    Case(size=(9, 8), dilation=(2, 2)),
    Case(size=(9, 8), dilation=(4, 4), multiplier=1),
    Case(size=(9, 8), dilation=(1, 3), kernel=(2, 4)),
    Case(size=(11, 8), dilation=(3, 1), kernel=(4, 3), padding="VALID"),
    Case(size=(3, 4), dilation=(5, 6)),  # all taps but the middle one outside
    Case(size=(9, 8), kernel=(1, 1), dilation=(2, 3)),
    Case(size=(7, 8), stride=(1, 2)),
    Case(size=(7, 8), stride=(3, 1), kernel=(2, 4), padding="VALID"),
    Case(size=(7, 8), stride=(2, 5), kernel=(5, 3), padding=((2, 1), (0, 3))),
    Case(size=(7, 8), stride=(2, 1), channels=19, multiplier=1),
)

STRIDED_AND_DILATED = (
    Case(
        size=(7, 7),
        kernel=(2, 2),
        stride=(2, 2),
        dilation=(2, 2),
        batch=1,
        channels=1,
        multiplier=1,
    ),
    Case(size=(9, 8), stride=(2, 2), dilation=(2, 2)),
    Case(size=(9, 8), stride=(2, 2), dilation=(2, 2), padding="VALID"),
    Case(size=(9, 11), stride=(3, 3), dilation=(2, 2), padding=((1, 2), (3, 0))),
    Case(
        size=(9, 8), stride=(2, 2), dilation=(1, 2)
    ),  # the rule reaches the dimension that is not dilated
    Case(size=(9, 8), stride=(2, 2), dilation=(3, 1), kernel=(2, 3)),
    Case(
        size=(9, 8), stride=(2, 1), dilation=(1, 2), kernel=(2, 3)
    ),  # strided and dilated in different ones
    Case(size=(9, 8), stride=(1, 3), dilation=(2, 2), kernel=(4, 2)),
    Case(size=(2, 3), stride=(2, 2), dilation=(2, 3), kernel=(4, 5)),
    Case(size=(13, 12), stride=(4, 4), dilation=(3, 2), kernel=(1, 1)),
    Case(size=(5, 13), stride=(2, 3), dilation=(4, 1), kernel=(2, 5), padding=((2, 2), (4, 1))),
)


def in_all_types(cases: tuple[Case, ...]) -> list[Case]:
    return [replace(case, dtype=dtype) for case in cases for dtype in DTYPES]


def both_strided_dilations(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    return tuple(
        replace(case, strided_dilation=way) for case in cases for way in ("space_to_batch", "plain")
    )


def in_nchw(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    return tuple(replace(case, data_format="NCHW") for case in cases)


# ---- the sampler ----


def sampled(count: int, seed: int) -> list[Case]:
    """Different cases that have an output, drawn over every parameter."""
    source = random.Random(seed)
    cases: dict[Case, None] = {}
    while len(cases) < count:
        case = _draw(source)
        if case.fits:
            cases[case] = None
    return list(cases)


def _draw(source: random.Random) -> Case:
    rows, columns = source.sample(range(1, 14), 2)
    case = Case(
        size=(rows, columns),
        kernel=(_draw_kernel(source), _draw_kernel(source)),
        stride=_draw_pair(source, (1, 1, 1, 2, 2, 3, 4)),
        padding=_draw_padding(source),
        dilation=_draw_pair(source, (1, 2, 2, 3, 4)) if source.random() < 0.4 else (1, 1),
        batch=source.choice((1, 1, 2, 3)),
        channels=source.choice((1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24, 33)),
        multiplier=source.choice((1, 1, 1, 2, 3, 4, 8)),
        data_format=source.choice(("NHWC", "NHWC", "NCHW")),
        dtype=source.choice(DTYPES),
    )
    way = source.choice(("space_to_batch", "plain"))
    return replace(case, strided_dilation=way) if case.strided_and_dilated else case


def _draw_kernel(source: random.Random) -> int:
    return source.choice((1, 2, 3, 3, 3, 4, 5, 6, 7, 9, 15))


def _draw_pair(source: random.Random, choices: tuple[int, ...]) -> Pair:
    """Mostly equal, as TensorFlow's own kernels want strides."""
    first = source.choice(choices)
    return (first, first) if source.random() < 0.7 else (first, source.choice(choices))


def _draw_padding(source: random.Random) -> Padding:
    kind = source.choice(("SAME", "SAME", "VALID", "EXPLICIT"))
    if kind != "EXPLICIT":
        return kind
    top, bottom, left, right = (source.choice((0, 0, 1, 2, 3, 5)) for _ in range(4))
    return ((top, bottom), (left, right))
