"""Functions under Keras' and NumPy's names: axes may be left out, and results are theirs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tfcompat_dw.porting.functions.arranging import mirror_pad
from tfcompat_dw.porting.functions.arrays import as_tensor
from tfcompat_dw.porting.functions.elementwise import gelu

Axis = int | Sequence[int] | None


def _axes(x: Tensor, axis: Axis) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.dim()))
    return (axis,) if isinstance(axis, int) else tuple(axis)


def _mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.mean(_axes(x, axis), keepdim=keepdims)


def _sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.sum(_axes(x, axis), keepdim=keepdims)


def _max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.amax(_axes(x, axis), keepdim=keepdims)


def _min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.amin(_axes(x, axis), keepdim=keepdims)


def _variance(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.var(_axes(x, axis), correction=0, keepdim=keepdims)


def _std(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.std(_axes(x, axis), correction=0, keepdim=keepdims)


def _argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    return x.argmax(axis, keepdim=keepdims)


def _split(x: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """An int is a number of parts; a sequence, where to cut."""
    return list(torch.tensor_split(x, sections, axis))


def _pad(x: Tensor, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Tensor:
    pairs = [[side, side] if isinstance(side, int) else list(side) for side in pad_width]
    flat = [size for pair in reversed(pairs) for size in pair]
    mode = mode.lower()
    if mode == "constant":
        return F.pad(x, flat, value=constant_values)
    if mode not in ("reflect", "symmetric"):
        raise ValueError(f"mode must be 'constant', 'reflect' or 'symmetric'; got {mode!r}")
    return mirror_pad(x, pairs, mode)


def _clip(x: Tensor, x_min: Any = None, x_max: Any = None) -> Tensor:
    return torch.clamp(x, x_min, x_max)


def _maximum(x: Any, y: Any) -> Tensor:
    return torch.clamp(x, min=y) if isinstance(x, Tensor) else torch.clamp(y, min=x)


def _minimum(x: Any, y: Any) -> Tensor:
    return torch.clamp(x, max=y) if isinstance(x, Tensor) else torch.clamp(y, max=x)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return F.softmax(x, axis)


def _log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return F.log_softmax(x, axis)


def _gelu(x: Tensor, approximate: bool = True) -> Tensor:
    return gelu(x, approximate)


def _gelu_exact(x: Tensor, approximate: bool = False) -> Tensor:
    return _gelu(x, approximate)


def _hard_sigmoid_3(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def _hard_silu(x: Tensor) -> Tensor:
    return x * _hard_sigmoid_3(x)


def _leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    return F.leaky_relu(x, negative_slope)


def _l2_normalize(x: Tensor, axis: Axis = None, epsilon: float = 1e-12) -> Tensor:
    total = x.square().sum(_axes(x, axis), keepdim=True)
    return x * torch.rsqrt(torch.clamp(total, min=epsilon))


def _tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    return x.repeat(list(repeats))


def _repeat(x: Tensor, repeats: int, axis: int | None = None) -> Tensor:
    return x.repeat_interleave(repeats, axis)


def _resize(x: Tensor, size: Sequence[int], interpolation: str = "bilinear") -> Tensor:
    """Pixels are squares whose middles are at halves, as in TF 2."""
    image = x.permute(0, 3, 1, 2)
    if interpolation == "bilinear":
        image = F.interpolate(image, list(size), mode="bilinear", align_corners=False)
    elif interpolation == "nearest":
        image = F.interpolate(image, list(size), mode="nearest-exact")
    else:
        raise ValueError(f"interpolation must be 'bilinear' or 'nearest'; got {interpolation!r}")
    return image.permute(0, 2, 3, 1)


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(x: Any, y: Any) -> Any:
        if not isinstance(x, Tensor) and (isinstance(x, list) or not isinstance(y, Tensor)):
            x = as_tensor(x, y)  # sizes; a number stays one beside a tensor
        return function(x, as_tensor(y, x) if isinstance(y, list) else y)

    return apply


def _plain(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def apply(x: Any) -> Tensor:
        return function(as_tensor(x))

    return apply


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _arithmetic(operator.add),
    "subtract": _arithmetic(operator.sub),
    "multiply": _arithmetic(operator.mul),
    "divide": _arithmetic(operator.truediv),
    "power": _arithmetic(operator.pow),
    "floor_divide": _arithmetic(operator.floordiv),
    "maximum": _maximum,
    "minimum": _minimum,
    "negative": _plain(torch.neg),
    "absolute": _plain(torch.abs),
    "square": _plain(torch.square),
    "sqrt": _plain(torch.sqrt),
    "rsqrt": _plain(torch.rsqrt),
    "exp": _plain(torch.exp),
    "log": _plain(torch.log),
    "sin": _plain(torch.sin),
    "cos": _plain(torch.cos),
    "floor": _plain(torch.floor),
    "ceil": _plain(torch.ceil),
    "round": _plain(torch.round),
    "identity": _plain(lambda x: x),
    "stop_gradient": _plain(torch.detach),
    "relu": _plain(F.relu),
    "relu6": _plain(F.relu6),
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "silu": _plain(F.silu),
    "elu": _plain(F.elu),
    "selu": _plain(F.selu),
    "softsign": _plain(F.softsign),
    "hard_sigmoid": _hard_sigmoid_3,
    "hard_silu": _hard_silu,
    "gelu": _gelu,
    "gelu_exact": _gelu_exact,
    "leaky_relu": _leaky_relu,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "clip": _clip,
    "l2_normalize": _l2_normalize,
    "mean": _mean,
    "sum": _sum,
    "max": _max,
    "min": _min,
    "variance": _variance,
    "std": _std,
    "argmax": _argmax,
    "split": _split,
    "pad": _pad,
    "tile": _tile,
    "repeat": _repeat,
    "resize": _resize,
}
