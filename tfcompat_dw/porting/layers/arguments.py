"""Reading a layer's arguments: every one that changes numbers is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tfcompat_dw.porting.layer import LayerSpec, UnsupportedLayerError

LARGEST = 2**31 - 1
MOST_NUMBERS = 2**40
"""In one variable: PyTorch cannot count the bytes of much larger ones."""


def refuse(reason: str) -> UnsupportedLayerError:
    """The error of an argument that says nothing sensible, or contradicts the file."""
    return UnsupportedLayerError(reason)


def unsupported(spec: LayerSpec, reason: str) -> UnsupportedLayerError:
    """The error of an argument that Keras takes and no module here serves."""
    return UnsupportedLayerError(
        f"{reason}, which is not ported; give a builder of your own: "
        f"port_model(..., layers={{{spec.class_name!r}: builder}})"
    )


def sizes(spec: LayerSpec, key: str, rank: int, default: int | None = None) -> tuple[int, ...]:
    """One positive number for each axis: an int stands for all of them."""
    value = spec.config.get(key)
    if value is None:
        value = default
    numbers: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value] * rank
    if len(numbers) == 1:
        numbers *= rank
    if len(numbers) != rank or any(type(n) is not int or not 0 < n <= LARGEST for n in numbers):
        wanted = "a positive integer is" if rank == 1 else f"{rank} positive integers are"
        raise refuse(f"{key}={spec.config.get(key)!r}, where {wanted} expected")
    return tuple(numbers)


def integer(spec: LayerSpec, key: str, default: int) -> int:
    """A whole number of either sign."""
    value = spec.config.get(key, default)
    if type(value) is not int or abs(value) > LARGEST:
        raise refuse(f"{key}={value!r}, where an integer is expected")
    return value


def number(spec: LayerSpec, key: str, default: float | None) -> float:
    """A number; None in the file means ``default``."""
    value = array(spec.config.get(key))
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(f"{key}={value!r}, where a number is expected")
    return float(value)


def optional_number(spec: LayerSpec, key: str) -> float | None:
    """A number or None."""
    return None if spec.config.get(key) is None else number(spec, key, None)


def array(value: Any) -> Any:
    """Numbers in nested lists, out of any of Keras' wrappings of arrays."""
    if isinstance(value, Mapping):
        inner = value.get("config", value)
        return inner.get("value") if isinstance(inner, Mapping) else None
    return getattr(value, "value", value)


def flag(spec: LayerSpec, key: str, default: bool) -> bool:
    """True or False; None in the file means ``default``."""
    value = spec.config.get(key)
    value = default if value is None else value
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise refuse(f"{key}={value!r}, where true or false is expected")
    return bool(value)


def text(spec: LayerSpec, key: str, default: str, *choices: str) -> str:
    """One of some words, in lower case."""
    value = spec.config.get(key)
    word = value.lower() if isinstance(value, str) else default if value is None else None
    if word is None or word not in choices:
        raise refuse(f"{key}={value!r}, where one of {', '.join(choices)} is expected")
    return word


def refuse_if_set(spec: LayerSpec, *keys: str) -> None:
    """Arguments that change numbers and are not ported unless they are off."""
    for key in keys:
        if spec.config.get(key) not in (None, False, 0):
            raise unsupported(spec, f"{key}={spec.config[key]!r}")


def channels_last(spec: LayerSpec) -> bool:
    """Whether ``data_format`` puts channels last; Keras 1 and 2 may leave it open."""
    formats = ("channels_last", "channels_first")
    return text(spec, "data_format", "channels_last", *formats) == "channels_last"


def axes_of(spec: LayerSpec, default: int = -1) -> tuple[int, ...]:
    """``axis``: one or several, as they are written."""
    value = spec.config.get("axis", default)
    axes = list(value) if isinstance(value, (list, tuple)) else [value]
    if not axes or any(type(axis) is not int or abs(axis) > LARGEST for axis in axes):
        raise refuse(f"axis={value!r}, where an integer or a list of them is expected")
    return tuple(axes)


def one_axis(spec: LayerSpec, default: int = -1) -> int:
    """``axis``, of a layer that has one; Keras 2 may write it as a list."""
    axes = axes_of(spec, default)
    if len(axes) != 1:
        raise unsupported(spec, f"axis={list(axes)}: more than one axis")
    return axes[0]


def pairs(value: Any, rank: int, key: str) -> tuple[tuple[int, int], ...]:
    """(before, after) of each axis, from one number, one per axis or two per axis."""
    per_axis = list(value) if isinstance(value, (list, tuple)) else [value] * rank
    if rank == 1 and len(per_axis) == 2 and all(type(n) is int for n in per_axis):
        per_axis = [per_axis]
    found = []
    for axis in per_axis:
        both = list(axis) if isinstance(axis, (list, tuple)) else [axis, axis]
        if len(both) != 2 or any(type(n) is not int or not 0 <= n <= LARGEST for n in both):
            raise refuse(f"{key}={value!r}, where counts before and after each axis are expected")
        found.append((both[0], both[1]))
    if len(found) != rank:
        raise refuse(f"{key}={value!r}, where {rank} axes are expected")
    return tuple(found)


def weight_shape(
    spec: LayerSpec, *names: str, rank: int | None = None, empty: bool = False
) -> tuple[int, ...]:
    """The shape of a variable under the first of its names that the file has."""
    name = weight_name(spec, *names)
    if name not in spec.weights:
        have = ", ".join(spec.weights) or "none"
        raise refuse(f"the file has no {names[0]} for it (its variables: {have})")
    shape = tuple(spec.weights[name])
    if rank is not None and len(shape) != rank:
        raise refuse(f"its {name} has shape {shape} in the file, where {rank} axes are expected")
    if not (0 if empty else 1) <= math.prod(shape) <= MOST_NUMBERS:
        raise refuse(f"its {name} has shape {shape} in the file, which is no size of a variable")
    return shape


def weight_name(spec: LayerSpec, *names: str) -> str:
    """The first of the names that the file has; the first of all if it has none."""
    return next((name for name in names if name in spec.weights), names[0])


def expect(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """What the file's variables say is what the arguments say."""
    if found != expected:
        raise refuse(f"its {what} is {found} in the file, {expected} by its arguments")


def inner_spec(spec: LayerSpec, key: str, weights: Mapping[str, tuple[int, ...]]) -> LayerSpec:
    """The layer that a wrapper holds."""
    inner = spec.config.get(key)
    config = inner.get("config") if isinstance(inner, Mapping) else None
    name = inner.get("class_name") if isinstance(inner, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(name, str):
        raise refuse(f"its {key} is not described")
    return LayerSpec(name, str(config.get("name", spec.name)), config, weights, spec.keras_major)


def to_first(x: Tensor, is_last: bool) -> Tensor:
    """The channels as axis 1, where PyTorch has them: a view."""
    return x.movedim(-1, 1) if is_last else x


def from_first(x: Tensor, is_last: bool) -> Tensor:
    """The channels where they were: a view."""
    return x.movedim(1, -1) if is_last else x
