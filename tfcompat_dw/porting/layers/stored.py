"""Tensors of a graph that are no layer's: tables, windows, matrices of a front end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.arguments import flag, refuse, weight_shape


class StoredTensor(nn.Module):
    """A tensor that the network holds: a parameter if it is trained, else a buffer."""

    value: Tensor

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, trainable: bool) -> None:
        super().__init__()
        value = torch.zeros(shape, dtype=dtype)
        if trainable:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value)

    def forward(self) -> Tensor:
        """The tensor itself."""
        return self.value

    def tf_weights(self) -> list[TfWeight]:
        """``value``."""
        return [TfWeight("value", self.value, trainable=isinstance(self.value, nn.Parameter))]

    def extra_repr(self) -> str:
        """Shape and type."""
        kind = str(self.value.dtype).removeprefix("torch.")
        trained = "" if isinstance(self.value, nn.Parameter) else ", constant"
        return f"{tuple(self.value.shape)}, {kind}{trained}"


def _stored(spec: LayerSpec) -> nn.Module:
    name = spec.config.get("dtype")
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise refuse(f"dtype={name!r}, which is none of PyTorch's")
    trainable = flag(spec, "trainable", False)
    if dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    elif trainable:
        raise refuse(f"a trained tensor of type {name}")
    return StoredTensor(weight_shape(spec, "value", empty=True), dtype, trainable)


BUILDERS: dict[str, Builder] = {"StoredTensor": _stored}
