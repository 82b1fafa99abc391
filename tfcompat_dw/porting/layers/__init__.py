"""Keras' layers as PyTorch modules, by what they do; ``BUILDERS`` makes them by their names."""

from tfcompat_dw.porting.layer import Builder
from tfcompat_dw.porting.layers import (
    activation,
    convolution,
    core,
    merging,
    normalization,
    pooling,
    preprocessing,
    regularization,
    reshaping,
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
    **core.BUILDERS,
}
"""By Keras 3's class names."""

__all__ = ["BUILDERS"]
