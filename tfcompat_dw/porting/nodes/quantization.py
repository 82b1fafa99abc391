"""Numbers as an integer of few bits would hold them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.config import shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import (
    Table,
    axes,
    flag,
    operand,
    operands,
    real,
    takes,
    text,
    whole,
)
from tfcompat_dw.porting.nodes.call import Bound, NodeCall

RANGES = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
}

MOST_SHIFTS = 1000
"""Binary places; float64 reaches to 2 ** 1023."""


def _range(call: NodeCall) -> Bound:
    """Ends are inputs, or attributes of ``FakeQuantWithMinMaxArgs``."""
    bits = whole(call, "num_bits", 8)
    if not 2 <= bits <= 16:
        raise UnsupportedLayerError(f"its num_bits is {bits}")
    ends = operands(call, 3, 1) if len(call.inputs) == 3 else _ends(call)
    kwargs = {"num_bits": bits, "narrow_range": flag(call, "narrow_range")}
    return Bound("fake_quantize_range", (operand(call, 0), *ends), kwargs)


def _ends(call: NodeCall) -> tuple[Tensor, Tensor]:
    low, high = real(call, "min", -6.0), real(call, "max", 6.0)
    if not low < high:
        raise UnsupportedLayerError(f"its range is from {low} to {high}")
    return torch.tensor(low), torch.tensor(high)


def _fake_quantize(call: NodeCall) -> Bound:
    """This package's own node: a result that the original holds as integers."""
    shifts = call.attributes.get("shifts") or ()
    if not all(type(one) is int and 0 <= one < MOST_SHIFTS for one in shifts):
        raise UnsupportedLayerError(f"its shifts are {shown(shifts)}")
    kwargs: dict[str, Any] = {"axis": whole(call, "axis", -1)}
    if shifts:
        kwargs["shifts"] = torch.tensor(shifts)
    if rounds_up := call.attributes.get("rounds_up"):
        kwargs["rounds_up"] = torch.tensor(rounds_up, dtype=torch.bool)
    if "offset" in call.attributes:
        kwargs["offset"] = real(call, "offset", 0.0)
    return Bound("fake_quantize", (operand(call, 0), *_integers(call)), kwargs)


def _fake_quantize_mean(call: NodeCall) -> Bound:
    """This package's own node, too: of a mean, what was averaged, and the axes."""
    integers = _integers(call)
    kwargs = {
        "axes": axes(call, 2),
        "keep_dims": flag(call, "keep_dims"),
        "factor": real(call, "x_scale", 1.0) / integers[0].item(),
        "x_zero_point": whole(call, "x_zero_point", 0),
    }
    return Bound("fake_quantize_mean", (*operands(call, 2), *integers), kwargs)


def _integers(call: NodeCall) -> tuple[Tensor, Tensor, int, int]:
    """Their scales, zero points and range."""
    scale, zero = (_numbers(call, key) for key in ("scale", "zero_point"))
    if len(scale) != len(zero) or not scale or not all(one > 0 for one in scale):
        raise UnsupportedLayerError(f"its scale is {shown(scale)}, its zero_point {shown(zero)}")
    least, most = RANGES[text(call, "dtype", "", *RANGES)]
    return torch.tensor(scale), torch.tensor(zero), least, most


def _numbers(call: NodeCall, key: str) -> list[float]:
    value: Any = call.attributes.get(key)
    values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    if not all(type(one) in (int, float) for one in values):
        raise UnsupportedLayerError(f"its {key} is {shown(value)}")
    return [float(one) for one in values]


HANDLERS: Table = {
    "FakeQuantWithMinMaxVars": takes(3, 3, _range),
    "FakeQuantWithMinMaxVarsPerChannel": takes(3, 3, _range),
    "FakeQuantWithMinMaxArgs": takes(1, 1, _range),
    "FakeQuantize": takes(1, 1, _fake_quantize),
    "FakeQuantizeMean": takes(3, 3, _fake_quantize_mean),
}
