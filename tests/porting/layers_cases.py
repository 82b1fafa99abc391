"""The layers that `test_keras_layers.py` compares with Keras; imported by both processes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A layer and the inputs that it is called on, channels-last."""

    layer: str
    shapes: tuple[Shape, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    library: str = "keras"
    values: str = "normal"
    """Of the inputs: normal, relu (half of them 0, so that windows have ties), bytes, or the number
    of words."""
    is_training: bool = False
    spread: bool = False
    """Whether it takes several inputs as several arguments."""
    channels_first: bool = False
    """Whether it is compared with channels first, too."""

    def __str__(self) -> str:
        parts = [self.layer, *(f"{key}={value}" for key, value in self.arguments.items())]
        parts += ["x".join(map(str, shape)) for shape in self.shapes]
        parts += [self.library] * (self.library != "keras") + ["train"] * self.is_training
        return "-".join(parts).replace(" ", "").replace("'", "")


def _each(layer: str, shapes: Any, *arguments: dict[str, Any], **more: Any) -> list[Case]:
    """The same layer with several arguments."""
    shapes = (shapes,) if isinstance(shapes[0], int) else tuple(shapes)
    return [Case(layer, shapes, one, **more) for one in arguments or ({},)]


ODD, EVEN = (2, 9, 7, 3), (2, 8, 10, 3)
VOLUME = (2, 5, 6, 7, 3)
LINE = (2, 11, 3)

# ---- convolutions ----

_WINDOWS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": "same", "use_bias": False},
    {"kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
    {"kernel_size": (2, 4), "padding": "same"},
    {"kernel_size": (4, 2), "strides": 2, "padding": "same"},
    {"kernel_size": (3, 2), "strides": 3, "padding": "same", "activation": "tanh"},
    {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    {"kernel_size": (4, 3), "dilation_rate": 2, "padding": "valid"},
    {"kernel_size": 1, "strides": 2, "padding": "same"},
    {"kernel_size": 1, "strides": 3, "use_bias": False},
    {"kernel_size": 1},
    {"kernel_size": (2, 1), "strides": 3, "padding": "same"},
)


def _line(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a 1-D layer."""
    return {
        key: value[0] if isinstance(value, tuple) else value for key, value in arguments.items()
    }


def _convolutions() -> list[Case]:
    cases = []
    for window in _WINDOWS:
        for shape in (ODD, EVEN):
            cases += [
                Case("Conv2D", (shape,), {"filters": 4, **window}, channels_first=True),
                Case("DepthwiseConv2D", (shape,), dict(window), channels_first=True),
                Case("SeparableConv2D", (shape,), {"filters": 4, **window}),
            ]
        line = _line(window)
        cases += [
            Case("Conv1D", (LINE,), {"filters": 4, **line}, channels_first=True),
            Case("DepthwiseConv1D", (LINE,), line),
            Case("SeparableConv1D", (LINE,), {"filters": 4, **line}),
        ]
    return cases


CONVOLUTIONS = [
    *_convolutions(),
    *_each("Conv1D", LINE, *(
        {"filters": 4, "kernel_size": k, "strides": s, "dilation_rate": d, "padding": "causal"}
        for k, s, d in ((3, 1, 1), (2, 1, 3), (4, 2, 1))
    )),
    *_each("SeparableConv1D", LINE, {"filters": 4, "kernel_size": 3, "padding": "causal"},
           library="tf_keras"),
    *_each("Conv2D", (2, 9, 8, 6),
           {"filters": 9, "kernel_size": 3, "groups": 3, "padding": "same", "strides": 2},
           {"filters": 6, "kernel_size": 7, "groups": 6, "padding": "same"},
           {"filters": 12, "kernel_size": (3, 2), "groups": 6, "activation": "relu"},
           {"filters": 18, "kernel_size": 3, "groups": 6, "strides": 2, "padding": "same",
            "use_bias": False},
           channels_first=True),
    *_each("Conv2D", (2, 9, 8, 1), {"filters": 4, "kernel_size": 3, "padding": "same"}),
    *_each("Conv1D", (2, 9, 6), {"filters": 9, "kernel_size": 3, "groups": 3}),
    *_each("DepthwiseConv2D", ODD,
           {"kernel_size": 3, "depth_multiplier": 2, "padding": "same", "strides": 2},
           {"kernel_size": 3, "strides": 2, "dilation_rate": 2, "padding": "same"},
           {"kernel_size": 3, "depth_multiplier": 3, "activation": "hard_silu"}),
    *_each("SeparableConv2D", ODD,
           {"filters": 5, "kernel_size": 3, "depth_multiplier": 2, "activation": "gelu"}),
    *_each("DepthwiseConv2D", EVEN, {"kernel_size": 3, "strides": 2, "padding": "same"},
           library="tf_keras"),
    *_each("SeparableConv2D", EVEN, {"filters": 5, "kernel_size": 3, "padding": "same"},
           library="tf_keras"),
    *_each("Conv2D", EVEN, {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"},
           library="tf_keras"),
    *_each("Conv3D", VOLUME,
           {"filters": 4, "kernel_size": 3, "padding": "same", "strides": 2},
           {"filters": 4, "kernel_size": (2, 1, 3), "padding": "same"},
           {"filters": 4, "kernel_size": 3, "use_bias": False},
           channels_first=True),
    *_each("Conv2DTranspose", ODD, *(
        {"filters": 4, "kernel_size": k, "strides": s, "padding": p}
        for k in (1, 2, 3, 4, (5, 2)) for s in (1, 2, 3) for p in ("same", "valid")
    ), channels_first=True),
    *_each("Conv2DTranspose", EVEN,
           {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
           {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 0},
           {"filters": 4, "kernel_size": 4, "strides": 3, "output_padding": 1,
            "activation": "relu"}),
    *_each("Conv1DTranspose", LINE,
           {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"},
           {"filters": 4, "kernel_size": 5, "strides": 2, "use_bias": False}),
    *_each("Conv3DTranspose", VOLUME,
           {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
    *_each("Dense", (3, 5), {"units": 4}, {"units": 4, "activation": "softmax"},
           {"units": 4, "use_bias": False, "activation": "silu"}),
    *_each("Dense", (2, 3, 4, 5), {"units": 6, "activation": "relu"}),
    *_each("EinsumDense", (2, 4, 5), {"equation": "abc,cd->abd", "output_shape": (None, 3),
                                      "bias_axes": "d"},
           {"equation": "abc,cde->abde", "output_shape": (None, 3, 2), "bias_axes": "de"},
           {"equation": "...c,cd->...d", "output_shape": 3, "activation": "relu"}),
]  # fmt: skip

# ---- windows drawn at random ----


def _drawn(count: int, seed: int) -> list[Case]:
    source = random.Random(seed)
    cases: dict[str, Case] = {}
    names = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose", "MaxPooling2D",
             "AveragePooling2D")  # fmt: skip
    while len(cases) < count:
        case = _draw(source.choice(names), source)
        if case is not None:
            cases[str(case)] = case
    return list(cases.values())


def _draw(name: str, source: random.Random) -> Case | None:
    """A layer; None where the window does not fit, or TF does not run it on CPUs."""
    size = source.randint(1, 12), source.randint(1, 12)
    kernel = source.randint(1, 5), source.randint(1, 5)
    strides = source.randint(1, 3), source.randint(1, 3)
    gaps = source.choice(((1, 1), (1, 1), (2, 2), (1, 3), (2, 1)))
    padding = source.choice(("same", "valid"))
    pooling, transposed = name.endswith("Pooling2D"), name.endswith("Transpose")
    if pooling or transposed:
        gaps = (1, 1)
    if name in ("DepthwiseConv2D", "SeparableConv2D") or max(gaps) > 1:
        strides = (strides[0],) * 2 if max(gaps) == 1 else (1, 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, gaps, strict=True)]
    if padding == "valid" and not transposed and (size[0] < reach[0] or size[1] < reach[1]):
        return None
    arguments: dict[str, Any] = {"strides": strides, "padding": padding}
    arguments |= {"pool_size": kernel} if pooling else {"kernel_size": kernel}
    arguments |= {} if pooling or transposed else {"dilation_rate": gaps}
    if name in ("Conv2D", "SeparableConv2D", "Conv2DTranspose"):
        arguments["filters"] = source.randint(1, 5)
    elif not pooling:
        arguments["depth_multiplier"] = source.randint(1, 3)
    shape = (source.randint(1, 3), *size, source.randint(1, 6))
    return Case(name, (shape,), arguments, values="relu" if pooling else "normal")


DRAWN = _drawn(120, seed=5)

# ---- normalizations ----

NORMALIZATIONS = [
    *(
        Case("BatchNormalization", (shape,), arguments, library)
        for library in ("keras", "tf_keras")
        for shape in ((5, 4), (2, 6, 4), (2, 5, 3, 4), (2, 3, 4, 5, 4))
        for arguments in ({}, {"scale": False, "epsilon": 1e-5}, {"center": False})
    ),
    *_each("BatchNormalization", (2, 4, 5, 3), {"axis": 1}),
    *_each("BatchNormalization", (3, 4), {"center": False, "scale": False}),
    *_each("BatchNormalization", (2, 5, 3, 4), {"trainable": False}, is_training=True),
    *_each("LayerNormalization", (2, 5, 3, 4), {}, {"epsilon": 1e-6, "center": False},
           {"axis": [1, 2]}, {"axis": 1, "scale": False}, {"axis": [-2, -1]},
           {"center": False, "scale": False}, {"rms_scaling": True}),
    *_each("LayerNormalization", (3, 6), {}, library="tf_keras"),
    *_each("RMSNormalization", (2, 5, 3, 4), {}, {"axis": 3, "epsilon": 1e-2}),
    *_each("GroupNormalization", (2, 5, 3, 6), {"groups": 3}, {"groups": 1}, {"groups": -1},
           {"groups": 2, "axis": 3, "epsilon": 1e-5, "scale": False},
           {"groups": 5, "axis": 1, "center": False}),
    *_each("GroupNormalization", (4, 6), {"groups": 2}),
    *_each("UnitNormalization", (2, 5, 3, 4), {}, {"axis": [1, 2]}),
    *_each("UnitNormalization", (3, 4), {}, library="tf_keras"),
    *_each("Normalization", (2, 5, 3, 4), {}, {"axis": [1, 3]}, {"axis": None},
           {"mean": 2.0, "variance": 9.0}, {"mean": [1.0, 2.0, 3.0, 4.0],
                                           "variance": [4.0, 3.0, 2.0, 1.0]},
           {"axis": None, "mean": 2.0, "variance": 0.25, "invert": True}),
    *_each("Normalization", (2, 5, 3, 3), {}, {"mean": [1.0, 2.0, 3.0],
                                              "variance": [4.0, 3.0, 2.0]}, library="tf_keras"),
]  # fmt: skip

# ---- activations ----

_NAMES = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish",
    "hard_silu", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "softplus", "softsign", "softmax",
    "log_softmax", "log_sigmoid", "exponential", "mish", "hard_tanh", "tanh_shrink", "soft_shrink",
    "hard_shrink", "squareplus", "sparse_plus", "sparse_sigmoid",
)  # fmt: skip
_NAMES_2 = (
    "linear", "relu", "elu", "selu", "gelu", "swish", "hard_sigmoid", "sigmoid", "tanh", "softplus",
    "softsign", "softmax", "exponential", "mish",
)  # fmt: skip
RELUS: tuple[dict[str, Any], ...] = (
    {}, {"max_value": 6.0}, {"max_value": 1.5, "negative_slope": 0.1}, {"negative_slope": 0.3},
    {"threshold": 0.5}, {"threshold": 0.5, "max_value": 1.0},
    {"threshold": 0.5, "negative_slope": 0.2, "max_value": 2.0},
)  # fmt: skip
ACTIVATIONS = [
    *(Case("Activation", ((2, 9, 7),), {"activation": name}) for name in _NAMES),
    *(Case("Activation", ((2, 9, 7),), {"activation": name}, "tf_keras") for name in _NAMES_2),
    *_each("Activation", (2, 9, 8), {"activation": "glu"}),
    *_each("ReLU", (3, 40), *RELUS),
    *_each("ReLU", (3, 40), *RELUS, library="tf_keras"),
    *_each("LeakyReLU", (3, 40), {}, {"negative_slope": 0.1}),
    *_each("LeakyReLU", (3, 40), {}, {"alpha": 0.1}, library="tf_keras"),
    *_each("ThresholdedReLU", (3, 40), {}, {"theta": 0.2}, library="tf_keras"),
    *_each("PReLU", (2, 4, 5, 3), {}, {"shared_axes": [1, 2]}),
    *_each("ELU", (3, 40), {}, {"alpha": 0.4}),
    *_each("Softmax", (2, 4, 5, 3), {}, {"axis": 1}, {"axis": [1, 2]}),
]

# ---- pooling ----

_POOLS: tuple[dict[str, Any], ...] = (
    {"pool_size": 2},
    {"pool_size": 3, "strides": 2, "padding": "same"},
    {"pool_size": 3, "strides": 1, "padding": "same"},
    {"pool_size": 2, "strides": 1, "padding": "same"},
    {"pool_size": (4, 2), "strides": (1, 1), "padding": "same"},
    {"pool_size": 2, "padding": "same"},
    {"pool_size": (2, 3), "strides": 3, "padding": "same"},
    {"pool_size": (5, 4), "strides": 3, "padding": "same"},
    {"pool_size": 3, "strides": 2},
)
POOLING = [
    *(
        Case(f"{kind}Pooling2D", (shape,), dict(window), values="relu", channels_first=True)
        for kind in ("Max", "Average")
        for window in _POOLS
        for shape in (ODD, EVEN)
    ),
    *(
        Case(f"{kind}Pooling1D", (LINE,), _line(window), values="relu", channels_first=True)
        for kind in ("Max", "Average")
        for window in _POOLS
    ),
    *(
        # without ties: TF's 3-D kernel alone gives the gradient to all that are the maximum
        Case(f"{kind}Pooling3D", (VOLUME,), dict(window), channels_first=True)
        for kind in ("Max", "Average")
        for window in _POOLS
        if not any(isinstance(size, tuple) for size in window.values())
    ),
    *_each("MaxPooling2D", (2, 2, 3, 2), {"pool_size": 5, "strides": 3, "padding": "same"}),
    *_each("AveragePooling2D", (2, 2, 3, 2), {"pool_size": 5, "strides": 3, "padding": "same"}),
    *(
        Case(f"Global{kind}Pooling{rank}D", (shape,), {"keepdims": keep}, values="relu",
             channels_first=True)
        for kind in ("Max", "Average")
        for rank, shape in ((1, LINE), (2, ODD), (3, VOLUME))
        for keep in (False, True)
    ),
]  # fmt: skip
POOLING += [
    Case(f"Adaptive{kind}Pooling{rank}D", (shape,), {"output_size": size}, channels_first=True)
    for kind in ("Max", "Average")
    for rank, shape, size in (
        (1, LINE, 4), (2, ODD, (4, 7)), (2, EVEN, (3, 5)), (3, VOLUME, (2, 4, 3)),
    )
]  # fmt: skip

# ---- shapes, merges, preprocessing ----

PAIR = ((2, 4, 5, 3), (2, 4, 5, 3))
RESHAPING = [
    *_each("Reshape", (2, 4, 6), {"target_shape": (3, 8)}, {"target_shape": (-1, 4)}),
    *_each("Permute", (2, 4, 5, 3), {"dims": (3, 1, 2)}),
    *_each("Flatten", ODD, channels_first=True),
    *_each("Flatten", (3,)),
    *_each("RepeatVector", (2, 4), {"n": 3}),
    *_each("ZeroPadding1D", LINE, {}, {"padding": 2}, {"padding": (1, 3)}, channels_first=True),
    *_each("ZeroPadding2D", ODD, {}, {"padding": (1, 2)}, {"padding": ((0, 1), (2, 0))},
           channels_first=True),
    *_each("ZeroPadding3D", VOLUME, {}, {"padding": ((0, 1), (2, 0), (1, 1))}, channels_first=True),
    *_each("Cropping1D", LINE, {}, {"cropping": 2}, {"cropping": (0, 3)}, channels_first=True),
    *_each("Cropping2D", ODD, {"cropping": 1}, {"cropping": ((0, 1), (2, 0))}, channels_first=True),
    *_each("Cropping3D", VOLUME, {"cropping": ((0, 1), (2, 0), (1, 1))}, channels_first=True),
    *_each("UpSampling1D", LINE, {}, {"size": 3}),
    *_each("UpSampling2D", ODD, {}, {"size": (3, 2)}, {"size": (2, 3), "interpolation": "bilinear"},
           {"interpolation": "bicubic"}, {"interpolation": "lanczos3"}, channels_first=True),
    *_each("UpSampling2D", ODD, {"interpolation": "area"}, {"interpolation": "mitchellcubic"},
           {"interpolation": "gaussian"}, {"interpolation": "nearest"}, library="tf_keras"),
    *_each("UpSampling3D", VOLUME, {}, {"size": (1, 2, 3)}, channels_first=True),
]  # fmt: skip
MERGING = [
    *(Case(name, PAIR) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum")),
    *(Case(name, (*PAIR, PAIR[0]), values="relu") for name in ("Add", "Maximum", "Minimum")),
    *(Case(name, ((2, 3), (2, 4, 5, 3))) for name in ("Add", "Multiply", "Average")),
    *(Case(name, ((2, 4, 5, 3), (2, 1, 1, 3))) for name in ("Multiply", "Maximum", "Subtract")),
    *_each("Concatenate", ((2, 4, 3), (2, 4, 5)), {}, {"axis": 2}),
    *_each("Concatenate", ((2, 4, 3), (2, 5, 3)), {"axis": 1}, {"axis": -2}),
    *_each("Dot", ((2, 4, 3), (2, 5, 3)), {"axes": 2}, {"axes": (2, -1), "normalize": True}),
    *_each("Dot", ((2, 4, 3), (2, 4, 5)), {"axes": 1}),
    *_each("Dot", ((2, 6), (2, 6)), {"axes": 1}, {"axes": -1, "normalize": True}),
    *_each("Dot", ((2, 6), (2, 6)), {"axes": 1, "normalize": True}, library="tf_keras"),
]
_METHODS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")
PREPROCESSING = [
    *_each("Rescaling", ODD, {"scale": 1 / 255}, {"scale": 1 / 127.5, "offset": -1.0},
           {"scale": [1.0, 2.0, 3.0], "offset": [0.5, 0.0, 1.0]}),
    *_each("Rescaling", ODD, {"scale": 1 / 255}, values="bytes"),
    *(
        Case("Resizing", ((2, 9, 13, 3),), {"height": h, "width": w, "interpolation": method,
                                           "antialias": antialias}, channels_first=True)
        for method in _METHODS
        for h, w in ((5, 6), (20, 17), (9, 31))
        for antialias in (False, True)
    ),
    *(
        Case("Resizing", ((2, 9, 13, 3),), {"height": h, "width": w, "interpolation": method},
             "tf_keras")
        for method in ("area", "gaussian", "mitchellcubic", "bilinear", "bicubic")
        for h, w in ((5, 6), (20, 17), (9, 31))
    ),
    *_each("Resizing", (2, 9, 13, 3), {"height": 6, "width": 6, "crop_to_aspect_ratio": True},
           {"height": 12, "width": 7, "crop_to_aspect_ratio": True},
           {"height": 12, "width": 7, "pad_to_aspect_ratio": True, "fill_value": 2.0},
           {"height": 6, "width": 20, "pad_to_aspect_ratio": True}),
    *_each("Resizing", (2, 9, 13, 3), {"height": 6, "width": 20},
           {"height": 20, "width": 17, "interpolation": "bicubic"}, values="bytes"),
    *(
        Case("Resizing", ((1, 61, 83, 1),), {"height": 224, "width": 37, "interpolation": method})
        for method in _METHODS
    ),
    *_each("CenterCrop", (2, 9, 13, 3), {"height": 4, "width": 7}, {"height": 5, "width": 12},
           {"height": 12, "width": 7}, channels_first=True),
    *_each("CenterCrop", (2, 9, 13, 3), {"height": 12, "width": 7}, library="tf_keras"),
    *_each("RandomCrop", (2, 9, 13, 3), {"height": 4, "width": 7}),
    *_each("RandomCrop", (2, 9, 13, 3), {"height": 4, "width": 7}, library="tf_keras"),
    *_each("RandomFlip", ODD), *_each("RandomRotation", ODD, {"factor": 0.1}),
    *_each("RandomZoom", ODD, {"height_factor": 0.1}),
    *_each("RandomContrast", ODD, {"factor": 0.1}),
    *_each("RandomTranslation", ODD, {"height_factor": 0.1, "width_factor": 0.1}),
    *_each("RandomBrightness", ODD, {"factor": 0.1}),
]  # fmt: skip

CORE = [
    *_each("Embedding", (2, 5), {"input_dim": 7, "output_dim": 3}, values="7"),
    *_each("LayerScale", ODD, {"init_values": 1e-6, "projection_dim": 3}),
    *_each("StochasticDepth", ODD, {"drop_path_rate": 0.3}),
    *(
        Case(name, (ODD,), {"rate": 0.3})
        for name in ("Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout")
    ),
    *_each("GaussianNoise", ODD, {"stddev": 0.3}), *_each("Identity", ODD),
    *_each("ActivityRegularization", ODD, {"l2": 0.1}),
    *_each("TimeDistributed", (2, 3, 4, 5), {"layer": ("Dense", {"units": 3})},
           {"layer": ("Conv1D", {"filters": 2, "kernel_size": 3, "padding": "same"})}),
    *_each("TimeDistributed", (2, 3, 4, 5), {"layer": ("BatchNormalization", {})}),
    *_each("TimeDistributed", (2, 3, 7, 6, 5),
           {"layer": ("DepthwiseConv2D", {"kernel_size": 3, "strides": 2, "padding": "same"})},
           library="tf_keras"),
]  # fmt: skip

# ---- recurrent layers, attention ----

SEQUENCE = (3, 6, 5)
_GATES = ({}, {"return_sequences": True, "go_backwards": True}, {"use_bias": False})
RECURRENT = [
    *(
        Case(name, (SEQUENCE,), {"units": 4, **arguments}, library)
        for name in ("LSTM", "GRU", "SimpleRNN")
        for library in ("keras", "tf_keras")
        for arguments in (*_GATES, {"activation": "relu"}, {"return_state": True})
    ),
    *(
        Case(name, (SEQUENCE,), {"units": 4, "recurrent_activation": "hard_sigmoid"}, library)
        for name in ("LSTM", "GRU")
        for library in ("keras", "tf_keras")
    ),
    *(
        Case("GRU", (SEQUENCE,), {"units": 4, "reset_after": False, "use_bias": use_bias}, library)
        for library in ("keras", "tf_keras")
        for use_bias in (False, True)
    ),
    *(
        Case("Bidirectional", (SEQUENCE,),
             {"layer": (name, {"units": 4, "return_sequences": sequences}), "merge_mode": mode},
             library)
        for library in ("keras", "tf_keras")
        for name, sequences, mode in (
            ("LSTM", True, "concat"), ("GRU", False, "sum"), ("GRU", True, "mul"),
            ("SimpleRNN", False, "ave"),
        )
    ),
]  # fmt: skip
_TWO = ((2, 6, 8), (2, 5, 8))
ATTENTION = [
    *(
        Case("MultiHeadAttention", shapes, {"num_heads": 2, "key_dim": 3, **arguments}, library,
             spread=True)
        for library in ("keras", "tf_keras")
        for shapes, arguments in (
            (_TWO, {}), (_TWO, {"value_dim": 5, "use_bias": False}), (_TWO, {"output_shape": 4}),
            ((*_TWO, (2, 5, 7)), {"dropout": 0.1}),
        )
    ),
    *_each("Attention", _TWO, {}, {"use_scale": True}),
    *_each("Attention", (*_TWO, (2, 5, 8)), {"dropout": 0.2}),
    *_each("AdditiveAttention", _TWO, {}, {"use_scale": False}),
]  # fmt: skip

CASES = [
    *CONVOLUTIONS, *DRAWN, *NORMALIZATIONS, *ACTIVATIONS, *POOLING, *RESHAPING, *MERGING,
    *PREPROCESSING, *CORE, *RECURRENT, *ATTENTION,
]  # fmt: skip

# ---- training steps of batch normalization ----

TRAINING = [
    Case("BatchNormalization", (shape,), arguments, library, is_training=True)
    for library in ("keras", "tf_keras")
    for shape, arguments in (
        *(
            (shape, arguments)
            for shape in ((5, 4), (2, 6, 4), (2, 5, 3, 4), (2, 3, 4, 5, 4))
            for arguments in ({"momentum": 0.9}, {"scale": False, "center": False, "epsilon": 1e-2})
        ),
        ((2, 4, 5, 3), {"axis": 1}),
        # of one value TF computes x*scale - mean*scale: 1/sqrt(epsilon) times the rounding of x
        ((1, 4), {"epsilon": 0.1}),
        ((1, 1, 1, 4), {"epsilon": 0.1, "center": False}),
    )
] + [
    Case("TimeDistributed", ((3, 4, 5, 2),), {"layer": ("BatchNormalization", {})}, library,
         is_training=True)
    for library in ("keras", "tf_keras")
]  # fmt: skip
