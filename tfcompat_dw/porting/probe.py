"""Shapes of a network's tensors, found by running it on tensors without memory.

Twice, with other sizes wherever the file leaves a size open: what is the same in both runs does not
depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.layer import PortError, UnsupportedLayerError

Shape = tuple[int | None, ...]
MOST_ELEMENTS = 2**31
"""Of one tensor, with the small inputs that are tried here."""
BATCHES = (2, 3)
IMAGE_SIZES = ((224, 1312), (256, 384), (64, 96), (513, 1281))
"""Pairs for open rows and columns, far apart: what is one pixel in both is held for one always."""
LENGTHS = ((48_000, 640_000), (64, 480), (15_600, 156_000))
"""Pairs for other open sizes: sound, words."""


@dataclass(frozen=True)
class Probe:
    """The same tensor in both runs, on PyTorch's device ``meta``."""

    runs: tuple[Tensor, Tensor]

    @property
    def shape(self) -> Shape | None:
        """None for sizes that differ; None itself where not even the rank is the same."""
        one, other = self.runs
        if one.dim() != other.dim():
            return None
        return tuple(n if n == m else None for n, m in zip(one.shape, other.shape, strict=True))


class ShapesUnknownError(Exception):
    """The shape of a result depends on values."""


def probe_of(
    dtype: torch.dtype, shape: Sequence[int | None], sizes: tuple[int, int], frees_batch: bool
) -> Probe:
    """Tensors of an input's shape, its open sizes filled in; floats as networks compute them."""
    if dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    found = []
    for run in (0, 1):
        filled = [sizes[run] + 32 * place if n is None else n for place, n in enumerate(shape)]
        if shape and (shape[0] is None or frees_batch):
            filled[0] = BATCHES[run] if len(shape) > 1 else sizes[run]
        if prod(filled) > MOST_ELEMENTS:
            raise PortError(f"an input of shape {tuple(shape)} is larger than any is")
        found.append(torch.empty(filled, dtype=dtype, device="meta"))
    return Probe((found[0], found[1]))


def results(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """What a module makes of probes among its arguments, in both runs.

    Raises:
        ShapesUnknownError: the shapes depend on values.
        UnsupportedLayerError: the module does not take these, or makes far too much of them.
    """
    state = {
        name: value.to("meta")
        for name, value in (*module.named_parameters(), *module.named_buffers())
    }
    return [
        _result(module, state, _chosen(list(args), run), _chosen(dict(kwargs), run))
        for run in (0, 1)
    ]


def result(module: nn.Module, tensors: Sequence[Tensor]) -> Any:
    """What a module makes of tensors; what goes wrong is an error of the port.

    Raises:
        UnsupportedLayerError: the module does not take these, or makes far too much of them.
    """
    try:
        return _result(module, {}, list(tensors), {})
    except ShapesUnknownError as error:  # PyTorch has no such function of their type
        reason = str(error.__cause__).strip().partition("\n")[0]
        raise UnsupportedLayerError(f"it does not fit what it is given ({reason})") from error


def _result(module: nn.Module, state: Mapping[str, Tensor], args: Any, kwargs: Any) -> Any:
    try:
        with torch.no_grad():
            result = torch.func.functional_call(module, dict(state), tuple(args), kwargs)
    except (NotImplementedError, torch._subclasses.fake_tensor.DataDependentOutputException) as e:
        raise ShapesUnknownError from e
    except UnsupportedLayerError:
        raise
    except Exception as error:
        if "meta tensor" in str(error) or "on meta" in str(error):
            raise ShapesUnknownError from error
        reason = str(error).strip().partition("\n")[0]
        raise UnsupportedLayerError(f"it does not fit what it is given ({reason})") from error
    for tensor in result if isinstance(result, (list, tuple)) else [result]:
        if isinstance(tensor, Tensor) and tensor.numel() > MOST_ELEMENTS:
            raise UnsupportedLayerError(f"it makes a tensor of shape {tuple(tensor.shape)}")
    return result


def _chosen(structure: Any, run: int) -> Any:
    """One run's tensors in the place of probes."""
    if isinstance(structure, Probe):
        return structure.runs[run]
    if isinstance(structure, (list, tuple)):
        return type(structure)(_chosen(one, run) for one in structure)
    if isinstance(structure, dict):
        return {key: _chosen(value, run) for key, value in structure.items()}
    return structure
