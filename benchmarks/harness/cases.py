"""What is timed: layers, and cases (a layer with batch, dtype, threads, pass and memory order).

No PyTorch here, nor in what else the workers share: it would bring its threads into each of them.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, cast

DTYPES = ("float32", "bfloat16", "float16")
ORDERS = ("nhwc", "nchw")
KERNEL_PASSES = ("forward", "backward", "backward_input", "backward_filter")
"""What has a roofline; ``backward`` is both gradients."""
CALL_PASSES = ("forward_grad", "training")
"""What autograd adds: a forward call that records, and that with its backward call."""
PASSES = KERNEL_PASSES + CALL_PASSES

_SYNTAX = re.compile(r"(?:(\d+)x)?(\d+)x(\d+)((?:[ksdm]\d+)*)")
_OPTIONS = {"k": "kernel", "s": "stride", "d": "dilation", "m": "multiplier"}


@dataclass(frozen=True)
class Layer:
    """A depthwise convolution with SAME padding, and the image that it is given."""

    height: int
    width: int
    channels: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    multiplier: int = 1

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1:
            raise ValueError(f"every number of a layer must be at least 1, got {self}")

    @staticmethod
    def parse(text: str) -> Layer:
        """Of ``14x512`` (size and channels), ``28x240k5``, ``56x40x144k5s2``, ``33x256d4m2``."""
        match = _SYNTAX.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ValueError(
                f"layer {text!r}: write SIZExCHANNELS or HEIGHTxWIDTHxCHANNELS, then any of "
                "kKERNEL sSTRIDE dDILATION mMULTIPLIER, as in 14x512 or 28x240k5s2"
            )
        height, width, channels, options = match.groups()
        given = {_OPTIONS[o[0]]: int(o[1:]) for o in re.findall(r"[ksdm]\d+", options)}
        return Layer(int(height or width), int(width), int(channels), **given)

    @property
    def name(self) -> str:
        """As ``parse`` reads it, with spaces."""
        size = f"{self.height}x" if self.height != self.width else ""
        parts = [f"{size}{self.width}x{self.channels}", f"k{self.kernel}"]
        for letter in "sdm":
            value = getattr(self, _OPTIONS[letter])
            parts += [f"{letter}{value}"] if value != 1 else []
        return " ".join(parts)

    @property
    def lanes(self) -> int:
        """Output channels."""
        return self.channels * self.multiplier

    @property
    def taps(self) -> int:
        """Elements of one channel's filter."""
        return self.kernel * self.kernel

    @property
    def output_size(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        """TensorFlow's: [h, w, in, mult]."""
        return self.kernel, self.kernel, self.channels, self.multiplier

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """TensorFlow's SAME: top, bottom, left, right; the odd one after."""
        sides = []
        sizes = zip((self.height, self.width), self.output_size, strict=True)
        for inputs, outputs in sizes:
            reach = (outputs - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
            missing = max(0, reach - inputs)
            sides += [missing // 2, missing - missing // 2]
        top, bottom, left, right = sides
        return top, bottom, left, right


def count_of_threads(threads: int) -> str:
    """For people."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


@dataclass(frozen=True)
class Case:
    """One line of a table."""

    layer: Layer
    batch: int
    dtype: str = "float32"
    threads: int = 1
    pass_: str = "forward"
    order: str = "nhwc"

    @property
    def name(self) -> str:
        """For people."""
        return (
            f"{self.layer.name}, batch {self.batch}, {self.dtype}, {self.order}, {self.pass_}, "
            f"{count_of_threads(self.threads)}"
        )

    @property
    def kind(self) -> str:
        """All but layer and batch, for people."""
        threads = count_of_threads(self.threads)
        return f"{self.pass_} {self.dtype} {self.order.upper()}, {threads}"

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """NHWC, whatever the memory order."""
        return self.batch, self.layer.height, self.layer.width, self.layer.channels

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """NHWC, whatever the memory order."""
        return self.batch, *self.layer.output_size, self.layer.lanes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for pipes and JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Case:
        """The inverse of ``to_dict``."""
        rest = {name: value for name, value in values.items() if name != "layer"}
        return Case(Layer(**cast(dict[str, int], values["layer"])), **rest)


LAYERS = tuple(
    map(
        Layer.parse,
        (
            "112x32",  # MobileNetV1
            "112x64s2",
            "56x128",
            "28x256",
            "14x512",
            "7x1024",
            "28x240k5",  # EfficientNet
            "56x144k5s2",
            "19x728",  # Xception
            "56x96k7",  # ConvNeXt
            "33x256d4",  # DeepLab
            "56x32m4",
            "112x3m8",
        ),
    )
)
TINY = Layer.parse("4x8")
"""The call that is nearly all overhead, with a batch of 1."""
