"""The types of numbers that a graph computes with sizes: they are tensors in the end, or may be."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tfcompat_dw.checkpoint.graph import GraphNode
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import DTYPES, torch_dtype

_SAYS = {
    "Shape": "out_type", "Size": "out_type", "Rank": "out_type", "Cast": "DstT", "Range": "Tidx",
    "Gather": "Tparams", "GatherV2": "Tparams", "ArgMax": "output_type", "ArgMin": "output_type",
}  # fmt: skip
"""The attributes that say what comes out, where that is not ``T``."""
_OF_SHAPES = ("Shape", "Size", "Rank")
"""What they take has another type."""


def type_of_sizes(node: GraphNode, sizes: NDArray[Any], before: str | None) -> str:
    """TensorFlow's name of the type of what a node makes.

    Args:
        node: what makes them.
        sizes: numbers and formulas.
        before: the type of the sizes that it takes: its own, where it does not say another
            (TFLite's operators do not).
    """
    if any(isinstance(one, bool) for one in sizes.flat):
        return "bool"
    said = node.attributes.get(_SAYS.get(node.op, "T"))
    if not isinstance(said, str) or said not in DTYPES:
        said = None
    kind = said or (None if node.op in _OF_SHAPES else before) or "int32"
    has_fractions = any(isinstance(one, float) for one in sizes.flat)
    return "float32" if has_fractions and not kind.startswith("float") else kind


def tensor_of_sizes(sizes: NDArray[Any], kind: str) -> Tensor:
    """Numbers without formulas among them; integers that are too large wrap around.

    Raises:
        UnsupportedLayerError: they are no numbers of this type.
    """
    dtype = torch_dtype(kind)
    wide = torch.int64 if kind.startswith(("int", "uint")) else dtype
    try:
        return torch.tensor(sizes.tolist(), dtype=wide).to(dtype).reshape(sizes.shape)
    except (RuntimeError, OverflowError, TypeError) as error:
        raise UnsupportedLayerError(f"it makes numbers that are no {kind} ({error})") from error
