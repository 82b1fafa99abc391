"""Sizes that are known when the network runs: numbers made of the sizes of its tensors.

A graph computes shapes with nodes: ``Shape``, ``StridedSlice``, ``Pack``.  Here that arithmetic is
done once, when the network is ported, on numbers some of which are :class:`Size` expressions;
NumPy's arrays of objects carry them through slices, products and concatenations.  What is left for
the running network is a formula for each size, and no tensors of sizes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tfcompat_dw.porting.config import TensorRef
from tfcompat_dw.porting.layer import UnsupportedLayerError

DEEPEST = 64
"""Of a formula: a file must not drive the recursion below."""
LARGEST = 256
"""Numbers and sizes in a formula, each as often as it stands there: what it costs to compute."""


class Size:
    """A number that depends on sizes of tensors; Python's arithmetic makes new ones."""

    depth = 0
    leaves = 1

    def __add__(self, other: Any) -> Any:
        return _computed("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _computed("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _computed("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _computed("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return _computed("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _computed("mul", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _computed("floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _computed("floordiv", other, self)

    def __mod__(self, other: Any) -> Any:
        return _computed("mod", self, other)

    def __rmod__(self, other: Any) -> Any:
        return _computed("mod", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _computed("truediv", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _computed("truediv", other, self)

    def __neg__(self) -> Any:
        return _computed("neg", self)


@dataclass(frozen=True)
class SizeOf(Size):
    """The size of one axis of a tensor."""

    ref: TensorRef
    axis: int


@dataclass(frozen=True)
class Computed(Size):
    """A function in :data:`FUNCTIONS` of numbers and sizes."""

    function: str
    arguments: tuple[Any, ...]
    depth: int = 0
    leaves: int = 1


def _float32(value: Any) -> Any:
    """A number as float32 has it: rounded to 24 bits (Veltkamp's splitting).

    In plain arithmetic, so that open sizes of an exported program pass, too; that program takes it
    for exact, and rounds nothing.
    """
    wide = torch.sym_float(value)
    scaled = wide * (2.0**29 + 1)
    return scaled - (scaled - wide)


def _truncdiv(a: Any, b: Any) -> Any:
    """The whole quotient, cut towards zero; the program of it has no branch on the sign of a."""
    if b < 0:
        a, b = -a, -b
    return torch.sym_max(a, 0) // b - torch.sym_max(-a, 0) // b


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "truncdiv": _truncdiv,
    "truediv": operator.truediv,
    "neg": operator.neg,
    "max": max,
    "min": min,
    "int": torch.sym_int,
    "float": torch.sym_float,
    "float32": _float32,
    "floor": math.floor,
    "ceil": math.ceil,
}


def _computed(function: str, *arguments: Any) -> Any:
    """The expression, without the arithmetic that changes nothing."""
    arguments = tuple(_plain(argument) for argument in arguments)
    if len(arguments) == 2:
        a, b = arguments
        neutral = {"add": 0, "sub": 0, "mul": 1, "floordiv": 1, "truncdiv": 1}.get(function)
        if neutral is not None and type(b) is int and b == neutral:
            return a
        if function in ("add", "mul") and type(a) is int and a == neutral:
            return b
        if function == "sub" and (rest := _without(a, b)) is not None:
            return rest
    depth = 1 + max(getattr(argument, "depth", 0) for argument in arguments)
    if depth > DEEPEST:
        raise UnsupportedLayerError(f"a formula for a size of more than {DEEPEST} levels")
    leaves = sum(getattr(argument, "leaves", 1) for argument in arguments)
    if leaves > LARGEST:
        raise UnsupportedLayerError(f"a formula for a size of more than {LARGEST} numbers")
    return Computed(function, arguments, depth, leaves)


def _without(total: Any, part: Any) -> Any:
    """``b`` of ``(a + b) - a``; None where it is no such sum."""
    if total == part:
        return 0
    if isinstance(total, Computed) and total.function == "add":
        first, second = total.arguments
        return second if first == part else first if second == part else None
    return None


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's."""
    return value.item() if hasattr(value, "item") and not isinstance(value, Size) else value


def computed(function: str, *arguments: Any) -> Any:
    """A function in :data:`FUNCTIONS` of numbers and sizes."""
    if any(isinstance(argument, Size) for argument in arguments):
        return _computed(function, *arguments)
    return FUNCTIONS[function](*arguments)


def has_fraction(value: Any) -> bool:
    """Whether a number, or what a formula comes to, is of a type with fractions."""
    if isinstance(value, Computed):
        if value.function in ("float", "float32", "truediv"):
            return True
        return value.function not in ("int", "floor", "ceil") and any(
            map(has_fraction, value.arguments)
        )
    return isinstance(value, float)


def is_never_negative(value: Any) -> bool:
    """Whether a number, or a formula whatever the sizes are, is known to be zero or more."""
    if isinstance(value, Computed):
        known = map(is_never_negative, value.arguments)
        return (
            any(known) if value.function == "max" else value.function in _KEEP_SIGN and all(known)
        )
    return isinstance(value, SizeOf) or value >= 0


_KEEP_SIGN = frozenset(
    {"add", "mul", "floordiv", "mod", "truncdiv", "truediv", "min", "int", "float", "float32",
     "floor", "ceil"}
)  # fmt: skip
"""They give nothing below zero of what is not below zero."""


def evaluated(value: Any, size_of: Callable[[TensorRef, int], Any]) -> Any:
    """The number, given the sizes of tensors."""
    if isinstance(value, SizeOf):
        return size_of(value.ref, value.axis)
    if isinstance(value, Computed):
        arguments = (evaluated(argument, size_of) for argument in value.arguments)
        return FUNCTIONS[value.function](*arguments)
    return value


def refs_in(value: Any) -> Iterator[TensorRef]:
    """Tensors whose sizes an expression takes."""
    if isinstance(value, SizeOf):
        yield value.ref
    elif isinstance(value, Computed):
        for argument in value.arguments:
            yield from refs_in(argument)
