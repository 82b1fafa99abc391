"""Layers of no other kind, and wrappers of layers."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.layer import (
    Builder,
    HasTfWeights,
    LayerSpec,
    TfWeight,
    UnsupportedLayerError,
)
from tfcompat_dw.porting.layers.activation import Function, activation_of
from tfcompat_dw.porting.layers.arguments import (
    inner_spec,
    refuse,
    refuse_if_set,
    unsupported,
    weight_shape,
)


class Embedding(nn.Embedding):
    """``keras.layers.Embedding``: ``[...]`` of indices to ``[..., c]``."""

    def forward(self, input: Tensor) -> Tensor:
        """Numbers are cut to integers, as in TF."""
        return super().forward(input.long())

    def tf_weights(self) -> list[TfWeight]:
        """``embeddings``."""
        return [TfWeight("embeddings", self.weight)]


class EinsumDense(nn.Module):
    """``keras.layers.EinsumDense``: the product that an equation describes.

    Attributes:
        weight, bias: in TF's layout.
    """

    def __init__(
        self,
        equation: str,
        shape: tuple[int, ...],
        bias_shape: tuple[int, ...] | None,
        activation: Function | None,
    ) -> None:
        super().__init__()
        self.equation, self.activation = equation, activation
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = None if bias_shape is None else nn.Parameter(torch.zeros(bias_shape))
        nn.init.normal_(self.weight, std=shape[0] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """The input's axes are the equation's."""
        y = torch.einsum(self.equation, x, self.weight)
        y = y if self.bias is None else y + self.bias
        return y if self.activation is None else self.activation(y)

    def tf_weights(self) -> list[TfWeight]:
        """``kernel`` and ``bias``."""
        bias = [] if self.bias is None else [TfWeight("bias", self.bias)]
        return [TfWeight("kernel", self.weight), *bias]

    def extra_repr(self) -> str:
        """The equation and the kernel's shape."""
        shown = [f"{self.equation!r}, {tuple(self.weight.shape)}"]
        shown += ["use_bias=False"] if self.bias is None else []
        return ", ".join(shown + ([f"activation={self.activation}"] if self.activation else []))


class LayerScale(nn.Module):
    """ConvNeXt's: a learned factor for each channel."""

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
    """``keras.layers.TimeDistributed``: a layer for each step of a sequence.

    Keras 3 normalizes batches step by step in training, Keras 2 all steps together; a
    BatchNormalization within it does so here.
    """

    def __init__(self, layer: nn.Module, step_by_step: bool) -> None:
        super().__init__()
        self.layer, self.step_by_step = layer, step_by_step

    def forward(self, x: Tensor) -> Tensor:
        """``[n, t, ...]`` in and out."""
        if self.training and self.step_by_step:
            steps: list[Tensor] = [self.layer(step) for step in x.unbind(1)]
            return torch.stack(steps, 1)
        y: Tensor = self.layer(x.flatten(0, 1))
        return y.reshape(x.shape[0], x.shape[1], *y.shape[1:])

    def tf_weights(self) -> list[TfWeight]:
        """The layer's."""
        return self.layer.tf_weights() if isinstance(self.layer, HasTfWeights) else []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layer!r})"


# ---- builders ------------------------------------------------------------------------------------


def _embedding(spec: LayerSpec) -> nn.Module:
    refuse_if_set(spec, "mask_zero", "lora_rank", "quantization_mode")
    count, channels = weight_shape(spec, "embeddings", rank=2)
    return Embedding(count, channels)


def _einsum_dense(spec: LayerSpec) -> nn.Module:
    refuse_if_set(spec, "lora_rank", "quantization_mode")
    equation = spec.config.get("equation")
    pattern = r"(\.\.\.)?[a-zA-Z]+(\.\.\.)?,[a-zA-Z]+->(\.\.\.)?[a-zA-Z]+(\.\.\.)?"
    if not isinstance(equation, str) or not re.fullmatch(pattern, equation.replace(" ", "")):
        raise refuse(f"equation={equation!r}, where one like 'abc,cd->abd' is expected")
    equation = equation.replace(" ", "")
    shape = weight_shape(spec, "kernel", rank=len(equation.partition(",")[2].partition("-")[0]))
    bias = weight_shape(spec, "bias") if spec.config.get("bias_axes") else None
    return EinsumDense(equation, shape, bias, activation_of(spec))


def _layer_scale(spec: LayerSpec) -> nn.Module:
    return LayerScale(weight_shape(spec, "gamma", rank=1)[0])


def _time_distributed(spec: LayerSpec) -> nn.Module:
    from tfcompat_dw.porting.layers import BUILDERS as ALL

    inner = inner_spec(spec, "layer", spec.weights)
    if inner.class_name not in ALL:
        raise unsupported(spec, f"a {inner.class_name} in it")
    layer = ALL[inner.class_name](inner)
    norms = [one for one in layer.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    return TimeDistributed(layer, step_by_step=bool(norms) and spec.keras_major == 3)


def _lambda(spec: LayerSpec) -> nn.Module:
    raise UnsupportedLayerError(
        f"the Python code of Lambda layer {spec.name!r} is never run; say what it computes: "
        f"port_model(..., layers={{'Lambda': lambda spec: YourModule()}}), with spec.name to tell "
        f"several apart"
    )


def _masking(spec: LayerSpec) -> nn.Module:
    raise unsupported(spec, "a mask that other layers are to heed")


def _nothing(spec: LayerSpec) -> nn.Module:
    return nn.Identity()


BUILDERS: dict[str, Builder] = {
    "InputLayer": _nothing,
    "Identity": _nothing,
    "ActivityRegularization": _nothing,  # it adds to the loss; the values stay
    "Embedding": _embedding,
    "EinsumDense": _einsum_dense,
    "LayerScale": _layer_scale,
    "TimeDistributed": _time_distributed,
    "Masking": _masking,
    "Lambda": _lambda,
}
