"""What Keras' functions and TensorFlow's operations are in PyTorch, by name.

Wherever one takes a tensor it also takes a number, or nested lists of numbers: sizes that a graph
computes with come as such.  All of them work on PyTorch's device ``meta``, except those whose
results' shapes depend on values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfcompat_dw.porting.functions import (
    arranging,
    detection,
    elementwise,
    image,
    keras,
    linear,
    making,
    quantization,
    reduction,
    signal,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **keras.FUNCTIONS,
    **elementwise.FUNCTIONS,
    **reduction.FUNCTIONS,
    **arranging.FUNCTIONS,
    **image.FUNCTIONS,
    **linear.FUNCTIONS,
    **making.FUNCTIONS,
    **signal.FUNCTIONS,
    **detection.FUNCTIONS,
    **quantization.FUNCTIONS,
}
SEVERAL_RESULTS = frozenset(
    {"split", "split_sizes", "split_evenly", "unstack", "top_k",
     "max_pool_with_argmax", "fused_batch_norm", "non_max_suppression", "tensors", "unique",
     "detections"}
)  # fmt: skip
"""Functions whose result is a list of tensors."""
