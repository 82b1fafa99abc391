"""A port beside its original, layer by layer: where they part, and why that may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TOLERANCE = 1e-4
"""Of the largest value: float32 networks of a hundred layers stay a few 1e-6 apart."""
MOST_STEPS = 4
"""Of a quantized original: half a step for the rounding of its result, and what the integer
arithmetic of its 8-bit kernels adds: 3.5 at the most, in RESIZE_BILINEAR."""


@dataclass(frozen=True)
class Integers:
    """The real numbers that the integers of a quantized layer stand for."""

    step: float
    low: float
    """One of them, as are all that are steps away."""
    high: float

    def clipped(self, values: Array) -> Array:
        """What lies outside of their range moved to its end."""
        return np.clip(values, self.low, self.high)

    def nearest(self, values: Array) -> Array:
        """The numbers that the nearest integers stand for."""
        steps = np.round((self.clipped(values) - self.low) / self.step)
        found: Array = (self.low + steps * self.step).astype(values.dtype)
        return found


@dataclass(frozen=True)
class LayerError:
    """How far one layer's output is from the original's."""

    name: str
    shape: tuple[int, ...]
    original_shape: tuple[int, ...]
    absolute: float
    """The largest difference; infinite where the shapes differ or only one has a NaN."""
    relative: float
    """That over the largest absolute value of the original."""
    step: float = 0.0
    """Of the original's integers, if it has some there: real numbers from one to the next."""

    def diverges(self, tolerance: float = TOLERANCE) -> bool:
        """Whether it is further off than rounding explains."""
        return not (self.relative <= tolerance or self.absolute <= MOST_STEPS * self.step)


@dataclass(frozen=True)
class Comparison:
    """Every layer that both have, in the order of computation."""

    layers: tuple[LayerError, ...]
    tolerance: float
    only_original: tuple[str, ...]
    """Layers that the port has not: folded into others, such as a padding before a convolution."""
    first: LayerError | None
    """The first layer that diverges."""
    cause: str
    """What its output hints at; empty if nothing diverges."""

    @property
    def agrees(self) -> bool:
        """Whether no layer diverges."""
        return self.first is None


def compare(
    port: Mapping[str, Array],
    original: Mapping[str, Array],
    tolerance: float = TOLERANCE,
    integers: Mapping[str, Integers] | None = None,
) -> Comparison:
    """Compares outputs by the layers' names.

    Args:
        port: ``PortedModel.layer_outputs`` as arrays.
        original: ``Original.layer_outputs`` on the same input.
        tolerance: the relative error from which a layer counts as diverging.
        integers: of layers that the original computes in integers; these agree to a few steps
            (:data:`MOST_STEPS`), and what lies outside of their range is moved to its end first.

    Raises:
        ValueError: they have no layer in common.
    """
    common = [name for name in original if name in port]
    if not common:
        raise ValueError("the port and the original have no layer of the same name")
    integers = integers or {}
    port = {
        name: integers[name].clipped(port[name]) if name in integers else port[name]
        for name in common
    }
    layers = tuple(
        replace(
            error_of(name, port[name], original[name]),
            step=integers[name].step if name in integers else 0.0,
        )
        for name in common
    )
    first = next((layer for layer in layers if layer.diverges(tolerance)), None)
    cause = "" if first is None else likely_cause(port[first.name], original[first.name], tolerance)
    missing = tuple(name for name in original if name not in common)
    return Comparison(layers, tolerance, missing, first, cause)


def error_of(name: str, ours: Array, theirs: Array) -> LayerError:
    """The largest difference of one layer's outputs."""
    absolute = relative = float("inf")
    if ours.shape == theirs.shape:
        both_nan = np.isnan(ours) & np.isnan(theirs)
        same = both_nan | (ours == theirs)  # infinities of one sign, too
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0, np.abs(_wide(ours) - theirs))
        absolute = float(np.max(difference, initial=0))
        finite = np.abs(theirs[np.isfinite(theirs)])
        largest = float(np.max(finite, initial=0))
        absolute = float("inf") if np.isnan(absolute) else absolute
        relative = absolute / largest if largest else (0.0 if absolute == 0 else float("inf"))
    return LayerError(name, ours.shape, theirs.shape, absolute, relative)


def _wide(values: Array) -> Array:
    """In a type whose differences are exact enough."""
    found: Array = values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)
    return found


# ---- causes ------------------------------------------------------------------------------------


def likely_cause(ours: Array, theirs: Array, tolerance: float = TOLERANCE) -> str:
    """One sentence on what a diverging output looks like; its input is taken to agree."""
    if ours.shape != theirs.shape:
        return _shapes(ours.shape, theirs.shape)
    if np.iscomplexobj(ours) and np.iscomplexobj(theirs):
        ours, theirs = (np.stack([one.real, one.imag], -1) for one in (ours, theirs))
    ours, theirs = (one.astype("i1") if one.dtype == bool else one for one in (ours, theirs))
    if np.isnan(ours).any() != np.isnan(theirs).any():
        which = "the port" if np.isnan(ours).any() else "the original"
        return f"only {which} has NaNs: a variance, a divisor or a logarithm of another sign"
    off = _is_off(ours, theirs, tolerance)
    for look in (_same_values_elsewhere, _only_at_the_border, _shifted, _scaled, _clipped):
        found = look(ours, theirs, off)
        if found:
            return found
    return (
        f"{off.mean():.0%} of the values differ without a pattern: other weights, another "
        f"activation, or a layer that the port computes differently"
    )


def _is_off(ours: Array, theirs: Array, tolerance: float) -> NDArray[np.bool_]:
    largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=0)
    off: NDArray[np.bool_] = ~(np.abs(ours - theirs) <= tolerance * largest)
    return off


def _shapes(ours: tuple[int, ...], theirs: tuple[int, ...]) -> str:
    if sorted(ours) == sorted(theirs) and len(ours) == len(theirs):
        return f"the axes are in another order: {ours} instead of {theirs}"
    if len(ours) == len(theirs) and ours[0] == theirs[0] and ours[-1] == theirs[-1]:
        return f"another padding or stride: {ours} instead of {theirs}"
    return f"another shape: {ours} instead of {theirs}"


def _same_values_elsewhere(ours: Array, theirs: Array, off: NDArray[np.bool_]) -> str:
    """A permutation of channels, or of everything."""
    largest = np.abs(theirs).max(initial=0)

    def alike(a: Array, b: Array) -> bool:
        return bool(
            np.abs(np.sort(a, axis=-1) - np.sort(b, axis=-1)).max(initial=0) <= 1e-5 * largest
        )

    if ours.ndim > 2 and ours.shape[-1] > 1 and alike(ours, theirs):
        return "the same values in another order of channels: the layout of a filter"
    if alike(ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)):
        return "the same values in another place: a Flatten or Reshape in another order of axes"
    return ""


def _only_at_the_border(ours: Array, theirs: Array, off: NDArray[np.bool_]) -> str:
    """Of images, off in their outer rows and columns and nowhere else."""
    if ours.ndim != 4 or min(ours.shape[1:3]) < 5:
        return ""
    rows: Array = np.asarray(off.any(axis=(0, 2, 3)))
    columns: Array = np.asarray(off.any(axis=(0, 1, 3)))
    inner = off[:, 2:-2, 2:-2].mean()
    if off.any() and inner == 0:
        where = [
            name
            for name, hit in (
                ("first rows", rows[:2].any()),
                ("last rows", rows[-2:].any()),
                ("first columns", columns[:2].any()),
                ("last columns", columns[-2:].any()),
            )
            if hit
        ]
        return f"only the border differs ({', '.join(where)}): the padding"
    return ""


def _shifted(ours: Array, theirs: Array, off: NDArray[np.bool_]) -> str:
    """The original, moved by a pixel."""
    if ours.ndim != 4 or min(ours.shape[1:3]) < 4:
        return ""
    largest = np.abs(theirs).max(initial=0)
    for rows in (-1, 0, 1):
        for columns in (-1, 0, 1):
            if (rows, columns) == (0, 0):
                continue
            moved = np.roll(theirs, (rows, columns), axis=(1, 2))[:, 1:-1, 1:-1]
            if np.abs(moved - ours[:, 1:-1, 1:-1]).max(initial=0) <= 1e-5 * largest:
                return (
                    f"the image is shifted by {rows} rows and {columns} columns: padding on the "
                    f"wrong side"
                )
    return ""


def _scaled(ours: Array, theirs: Array, off: NDArray[np.bool_]) -> str:
    """Each channel a linear function of the original's."""
    if ours.ndim < 2:
        return ""
    a = theirs.reshape(-1, theirs.shape[-1]).astype(np.float64)
    b = ours.reshape(-1, ours.shape[-1]).astype(np.float64)
    if len(a) < 4:
        return ""
    centre_a, centre_b = a.mean(axis=0), b.mean(axis=0)
    variance = ((a - centre_a) ** 2).sum(axis=0)
    scale = ((a - centre_a) * (b - centre_b)).sum(axis=0) / np.where(variance == 0, 1, variance)
    left = np.abs(b - centre_b - scale * (a - centre_a)).max(initial=0)
    if not left <= 1e-5 * np.abs(b).max(initial=0):
        return ""
    shift = np.abs(centre_b - scale * centre_a).max(initial=0)
    if np.abs(scale - 1).max(initial=0) <= 1e-5:
        return "every channel is shifted by a constant: a bias, or a mean"
    kind = "scaled" if shift <= 1e-5 * np.abs(b).max(initial=0) else "scaled and shifted"
    return (
        f"every channel is {kind} (by {scale.min():.4g} to {scale.max():.4g}): a normalization's "
        f"epsilon or statistics, or a preprocessing"
    )


def _clipped(ours: Array, theirs: Array, off: NDArray[np.bool_]) -> str:
    """Equal but where an activation would bend."""
    if not off.any() or off.all():
        return ""
    for one, other, which in ((ours, theirs, "the original"), (theirs, ours, "the port")):
        values = other[off]
        if values.size > 1 and np.ptp(values) == 0 and np.ptp(one[off]) > 0:
            return f"{which} is {values[0]:.4g} where they differ: an activation that clips"
    if (theirs[~off] >= 0).all() and (theirs[off] < 0).all():
        return "they differ where values are negative: the slope of an activation"
    return ""
