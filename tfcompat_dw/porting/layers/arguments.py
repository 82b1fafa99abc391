"""Reading a layer's arguments: every one that changes numbers is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tfcompat_dw.padding import same_padding
from tfcompat_dw.porting.layer import LayerSpec, UnsupportedLayerError


def refuse(reason: str) -> UnsupportedLayerError:
    """The error of an argument that no module here serves."""
    return UnsupportedLayerError(reason)


def sizes(spec: LayerSpec, key: str, rank: int, default: int | None = None) -> tuple[int, ...]:
    """One number for each axis: an int stands for all of them."""
    value = spec.config.get(key)
    if value is None:
        value = default
    numbers: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value] * rank
    if len(numbers) == 1:
        numbers *= rank
    if len(numbers) != rank or any(type(n) is not int or not 0 < n < 2**31 for n in numbers):
        raise refuse(f"{key}={spec.config.get(key)!r}; {rank} positive integers are expected")
    return tuple(numbers)


def number(spec: LayerSpec, key: str, default: float) -> float:
    """A number."""
    value = spec.config.get(key, default)
    if isinstance(value, dict) and "value" in value:  # Keras 2 wraps some in arrays
        value = value["value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(f"{key}={value!r}; a number is expected")
    return float(value)


def optional_number(spec: LayerSpec, key: str) -> float | None:
    """A number or None."""
    return None if spec.config.get(key) is None else number(spec, key, 0.0)


def flag(spec: LayerSpec, key: str, default: bool) -> bool:
    """True or False."""
    value = spec.config.get(key, default)
    if not isinstance(value, bool):
        raise refuse(f"{key}={value!r}; true or false is expected")
    return value


def text(spec: LayerSpec, key: str, default: str, *choices: str) -> str:
    """One of some words, in lower case."""
    value = spec.config.get(key)
    word = value.lower() if isinstance(value, str) else default if value is None else None
    if word not in (choices or (word,)) or word is None:
        raise refuse(f"{key}={value!r}; one of {', '.join(choices)} is expected")
    return word


def channels_last(spec: LayerSpec) -> bool:
    """Whether ``data_format`` puts channels last; Keras 1 and 2 may leave it open."""
    formats = ("channels_last", "channels_first")
    return text(spec, "data_format", "channels_last", *formats) == "channels_last"


def pairs(value: Any, rank: int, key: str) -> tuple[tuple[int, int], ...]:
    """(before, after) of each axis, from one number, one per axis or two per axis."""
    per_axis = list(value) if isinstance(value, (list, tuple)) else [value] * rank
    if rank == 1 and len(per_axis) == 2 and all(type(n) is int for n in per_axis):
        per_axis = [per_axis]
    result = []
    for axis in per_axis:
        both = list(axis) if isinstance(axis, (list, tuple)) else [axis, axis]
        if len(both) != 2 or any(type(n) is not int or not 0 <= n < 2**31 for n in both):
            raise refuse(f"{key}={value!r}; counts before and after each axis are expected")
        result.append((both[0], both[1]))
    if len(result) != rank:
        raise refuse(f"{key}={value!r}; {rank} axes are expected")
    return tuple(result)


def weight_shape(spec: LayerSpec, *names: str, rank: int | None = None) -> tuple[int, ...]:
    """The shape of a variable under the first of its names that the file has."""
    for name in names:
        if name in spec.weights:
            shape = tuple(spec.weights[name])
            if rank is not None and len(shape) != rank:
                raise refuse(f"its {name} has shape {shape}; {rank} axes are expected")
            return shape
    have = ", ".join(spec.weights) or "none"
    raise refuse(f"the file has no {names[0]} for it (its variables: {have})")


def weight_name(spec: LayerSpec, *names: str) -> str:
    """The first of the names that the file has; the first of all if it has none."""
    return next((name for name in names if name in spec.weights), names[0])


def as_list(value: Any) -> list[Any]:
    """A list of one for anything else."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def first(x: Tensor, is_last: bool) -> Tensor:
    """The channels as axis 1, where PyTorch has them: a view."""
    return x.movedim(-1, 1) if is_last else x


def back(x: Tensor, is_last: bool) -> Tensor:
    """The channels where they were."""
    return x.movedim(1, -1) if is_last else x


def inner_spec(spec: LayerSpec, key: str = "layer") -> LayerSpec:
    """The layer that a wrapper holds."""
    inner = spec.config.get(key)
    config = inner.get("config") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(config, Mapping):
        raise refuse(f"its {key} is not described")
    name = str(config.get("name", spec.name))
    return LayerSpec(str(inner["class_name"]), name, config, spec.weights, spec.keras_major)


def same_ends(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) of TF's SAME; numbers where they do not depend on a size that may vary."""
    if stride == 1:
        total = (kernel - 1) * dilation
        return total // 2, total - total // 2
    return same_padding(size, kernel, stride, dilation)
