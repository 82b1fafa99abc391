"""``tf.map_fn``: a network that is run for one element of a batch after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.model import PortedModel


class MapFn(nn.Module):
    """Runs ``body`` for each element of its first inputs and stacks the results.

    Args:
        body: what is run; it takes one element of each of the first inputs, and the others whole.
        mapped: how many inputs are taken apart along their first axis.
    """

    def __init__(self, body: PortedModel, mapped: int) -> None:
        super().__init__()
        self.body, self.mapped = body, mapped

    def forward(self, *tensors: Tensor) -> list[Any]:
        """One tensor for each of the body's results, elements along the first axis."""
        elements, others = tensors[: self.mapped], tensors[self.mapped :]
        results = [
            _in_order(self.body(*(one[place] for one in elements), *others))
            for place in range(elements[0].shape[0])
        ]
        if not results:
            raise ValueError("a map over no elements: the shape of its results is not known")
        return [torch.stack(column) for column in zip(*results, strict=True)]

    def extra_repr(self) -> str:
        """How many inputs are taken apart."""
        return f"mapped={self.mapped}"


def _in_order(found: Any) -> list[Any]:
    """What a body gives; the names of several are numbers as text, which do not sort as numbers."""
    return list(found.values()) if isinstance(found, Mapping) else [found]
