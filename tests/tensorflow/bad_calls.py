"""Calls that TensorFlow refuses, and calls on which this package differs from it on purpose.

`names` is what our error must mention, as a regular expression. Arrays are tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    """Of a function, or of a layer: then the arguments are "layer", "built_for" and "input"."""

    what: str
    function: str
    arguments: dict[str, Any] = field(repr=False)
    names: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.function}-{self.what}"


Maker = Callable[..., Call]


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


# Each of these makes a good call, spoilt by `changes`.


def forward(what: str, names: str = "", reason: str = "", **changes: Any) -> Call:
    good = {
        "input": ones(1, 5, 6, 2),
        "filter": ones(3, 3, 2, 2),
        "strides": [1, 1, 1, 1],
        "padding": "SAME",
    }
    return Call(what, "depthwise_conv2d", good | changes, names, reason)


def backprop_input(what: str, names: str = "", reason: str = "", **changes: Any) -> Call:
    good = {
        "input_sizes": [1, 5, 6, 2],
        "filter": ones(3, 3, 2, 2),
        "out_backprop": ones(1, 5, 6, 4),
        "strides": [1, 1, 1, 1],
        "padding": "SAME",
    }
    return Call(what, "depthwise_conv2d_backprop_input", good | changes, names, reason)


def backprop_filter(what: str, names: str = "", reason: str = "", **changes: Any) -> Call:
    good = {
        "input": ones(1, 5, 6, 2),
        "filter_sizes": [3, 3, 2, 2],
        "out_backprop": ones(1, 5, 6, 4),
        "strides": [1, 1, 1, 1],
        "padding": "SAME",
    }
    return Call(what, "depthwise_conv2d_backprop_filter", good | changes, names, reason)


def separable(what: str, names: str = "", reason: str = "", **changes: Any) -> Call:
    good = {
        "input": ones(1, 5, 6, 2),
        "depthwise_filter": ones(3, 3, 2, 3),
        "pointwise_filter": ones(1, 1, 6, 4),
        "strides": [1, 1, 1, 1],
        "padding": "SAME",
    }
    return Call(what, "separable_conv2d", good | changes, names, reason)


def layer(
    what: str,
    names: str = "",
    reason: str = "",
    name: str = "DepthwiseConv2D",
    built_for: tuple[int, ...] = (1, 5, 6, 3),
    input: np.ndarray | None = None,
    **changes: Any,
) -> Call:
    arguments = {
        "layer": {"kernel_size": 3} | changes,
        "built_for": built_for,
        "input": ones(*built_for) if input is None else input,
    }
    return Call(what, name, arguments, names, reason)


ONE_D = {"name": "DepthwiseConv1D", "built_for": (1, 6, 3)}
SEPARABLE_2D = {"name": "SeparableConv2D", "filters": 4}
SEPARABLE_1D = {"name": "SeparableConv1D", "built_for": (1, 6, 3), "filters": 4}

GOOD = [
    *(make("good") for make in (forward, backprop_input, backprop_filter, separable)),
    *(layer("good", **kind) for kind in ({}, ONE_D, SEPARABLE_2D, SEPARABLE_1D)),
]

# ---- arguments that all functions share ----

BAD_PADDING: list[tuple[str, Any]] = [
    ("lower case", "same"),
    ("unknown", "FULL"),
    ("empty", ""),
    ("'EXPLICIT' without pairs", "EXPLICIT"),
    ("None", None),
    ("an int", 1),
    ("a NumPy array", np.array([[0, 0], [1, 1], [1, 1], [0, 0]])),
    ("of two pairs", [[1, 0], [0, 1]]),
    ("of five pairs", [[0, 0]] * 5),
    ("flat", [1, 0, 0, 1]),
    ("flat of 8", [0, 0, 1, 1, 1, 1, 0, 0]),
    ("with a triple", [[0, 0], [1, 1, 1], [1, 1], [0, 0]]),
    ("negative before", [[0, 0], [-1, 0], [0, 0], [0, 0]]),
    ("negative after", [[0, 0], [0, 0], [0, -1], [0, 0]]),
    ("of the batch", [[1, 0], [0, 0], [0, 0], [0, 0]]),
    ("of the channels", [[0, 0], [0, 0], [0, 0], [0, 1]]),
]

BAD_STRIDES: list[tuple[str, Any]] = [
    ("0", [1, 0, 0, 1]),
    ("0 for rows", [1, 0, 1, 1]),
    ("negative", [1, -1, -1, 1]),
    ("of the batch", [2, 1, 1, 1]),
    ("of the channels", [1, 1, 1, 2]),
    ("of length 0", []),
    ("of length 1", [1]),
    ("of length 3", [1, 1, 1]),
    ("of length 5", [1, 1, 1, 1, 1]),
    ("beyond int32", [1, 2**31, 2**31, 1]),
    ("far beyond int32", [1, 2**70, 2**70, 1]),
    ("None", None),
    ("a string", "1111"),
    ("of strings", ["1", "1", "1", "1"]),
    ("with None", [1, None, None, 1]),
    ("of lists", [[1], [1], [1], [1]]),
]

BAD_FORMATS: list[tuple[str, Any]] = [
    ("unknown", "FOO"),
    ("lower case", "nhwc"),
    ("of volumes", "NDHWC"),
    ("an int", 3),
    ("of Keras", "channels_last"),
]

# The backprop functions of TensorFlow ignore dilations.
BAD_DILATIONS: list[tuple[str, Any]] = [
    ("0", [0, 0]),
    ("0 for columns", [2, 0]),
    ("negative", [-2, -2]),
    ("of floats", [2.0, 2.0]),
    ("a float", 2.0),
    ("a string", "22"),
    ("with None", [2, None]),
    ("of length 0", []),
    ("of length 5", [1, 2, 2, 1, 1]),
]


def spoilt(makers: tuple[Maker, ...], name: str, values: list[tuple[str, Any]]) -> list[Call]:
    """Every maker's call with every value of one argument."""
    return [
        make(f"{name} {what}", name, **{name: value}) for make in makers for what, value in values
    ]


FUNCTIONS = (forward, backprop_input, backprop_filter, separable)
FORWARD_FUNCTIONS = (forward, separable)

SHARED = [
    *spoilt(FUNCTIONS, "padding", BAD_PADDING),
    *spoilt(FUNCTIONS, "strides", BAD_STRIDES),
    *spoilt(FUNCTIONS, "data_format", BAD_FORMATS),
    *spoilt(FORWARD_FUNCTIONS, "dilations", BAD_DILATIONS),
]

# ---- types ----

UNSUPPORTED = (
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.bool_,
    np.complex64,
    np.complex128,
)


def of_one_type(dtype: Any) -> Call:
    tensors = {"input": ones(1, 5, 6, 2, dtype=dtype), "filter": ones(3, 3, 2, 2, dtype=dtype)}
    return forward(f"type {np.dtype(dtype).name}", "input", **tensors)


def of_another_type(make: Maker, name: str, names: str, shape: tuple[int, ...]) -> list[Call]:
    """Every other type in one tensor of a call."""
    return [
        make(f"{name} of {np.dtype(dtype).name}", names, **{name: ones(*shape, dtype=dtype)})
        for dtype in (np.float64, np.float16, np.int32)
    ]


TYPES = [
    *map(of_one_type, UNSUPPORTED),
    *of_another_type(forward, "input", "input|filter", (1, 5, 6, 2)),
    *of_another_type(forward, "filter", "filter", (3, 3, 2, 2)),
    *of_another_type(backprop_input, "filter", "filter|out_backprop", (3, 3, 2, 2)),
    *of_another_type(backprop_input, "out_backprop", "out_backprop", (1, 5, 6, 4)),
    *of_another_type(backprop_filter, "input", "input|out_backprop", (1, 5, 6, 2)),
    *of_another_type(backprop_filter, "out_backprop", "out_backprop", (1, 5, 6, 4)),
    *of_another_type(separable, "input", "input|depthwise_filter", (1, 5, 6, 2)),
    *of_another_type(separable, "depthwise_filter", "depthwise_filter", (3, 3, 2, 3)),
    *of_another_type(separable, "pointwise_filter", "pointwise_filter", (1, 1, 6, 4)),
    forward("input None", "input", input=None),
    forward("filter None", "filter", filter=None),
    forward("input a string", "input", input="picture"),
    backprop_input("out_backprop None", "out_backprop", out_backprop=None),
    separable("pointwise_filter None", "pointwise_filter", pointwise_filter=None),
]

# ---- shapes ----


def of_shapes(make: Maker, name: str, *shapes: tuple[int, ...]) -> list[Call]:
    return [make(f"{name} {shape}", name, **{name: ones(*shape)}) for shape in shapes]


def of_channels(found: int, wanted: int) -> Call:
    tensors = {"input": ones(1, 5, 6, found), "filter": ones(3, 3, wanted, 2)}
    return forward(f"{found} channels for a filter of {wanted}", "input|filter", **tensors)


FORWARD_SHAPES = [
    *of_shapes(forward, "input", (), (2,), (6, 2), (5, 6, 2), (1, 1, 5, 6, 2)),
    *of_shapes(forward, "filter", (), (2,), (3, 3), (3, 3, 2), (1, 3, 3, 2, 2)),
    *(of_channels(*pair) for pair in ((4, 3), (4, 2), (4, 1), (1, 4), (2, 4))),
    forward("kernel two too large", "filter", filter=ones(7, 3, 2, 2), padding="VALID"),
    forward("kernel one too large", "filter", filter=ones(6, 3, 2, 2), padding="VALID"),
    forward(
        "kernel one too large and strided",
        "filter",
        filter=ones(6, 3, 2, 2),
        padding="VALID",
        strides=[1, 2, 2, 1],
    ),
    forward("dilated kernel too large", "filter", padding="VALID", dilations=[3, 1]),
    forward(
        "kernel too large for padded input",
        "filter",
        filter=ones(9, 3, 2, 2),
        padding=[[0, 0], [1, 2], [0, 0], [0, 0]],
    ),
    forward("no rows", "input|filter", input=ones(1, 0, 6, 2), padding="VALID"),
    forward(
        "padding negative, dilated",
        "padding",
        padding=[[0, 0], [-1, 0], [1, 1], [0, 0]],
        dilations=[2, 2],
    ),
]

BACKPROP_INPUT_SHAPES = [
    *of_shapes(backprop_input, "filter", (3, 3), (3, 3, 2), (1, 3, 3, 2, 2)),
    *of_shapes(backprop_input, "out_backprop", (4,), (5, 6, 4), (1, 1, 5, 6, 4)),
    *of_shapes(backprop_input, "out_backprop", (1, 4, 6, 4), (1, 5, 7, 4), (1, 5, 6, 3)),
    backprop_input("another batch", "out_backprop|sizes", out_backprop=ones(2, 5, 6, 4)),
    backprop_input("other channels", "filter|sizes", input_sizes=[1, 5, 6, 3]),
    backprop_input("rows of another stride", "out_backprop", strides=[1, 2, 2, 1]),
    backprop_input("sizes of rank 2", "input_sizes", input_sizes=[[1, 5, 6, 2]]),
    backprop_input("three sizes", "input_sizes", input_sizes=[5, 6, 2]),
    backprop_input("five sizes", "input_sizes", input_sizes=[1, 1, 5, 6, 2]),
    backprop_input("no sizes", "input_sizes", input_sizes=[]),
    backprop_input("one size", "input_sizes", input_sizes=5),
    backprop_input("a negative size", "input_sizes", input_sizes=[1, -5, 6, 2]),
    backprop_input("sizes of floats", "input_sizes", input_sizes=[1.0, 5.0, 6.0, 2.0]),
    backprop_input("sizes None", "input_sizes", input_sizes=None),
    backprop_input("size beyond int32", "input_sizes|out_backprop", input_sizes=[1, 2**31, 6, 2]),
    backprop_input(
        "kernel too large",
        "filter",
        filter=ones(7, 3, 2, 2),
        out_backprop=ones(1, 0, 4, 4),
        padding="VALID",
    ),
]

BACKPROP_FILTER_SHAPES = [
    *of_shapes(backprop_filter, "input", (6, 2), (5, 6, 2), (1, 1, 5, 6, 2)),
    *of_shapes(backprop_filter, "out_backprop", (4,), (5, 6, 4), (1, 1, 5, 6, 4)),
    *of_shapes(backprop_filter, "out_backprop", (1, 6, 6, 4), (1, 5, 5, 4), (1, 5, 6, 5)),
    backprop_filter("another batch", "out_backprop|input", out_backprop=ones(2, 5, 6, 4)),
    backprop_filter("other channels", "input|filter_sizes", filter_sizes=[3, 3, 1, 4]),
    backprop_filter("rows of another padding", "out_backprop", padding="VALID"),
    backprop_filter("sizes of rank 2", "filter_sizes", filter_sizes=[[3, 3, 2, 2]]),
    backprop_filter("three sizes", "filter_sizes", filter_sizes=[3, 3, 2]),
    backprop_filter("five sizes", "filter_sizes", filter_sizes=[1, 3, 3, 2, 2]),
    backprop_filter("a negative size", "filter_sizes", filter_sizes=[3, -3, 2, 2]),
    backprop_filter("sizes of floats", "filter_sizes", filter_sizes=[3.0, 3.0, 2.0, 2.0]),
    backprop_filter("sizes None", "filter_sizes", filter_sizes=None),
    backprop_filter("sizes that overflow", "filter_sizes", filter_sizes=[2**31 - 1] * 4),
    backprop_filter(
        "kernel too large",
        "filter",
        filter_sizes=[7, 3, 2, 2],
        out_backprop=ones(1, 0, 4, 4),
        padding="VALID",
    ),
]

SEPARABLE_SHAPES = [
    *of_shapes(separable, "pointwise_filter", (2, 1, 6, 4), (1, 3, 6, 4), (1, 6, 4), (6, 4)),
    *of_shapes(separable, "pointwise_filter", (1, 1, 5, 4), (1, 1, 12, 4), (1, 1, 1, 6, 4)),
    *of_shapes(separable, "depthwise_filter", (3, 3), (3, 3, 2), (1, 3, 3, 2, 3)),
    *of_shapes(separable, "input", (6, 2), (5, 6, 2), (1, 1, 5, 6, 2)),
    separable("other channels", "depthwise_filter|input", depthwise_filter=ones(3, 3, 3, 2)),
    separable("kernel too large", "filter", depthwise_filter=ones(7, 3, 2, 3), padding="VALID"),
]

# ---- layers ----

BAD_LAYER_ARGUMENTS: list[tuple[str, Any]] = [
    ("kernel_size", 0),
    ("kernel_size", -3),
    ("kernel_size", (3, 3, 3)),
    ("kernel_size", None),
    ("kernel_size", "big"),
    ("strides", 0),
    ("strides", -1),
    ("strides", (1, 1, 1)),
    ("dilation_rate", 0),
    ("dilation_rate", -2),
    ("dilation_rate", (1, 1, 1)),
    ("depth_multiplier", 0),
    ("depth_multiplier", -1),
    ("padding", "causal"),
    ("padding", "full"),
    ("padding", None),
    ("data_format", "NHWC"),
    ("data_format", "channels_middle"),
    ("groups", 2),
    ("kernel_initializer", "zeros"),
]

LAYERS = [
    *(
        layer(f"{name} {value!r}", name, **(kind | {name: value}))
        for kind in ({}, ONE_D, SEPARABLE_2D, SEPARABLE_1D)
        for name, value in BAD_LAYER_ARGUMENTS
    ),
    layer("kernel_size (1, 0)", "kernel_size", kernel_size=(1, 0)),
    layer("strides (0, 1)", "strides", strides=(0, 1)),
    layer("filters 0", "filters", **(SEPARABLE_2D | {"filters": 0})),
    layer("filters -4", "filters", **(SEPARABLE_1D | {"filters": -4})),
    layer("input of rank 3", "input", input=ones(5, 6, 3)),
    layer("input of rank 5", "input", input=ones(1, 1, 5, 6, 3)),
    layer("input of rank 2", "input", input=ones(6, 3), **ONE_D),
    layer("input of 4 channels, not 3", "input", input=ones(1, 5, 6, 4)),
    layer("input of 4 channels, not 3", "input", input=ones(1, 6, 4), **ONE_D),
    layer(
        "input of channels last",
        "input",
        built_for=(1, 3, 5, 6),
        input=ones(1, 6, 5, 3),
        data_format="channels_first",
    ),
    layer("input smaller than the kernel", "filter|kernel|weight", kernel_size=6),
    layer("input smaller than the dilated kernel", "filter|kernel|weight", dilation_rate=3),
]

REFUSED = [
    *SHARED,
    *TYPES,
    *FORWARD_SHAPES,
    *BACKPROP_INPUT_SHAPES,
    *BACKPROP_FILTER_SHAPES,
    *SEPARABLE_SHAPES,
    *LAYERS,
]

# ---- where this package differs on purpose ----

SHORT = "the short form says it"
EQUAL = "TensorFlow has unequal strides in XLA and oneDNN only"
NHWC = "TensorFlow has NCHW on GPUs and in oneDNN only"
INT64 = "an integer tensor of any type will do"

ACCEPTED = [
    *(
        make(what, reason=reason, **changes)
        for make in FORWARD_FUNCTIONS
        for what, reason, changes in (
            ("strides an int", SHORT, {"strides": 1}),
            ("strides a pair", SHORT, {"strides": [1, 1]}),
            ("strides unequal", EQUAL, {"strides": [1, 1, 2, 1]}),
            ("dilations an int", SHORT, {"dilations": 2}),
            ("dilations of 4 values", "the form of strides", {"dilations": [1, 2, 2, 1]}),
            ("NCHW", NHWC, {"input": ones(1, 2, 5, 6), "data_format": "NCHW"}),
        )
    ),
    backprop_input(
        "strides unequal", reason=EQUAL, strides=[1, 1, 2, 1], out_backprop=ones(1, 5, 3, 4)
    ),
    backprop_filter(
        "strides unequal", reason=EQUAL, strides=[1, 2, 1, 1], out_backprop=ones(1, 3, 6, 4)
    ),
    backprop_input(
        "NCHW",
        reason=NHWC,
        input_sizes=[1, 2, 5, 6],
        out_backprop=ones(1, 4, 5, 6),
        data_format="NCHW",
    ),
    backprop_filter(
        "NCHW",
        reason=NHWC,
        input=ones(1, 2, 5, 6),
        out_backprop=ones(1, 4, 5, 6),
        data_format="NCHW",
    ),
    backprop_input("sizes in int64", reason=INT64, input_sizes=np.array([1, 5, 6, 2])),
    backprop_filter("sizes in int64", reason=INT64, filter_sizes=np.array([3, 3, 2, 2])),
    layer("padding explicit", reason="layers pad explicitly too", padding=((1, 0), (0, 1))),
    layer("strides unequal", reason=EQUAL, strides=(1, 2)),
]

BATCH_PADDING = [[1, 0], [1, 0], [1, 1], [0, 0]]

REFUSED_HERE_ONLY = [
    *(
        make(what, names, reason, **changes)
        for make in FORWARD_FUNCTIONS
        for what, names, reason, changes in (
            ("float strides", "strides", "truncated", {"strides": [1.0, 1.5, 1.5, 1.0]}),
            ("boolean strides", "strides", "taken for 1", {"strides": [1, True, True, 1]}),
            ("one dilation", "dilations", "dilates the rows only", {"dilations": [2]}),
            ("three dilations", "dilations", "dilates the channels", {"dilations": [2, 2, 2]}),
            (
                "batch padding, dilated",
                "padding",
                "ignored",
                {"padding": BATCH_PADDING, "dilations": [2, 2]},
            ),
            (
                "stride and dilation",
                "strided_dilation",
                "computes what no other library does",
                {"strides": [1, 2, 2, 1], "dilations": [2, 2]},
            ),
        )
    ),
    separable(
        "3 channels of 6",
        "pointwise_filter",
        "computes a grouped convolution",
        pointwise_filter=ones(1, 1, 3, 4),
    ),
    forward("kernel without rows", "filter", "returns zeros", filter=ones(0, 3, 2, 2)),
]
