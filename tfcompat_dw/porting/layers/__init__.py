"""Keras' layers as PyTorch modules, by what they do; ``BUILDERS`` makes them by their names."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers import (
    activation,
    attention,
    convolution,
    core,
    merging,
    normalization,
    pooling,
    preprocessing,
    recurrent,
    regularization,
    reshaping,
    stored,
)

BUILDERS: dict[str, Builder] = {
    **convolution.BUILDERS,
    **normalization.BUILDERS,
    **activation.BUILDERS,
    **pooling.BUILDERS,
    **reshaping.BUILDERS,
    **merging.BUILDERS,
    **regularization.BUILDERS,
    **preprocessing.BUILDERS,
    **recurrent.BUILDERS,
    **attention.BUILDERS,
    **core.BUILDERS,
    **stored.BUILDERS,
}
"""By Keras 3's class names; ``StoredTensor`` is a graph's own."""


def build(
    class_name: str,
    config: Mapping[str, Any],
    weights: Mapping[str, tuple[int, ...]] | None = None,
    keras: int = 3,
) -> nn.Module:
    """A layer, untrained: what the modules that ``tfcompat-dw port`` writes call.

    Args:
        class_name: Keras 3's.
        config: Keras 3's arguments.
        weights: shapes of its variables by their short names.
        keras: whose rules hold where they differ, 1, 2 or 3.

    Raises:
        UnsupportedLayerError: an argument that the module does not serve.
    """
    return BUILDERS[class_name](LayerSpec(class_name, "", config, weights or {}, keras))


__all__ = ["BUILDERS", "build"]
