"""Whether a network that a file fixes to one example takes several: tried on two.

What a graph does with the axis of its batch is not always told by shapes: a mean over it, a table
of all examples' rows that one example's index points into.  So two random examples go through the
network together and one by one, and every layer's results are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tfcompat_dw.porting.model import PortedModel

MOST_FLOPS, MOST_NUMBERS = 2 * 10**11, 2**27
"""Of the trial, seconds and a gigabyte; a larger network keeps its batch of one."""
CLOSE = 1e-3
"""Of the largest number: sums of another order; where examples are mixed, numbers are others."""
MOST_APART = 0.01
"""Of a result's numbers: one at the edge of a rounding falls to either side."""
SMALL = 8
"""Integers below it are indices that most tables have."""


def mixes_examples(model: PortedModel, inputs: Sequence[Tensor]) -> bool:
    """Whether examples of a batch change each other's results, as far as two examples tell.

    Args:
        model: in evaluation mode.
        inputs: tensors without memory, two examples in each.

    Returns:
        True also for a network that is too large to be tried.
    """
    if not _is_small(model, inputs):
        return True
    random = torch.Generator().manual_seed(0)
    both = [_drawn(one, random) for one in inputs]
    with torch.no_grad():
        try:
            together = model.layer_outputs(*both)
            first, second = (
                model.layer_outputs(*(one[n : n + 1] for one in both)) for n in range(2)
            )
        except (RuntimeError, IndexError):  # such as an index that a table does not have
            return True
        return not all(_agree(together[name], first[name], second[name]) for name in together)


def _is_small(model: PortedModel, inputs: Sequence[Tensor]) -> bool:
    from torch.utils.flop_counter import FlopCounterMode

    tensors = (*model.named_parameters(), *model.named_buffers())
    state = {name: one.to("meta") for name, one in tensors}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        outputs = torch.func.functional_call(_Layers(model), _within(state), tuple(inputs))
    numbers = sum(one.numel() for one in outputs.values())
    return counter.get_total_flops() <= MOST_FLOPS and numbers <= MOST_NUMBERS


class _Layers(torch.nn.Module):
    """A network whose result is that of all of its layers."""

    def __init__(self, model: PortedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        return self.model.layer_outputs(*inputs)


def _within(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": one for name, one in state.items()}


def _drawn(like: Tensor, random: torch.Generator) -> Tensor:
    """Numbers from -1 to 1, bytes, flags or small integers."""
    if like.is_floating_point():
        return (torch.rand(like.shape, generator=random) * 2 - 1).to(like.dtype)
    high = {torch.bool: 2, torch.uint8: 256}.get(like.dtype, SMALL)
    return torch.randint(high, like.shape, generator=random).to(like.dtype)


def _agree(together: Tensor, first: Tensor, second: Tensor) -> bool:
    """Whether both examples have in the batch what each has alone."""
    if together.shape == first.shape == second.shape:  # no batch: the same for all
        return _close(together, first) and _close(together, second)
    if together.dim() and first.shape[1:] == second.shape[1:] == together.shape[1:]:
        expected = torch.cat([first, second])
        return expected.shape != together.shape or _close(together, expected)
    return True  # the batch is another axis: what comes out at the end is looked at


def _close(one: Tensor, other: Tensor) -> bool:
    if not one.numel():
        return True
    if one.is_floating_point() or one.is_complex():
        size = other.abs()
        limit = CLOSE * float(size[size.isfinite()].max()) if size.isfinite().any() else 0.0
        apart = ~torch.isclose(one, other, rtol=0.0, atol=limit, equal_nan=True)
    else:
        apart = one != other
    return float(apart.float().mean()) <= MOST_APART
