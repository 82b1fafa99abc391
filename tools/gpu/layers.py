"""The layers that are timed, and what is kept of each."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
ORDERS = ("nhwc", "nchw")


class Layer(NamedTuple):
    """A square image and filter, with PyTorch's symmetric padding."""

    size: int
    channels: int
    kernel: int
    stride: int
    dilation: int
    multiplier: int
    batch: int

    @property
    def name(self) -> str:
        """Such as ``56x144 k5 s2``."""
        parts = [f"{self.size}x{self.channels}", f"k{self.kernel}"]
        for letter, value in (("s", self.stride), ("d", self.dilation), ("m", self.multiplier)):
            if value > 1:
                parts.append(f"{letter}{value}")
        return " ".join(parts)

    @property
    def full_name(self) -> str:
        """With the batch."""
        return f"{self.name}, batch {self.batch}"

    @property
    def padding(self) -> int:
        """On every side: an odd kernel keeps the size, at stride 1."""
        return self.dilation * (self.kernel - 1) // 2

    @property
    def output_size(self) -> int:
        """Rows, and columns."""
        window = self.dilation * (self.kernel - 1) + 1
        return (self.size + 2 * self.padding - window) // self.stride + 1

    def input_elements(self) -> int:
        """Of all images."""
        return self.batch * self.size**2 * self.channels

    def output_elements(self) -> int:
        """Of all images."""
        return self.batch * self.output_size**2 * self.channels * self.multiplier

    def moved(self, pass_: str, item: int) -> int:
        """Bytes that a pass reads and writes at the least; the filter is not counted."""
        inputs = 2 if pass_ == "backward" else 1  # read for the filter's gradient, its own written
        return item * (inputs * self.input_elements() + self.output_elements())


LAYERS = (
    Layer(112, 32, 3, 1, 1, 1, 128),
    Layer(112, 64, 3, 2, 1, 1, 128),
    Layer(56, 128, 3, 1, 1, 1, 128),
    Layer(28, 256, 3, 1, 1, 1, 128),
    Layer(14, 512, 3, 1, 1, 1, 256),
    Layer(7, 1024, 3, 1, 1, 1, 512),
    Layer(28, 240, 5, 1, 1, 1, 128),
    Layer(56, 144, 5, 2, 1, 1, 128),
    Layer(19, 728, 3, 1, 1, 1, 128),
    Layer(56, 96, 7, 1, 1, 1, 128),
    Layer(33, 256, 3, 1, 4, 1, 64),
    Layer(56, 32, 3, 1, 1, 4, 128),
    Layer(112, 3, 3, 1, 1, 8, 128),
    Layer(28, 240, 5, 1, 1, 1, 8),
    Layer(7, 1024, 3, 1, 1, 1, 8),
    Layer(14, 512, 3, 1, 1, 1, 1),
    Layer(56, 144, 5, 2, 1, 1, 1),
)

PASSES = {  # which gradients are asked for: of input, filter, bias
    "forward": [False, False, False],
    "input grad": [True, False, False],
    "filter grad": [False, True, False],
    "backward": [True, True, False],
}

Row = TypedDict(
    "Row",
    {
        "layer": list[int],
        "dtype": str,
        "order": str,
        "pass": str,
        "us": float,
        "bytes": int,
        "copy_us": float,  # of a copy of as many bytes: the fastest of `copies`
        "copies": dict[str, float],
        "peers": dict[str, "float | None"],
    },
)
"""The times of one pass of one layer, in microseconds."""


def layer_of(row: Row) -> Layer:
    """As a file has it, a list."""
    return Layer(*row["layer"])
