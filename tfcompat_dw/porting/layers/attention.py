"""Attention: what each position takes from all of another sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.arguments import (
    expect,
    flag,
    number,
    sizes,
    text,
    unsupported,
    weight_shape,
)


class MultiHeadAttention(nn.Module):
    """``keras.layers.MultiHeadAttention`` over one axis of time.

    Attributes:
        query_kernel, key_kernel, value_kernel: ``[c, heads, size]``.
        output_kernel: ``[heads, size, out]``.
        query_bias, key_bias, value_bias, output_bias: ``[heads, size]`` and ``[out]``, or None.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], use_bias: bool, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        for part, shape in shapes.items():
            kernel = nn.Parameter(torch.empty(shape))
            nn.init.normal_(kernel, std=shape[0] ** -0.5)
            sizes = shape[2:] if part == "output" else shape[1:]
            bias = nn.Parameter(torch.zeros(sizes)) if use_bias else None
            self.register_parameter(f"{part}_kernel", kernel)
            self.register_parameter(f"{part}_bias", bias)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        attention_mask: Tensor | None = None,
        use_causal_mask: bool = False,
    ) -> Tensor:
        """``[n, t, out]`` of ``query [n, t, c]`` and ``value [n, s, c]``.

        ``attention_mask``, ``[n, t, s]``, is true where a position may be seen.
        """
        y = F.scaled_dot_product_attention(
            self._projected("query", query),
            self._projected("key", value if key is None else key),
            self._projected("value", value),
            attn_mask=self._mask(query, value, attention_mask, use_causal_mask),
            dropout_p=self.dropout if self.training else 0.0,
        )
        y = torch.einsum("nhtd,hdo->nto", y, self.get_parameter("output_kernel"))
        bias: Tensor | None = self._parameters["output_bias"]
        return y if bias is None else y + bias

    def _projected(self, part: str, x: Tensor) -> Tensor:
        """``[n, heads, t, size]``."""
        y = torch.einsum("ntc,chd->nthd", x, self.get_parameter(f"{part}_kernel"))
        bias: Tensor | None = self._parameters[f"{part}_bias"]
        return (y if bias is None else y + bias).transpose(1, 2)

    @staticmethod
    def _mask(query: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor | None:
        found = None if mask is None else mask.bool()[:, None]
        if is_causal:
            rows = torch.arange(query.shape[1], device=query.device)[:, None]
            past = rows >= torch.arange(value.shape[1], device=query.device)
            found = past if found is None else found & past
        return found

    def tf_weights(self) -> list[TfWeight]:
        """``query/kernel``, ``query/bias``, and so on; the last part is ``attention_output``."""
        found = []
        for part in ("query", "key", "value", "output"):
            name = "attention_output" if part == "output" else part
            for kind in ("kernel", "bias"):
                tensor: Tensor | None = self._parameters[f"{part}_{kind}"]
                found += [] if tensor is None else [TfWeight(f"{name}/{kind}", tensor)]
        return found

    def extra_repr(self) -> str:
        """Channels, heads and their size."""
        inputs, heads, size = self.get_parameter("query_kernel").shape
        rate = f", dropout={self.dropout:g}" if self.dropout else ""
        return f"{inputs}, num_heads={heads}, key_dim={size}{rate}"


class _Attention(nn.Module):
    """Of ``[query, value]`` or ``[query, value, key]``."""

    weight: nn.Parameter | None

    def __init__(self, scale: tuple[int, ...] | None, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = None if scale is None else nn.Parameter(torch.ones(scale))

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """``[n, t, c]`` of ``query [n, t, c]`` and ``value [n, s, c]``."""
        query, value, *rest = tensors
        shares = torch.softmax(self._scores(query, rest[0] if rest else value), -1)
        return torch.bmm(F.dropout(shares, self.dropout, self.training), value)

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        raise NotImplementedError

    def tf_weights(self) -> list[TfWeight]:
        """``scale``."""
        return [] if self.weight is None else [TfWeight("scale", self.weight)]

    def extra_repr(self) -> str:
        """Whether it has a scale."""
        rate = f", dropout={self.dropout:g}" if self.dropout else ""
        return f"use_scale={self.weight is not None}{rate}"


class Attention(_Attention):
    """``keras.layers.Attention``: scores are products of query and key."""

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        scores = torch.bmm(query, key.transpose(1, 2))
        return scores if self.weight is None else scores * self.weight


class AdditiveAttention(_Attention):
    """``keras.layers.AdditiveAttention``: scores are sums of ``tanh(query + key)``."""

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        sums = torch.tanh(query.unsqueeze(2) + key.unsqueeze(1))
        return (sums if self.weight is None else sums * self.weight).sum(-1)


# ---- builders ------------------------------------------------------------------------------------


def _multi_head(spec: LayerSpec) -> nn.Module:
    names = {
        "query": "query/kernel",
        "key": "key/kernel",
        "value": "value/kernel",
        "output": "attention_output/kernel",
    }
    axes = spec.config.get("attention_axes")
    if axes not in (None, 1, [1], (1,)):
        raise unsupported(spec, f"attention_axes={axes!r}")
    shapes = {part: weight_shape(spec, name, rank=3) for part, name in names.items()}
    (heads,), (size,) = sizes(spec, "num_heads", 1), sizes(spec, "key_dim", 1)
    (value_size,) = sizes(spec, "value_dim", 1, size)
    for part, expected in (("query", size), ("key", size), ("value", value_size)):
        expect(names[part], shapes[part][1:], (heads, expected))
    expect(names["output"], shapes["output"][:2], (heads, value_size))
    dropout, use_bias = number(spec, "dropout", 0.0), flag(spec, "use_bias", True)
    return MultiHeadAttention(shapes, use_bias, dropout)


def _attention(spec: LayerSpec) -> nn.Module:
    text(spec, "score_mode", "dot", "dot")
    scale = weight_shape(spec, "scale", rank=0) if flag(spec, "use_scale", False) else None
    return Attention(scale, number(spec, "dropout", 0.0))


def _additive(spec: LayerSpec) -> nn.Module:
    scale = weight_shape(spec, "scale", rank=1) if flag(spec, "use_scale", True) else None
    return AdditiveAttention(scale, number(spec, "dropout", 0.0))


BUILDERS: dict[str, Builder] = {
    "MultiHeadAttention": _multi_head,
    "Attention": _attention,
    "AdditiveAttention": _additive,
}
