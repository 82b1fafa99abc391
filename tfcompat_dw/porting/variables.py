"""Which variables Keras' own layers have, in Keras' order, and where its files put them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Config = Mapping[str, Any]
WRAPPER_DEPTH = 4


@dataclass(frozen=True)
class Variable:
    """One variable of a layer."""

    name: str
    """Keras 3's short name."""
    trainable: bool = True
    holder: str = ""
    """In a ``.keras`` file: the sublayer's attribute, a leading ``_`` left out."""


def variables_of(class_name: str, config: Config, depth: int = 0) -> list[Variable] | None:
    """A layer's variables, trainable ones first; None for a class that is not known here."""
    if depth > WRAPPER_DEPTH:
        return None
    if class_name in _WRAPPERS:
        return _WRAPPERS[class_name](config, depth + 1)
    make = _LAYERS.get(class_name)
    return None if make is None else make(config)


def _names(*names: str) -> list[Variable]:
    return [Variable(name) for name in names]


def _flag(config: Config, name: str, default: bool = True) -> bool:
    return bool(config.get(name, default))


def _kernels(*kernels: str) -> Callable[[Config], list[Variable]]:
    """Kernels, and a bias unless the layer has none."""

    def variables(config: Config) -> list[Variable]:
        return _names(*kernels, *(["bias"] if _flag(config, "use_bias") else []))

    return variables


def _scale_and_center(config: Config) -> list[Variable]:
    if config.get("rms_scaling") is True:
        return _names("gamma")
    flags = {"gamma": "scale", "beta": "center"}
    return _names(*(name for name, flag in flags.items() if _flag(config, flag)))


def _batch_normalization(config: Config) -> list[Variable]:
    moving = ("moving_mean", "moving_variance")
    return [*_scale_and_center(config), *(Variable(name, trainable=False) for name in moving)]


def _normalization(config: Config) -> list[Variable]:
    if config.get("mean") is not None:
        return []
    return [Variable(name, trainable=False) for name in ("mean", "variance", "count")]


def _einsum_dense(config: Config) -> list[Variable]:
    return _names("kernel", *(["bias"] if config.get("bias_axes") else []))


def _attention(config: Config) -> list[Variable]:
    scale = ["scale"] if _flag(config, "use_scale", False) else []
    return _names(
        *scale, *(["concat_score_weight"] if config.get("score_mode") == "concat" else [])
    )


def _additive_attention(config: Config) -> list[Variable]:
    return _names(*(["scale"] if _flag(config, "use_scale") else []))


def _recurrent(config: Config) -> list[Variable]:
    found = _kernels("kernel", "recurrent_kernel")(config)
    return [replace(variable, holder="cell") for variable in found]


def _multi_head_attention(config: Config) -> list[Variable]:
    bias = ["bias"] if _flag(config, "use_bias") else []
    holders = {
        "query": "query_dense",
        "key": "key_dense",
        "value": "value_dense",
        "attention_output": "output_dense",
    }
    return [
        Variable(f"{part}/{name}", holder=holder)
        for part, holder in holders.items()
        for name in ("kernel", *bias)
    ]


def _nothing(config: Config) -> list[Variable]:
    return []


_LAYERS: dict[str, Callable[[Config], list[Variable]]] = {
    **dict.fromkeys(
        (
            "Dense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose",
            "Conv3DTranspose", "DepthwiseConv1D", "DepthwiseConv2D", "LocallyConnected1D",
            "LocallyConnected2D",
        ),
        _kernels("kernel"),
    ),
    **dict.fromkeys(
        ("SeparableConv1D", "SeparableConv2D"), _kernels("depthwise_kernel", "pointwise_kernel")
    ),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D"), _recurrent),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization"), _scale_and_center),
    "BatchNormalization": _batch_normalization,
    "Normalization": _normalization,
    "RMSNormalization": lambda config: _names("scale"),
    "LayerScale": lambda config: _names("gamma"),
    "PReLU": lambda config: _names("alpha"),
    "Embedding": lambda config: _names("embeddings"),
    "EinsumDense": _einsum_dense,
    "Attention": _attention,
    "AdditiveAttention": _additive_attention,
    "MultiHeadAttention": _multi_head_attention,
    "Dropout": _nothing,
}  # fmt: skip


def _inner(config: Config, key: str, depth: int) -> list[Variable] | None:
    """Of the layer in a wrapper's config."""
    layer = config.get(key)
    if not isinstance(layer, Mapping) or not isinstance(layer.get("config"), Mapping):
        return None
    return variables_of(str(layer.get("class_name")), layer["config"], depth)


def _held(variables: Sequence[Variable], holder: str, prefix: str = "") -> list[Variable]:
    return [
        replace(
            variable,
            name=prefix + variable.name,
            holder="/".join(part for part in (holder, variable.holder) if part),
        )
        for variable in variables
    ]


def _time_distributed(config: Config, depth: int) -> list[Variable] | None:
    inner = _inner(config, "layer", depth)
    return None if inner is None else _held(inner, "layer")


def _bidirectional(config: Config, depth: int) -> list[Variable] | None:
    forward = _inner(config, "layer", depth)
    backward = _inner(config, "backward_layer", depth) or forward
    if forward is None or backward is None:
        return None
    return [
        *_held(forward, "forward_layer", "forward_layer/"),
        *_held(backward, "backward_layer", "backward_layer/"),
    ]


_WRAPPERS: dict[str, Callable[[Config, int], list[Variable] | None]] = {
    "TimeDistributed": _time_distributed,
    "Bidirectional": _bidirectional,
}
