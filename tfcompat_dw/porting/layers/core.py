"""Layers of no other kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, HasTfWeights, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.arguments import flag, inner_spec, refuse, weight_shape


class Embedding(nn.Embedding):
    """``[...]`` of indices to ``[..., c]``."""

    def forward(self, input: Tensor) -> Tensor:
        """Numbers are cut to integers, as in TF."""
        return super().forward(input.long())

    def tf_weights(self) -> list[TfWeight]:
        """``embeddings``."""
        return [TfWeight("embeddings", self.weight)]


class LayerScale(nn.Module):
    """ConvNeXt's: a factor for each channel, which is learned."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        return x * self.weight

    def tf_weights(self) -> list[TfWeight]:
        """``gamma``."""
        return [TfWeight("gamma", self.weight)]

    def extra_repr(self) -> str:
        """The channels."""
        return f"{self.weight.numel()}"


class TimeDistributed(nn.Module):
    """A layer for each step of a sequence."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """``[n, t, ...]`` in and out."""
        y: Tensor = self.layer(x.flatten(0, 1))
        return y.reshape(x.shape[0], x.shape[1], *y.shape[1:])

    def tf_weights(self) -> list[TfWeight]:
        """The layer's."""
        return self.layer.tf_weights() if isinstance(self.layer, HasTfWeights) else []


def _embedding(spec: LayerSpec) -> nn.Module:
    if flag(spec, "mask_zero", False):
        raise refuse("mask_zero=True; masks are not carried over")
    count, channels = weight_shape(spec, "embeddings", rank=2)
    return Embedding(count, channels)


def _layer_scale(spec: LayerSpec) -> nn.Module:
    return LayerScale(weight_shape(spec, "gamma", rank=1)[0])


def _time_distributed(spec: LayerSpec) -> nn.Module:
    from tfcompat_dw.porting.layers import BUILDERS as ALL

    inner = inner_spec(spec)
    if inner.class_name not in ALL:
        raise refuse(f"a layer {inner.class_name} within it, which is not ported")
    return TimeDistributed(ALL[inner.class_name](inner))


def _lambda(spec: LayerSpec) -> nn.Module:
    raise refuse(
        "its Python code is never run; say what it computes: "
        "port_model(..., layers={'Lambda': lambda spec: YourModule()})"
    )


def _nothing(spec: LayerSpec) -> nn.Module:
    return nn.Identity()


BUILDERS: dict[str, Builder] = {
    "InputLayer": _nothing,
    "Identity": _nothing,
    "Embedding": _embedding,
    "LayerScale": _layer_scale,
    "TimeDistributed": _time_distributed,
    "Lambda": _lambda,
}
