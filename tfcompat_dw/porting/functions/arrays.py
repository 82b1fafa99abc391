"""Tensors of what may be a tensor, a number or nested lists of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Array = Tensor | float | Sequence[Any]
"""A tensor, a number (a ``SymInt`` in a traced program), or nested lists of numbers."""


def as_tensor(
    value: Array,
    like: Array | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The tensor itself, or one of numbers.

    Args:
        value: what may be no tensor yet.
        like: if it is a tensor, the new one has its dtype and is where it is.
        dtype: of numbers; int32 or PyTorch's default, if neither this nor ``like`` tells.
        device: of numbers.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(like, Tensor):
        dtype, device = dtype or like.dtype, like.device
    return _made(value, dtype or _dtype_of(value), device)


def _made(value: Any, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    if _is_plain(value):
        return torch.tensor(value, dtype=dtype, device=device)
    if isinstance(value, (list, tuple)):
        return torch.stack([_made(one, dtype, device) for one in value])
    return torch.scalar_tensor(value, dtype=dtype, device=device)


def _is_plain(value: Any) -> bool:
    """Whether there is no symbol in it."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (int, float))


def _dtype_of(value: Any) -> torch.dtype:
    if isinstance(value, (list, tuple)):
        kinds = {_dtype_of(one) for one in value} or {torch.int32}
        return next(kind for kind in (torch.get_default_dtype(), torch.int32, torch.bool)
                    if kind in kinds)  # fmt: skip
    if isinstance(value, bool):
        return torch.bool
    is_whole = isinstance(value, (int, torch.SymInt))
    return torch.int32 if is_whole else torch.get_default_dtype()


def is_floating(x: Tensor) -> bool:
    """Whether its numbers have fractions: complex ones, too."""
    return x.is_floating_point() or x.is_complex()


def dtype_named(name: str) -> torch.dtype:
    """PyTorch's dtype of TensorFlow's name: ``float32``, also ``tf.float32``."""
    kind = getattr(torch, name.rpartition(".")[2], None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"no dtype of PyTorch's is called {name!r}")
    return kind
