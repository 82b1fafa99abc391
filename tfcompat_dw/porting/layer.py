"""What a Keras layer is to the port: a description in, a module out, its weights by TF's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class PortError(ValueError):
    """A network that cannot be carried over; the message lists all of its obstacles at once."""


MOST_PROBLEMS = 20
"""That one message lists."""


def listed(problems: Sequence[str]) -> str:
    """What a :class:`PortError` says of several problems."""
    unique = list(dict.fromkeys(problems))
    lines = [f"\n  - {problem}" for problem in unique[:MOST_PROBLEMS]]
    if len(unique) > MOST_PROBLEMS:
        lines.append(f"\n  ... and {len(unique) - MOST_PROBLEMS} more")
    return "the network cannot be carried over:" + "".join(lines)


class UnsupportedLayerError(Exception):
    """Raised by a builder for one layer: why it cannot be built, and what would help."""


@dataclass(frozen=True)
class LayerSpec:
    """One layer of a Keras network, as the file describes it."""

    class_name: str
    """Keras 3's name: ``Conv2D``, whatever the file calls it."""
    name: str
    """The layer's own name: ``block_1_depthwise``."""
    config: Mapping[str, Any]
    """Keras 3's arguments, older spellings translated."""
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of its variables in the file's order, by short names: ``kernel``, ``bias``."""
    keras_major: int = 3
    """1, 2 or 3: whose rules hold where they differ."""


@dataclass(frozen=True)
class TfWeight:
    """One variable of a layer, and where the module keeps it."""

    name: str
    """TF's short name: ``kernel``, ``moving_mean``."""
    tensor: Tensor
    """The parameter or buffer, in the module's layout."""
    axes: tuple[int, ...] | None = None
    """``tensor`` is TF's array with its axes permuted so; None where both layouts are one."""
    shape: tuple[int, ...] | None = None
    """TF's shape, where it is another than that of ``tensor`` with its axes in TF's order."""
    trainable: bool = True

    @property
    def tf_shape(self) -> tuple[int, ...]:
        """The shape in TF's layout."""
        return tuple(self.to_tf().shape)

    def to_tf(self) -> Tensor:
        """The values in TF's layout; a view where that is possible."""
        values = self.tensor.detach()
        if self.axes is not None:
            values = values.permute([self.axes.index(axis) for axis in range(len(self.axes))])
        return values if self.shape is None else values.reshape(self.shape)

    def assign(self, array: Tensor) -> None:
        """Copies TF's values in; the shape is the caller's to check."""
        values = array if self.axes is None else array.permute(self.axes)
        with torch.no_grad():
            self.tensor.copy_(values.reshape(self.tensor.shape))


@runtime_checkable
class HasTfWeights(Protocol):
    """A module that carries a Keras layer's variables."""

    def tf_weights(self) -> list[TfWeight]:
        """Its variables in Keras' order: trainable ones first, as the layer makes them."""
        ...


Builder = Callable[[LayerSpec], nn.Module]
"""Makes the module of a layer, untrained; raises :class:`UnsupportedLayerError`."""
