"""Fourier transforms and complex numbers (``spectral_ops.cc``, ``math_ops.cc``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import Array, as_tensor


def _of_last(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Over as many of the last axes as there are lengths; what is longer is cut."""

    def apply(x: Array, lengths: Sequence[int]) -> Tensor:
        axes = list(range(-len(lengths), 0))
        return function(as_tensor(x), list(lengths), axes)

    return apply


def _over_last(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(x: Array, rank: int) -> Tensor:
        return function(as_tensor(x), dim=list(range(-rank, 0)))

    return apply


def _complex(real: Array, imaginary: Array) -> Tensor:
    real = as_tensor(real, imaginary)
    return torch.complex(*torch.broadcast_tensors(real, as_tensor(imaginary, real)))


def _imaginary(x: Tensor) -> Tensor:
    return x.imag if x.is_complex() else torch.zeros_like(x)


def _real(x: Tensor) -> Tensor:
    return x.real if x.is_complex() else x


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rfft": _of_last(torch.fft.rfftn),
    "irfft": _of_last(torch.fft.irfftn),
    "fft": _over_last(torch.fft.fftn),
    "ifft": _over_last(torch.fft.ifftn),
    "complex": _complex,
    "real": _real,
    "imaginary": _imaginary,
    "angle": lambda x: torch.angle(as_tensor(x)),
    "conjugate": lambda x: torch.conj_physical(as_tensor(x)),
}
