"""Recurrent layers: one step of TF's arithmetic after the other, weights in TF's layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.activation import Function, activation_of
from tfcompat_dw.porting.layers.arguments import (
    expect,
    flag,
    inner_spec,
    number,
    refuse,
    refuse_if_set,
    sizes,
    unsupported,
    weight_shape,
)

States = tuple[Tensor, ...]


class _Recurrent(nn.Module):
    """A cell, step by step over ``[n, t, c]``.

    Attributes:
        kernel: ``[c, gates*units]``.
        recurrent_kernel: ``[units, gates*units]``.
        bias: ``[gates*units]``; of a GRU that resets after the product ``[2, 3*units]``; or None.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    kernel: nn.Parameter
    recurrent_kernel: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        kernel: tuple[int, ...],
        bias: tuple[int, ...] | None,
        activation: Function | None,
        recurrent_activation: Function | None,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.units = kernel[1] // self.gates
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards = go_backwards
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.kernel = nn.Parameter(torch.empty(kernel))
        self.recurrent_kernel = nn.Parameter(torch.empty(self.units, kernel[1]))
        self.bias = None if bias is None else nn.Parameter(torch.zeros(bias))
        for weight in (self.kernel, self.recurrent_kernel):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """``[n, units]``, or ``[n, t, units]``; then the last states where they are asked for.

        Raises:
            TypeError: initial states are given.
            RuntimeError: training with recurrent dropout.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"{type(self).__name__} takes no initial states; give it one tensor")
        x = self._dropped(x)
        steps = torch.matmul(x, self.kernel)
        first_bias = self._input_bias()
        steps = steps if first_bias is None else steps + first_bias
        states: States = (x.new_zeros(x.shape[0], self.units),) * self.states
        outputs = []
        for step in reversed(steps.unbind(1)) if self.go_backwards else steps.unbind(1):
            states = self._step(step, states)
            outputs.append(states[0])
        output = torch.stack(outputs, 1) if self.return_sequences else states[0]
        return [output, *states] if self.return_state else output

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self.recurrent_dropout > 0:
            raise RuntimeError(
                f"{type(self).__name__}: training with recurrent_dropout is not ported; set the "
                f"module's recurrent_dropout to 0, or call its eval()"
            )
        if self.dropout == 0:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.dropout)

    def _input_bias(self) -> Tensor | None:
        return self.bias

    def _step(self, x: Tensor, states: States) -> States:
        raise NotImplementedError

    def _act(self, x: Tensor) -> Tensor:
        return x if self.activation is None else self.activation(x)

    def _gate(self, x: Tensor) -> Tensor:
        return x if self.recurrent_activation is None else self.recurrent_activation(x)

    def tf_weights(self) -> list[TfWeight]:
        """``kernel``, ``recurrent_kernel`` and ``bias``."""
        bias = [] if self.bias is None else [TfWeight("bias", self.bias)]
        kernels = (("kernel", self.kernel), ("recurrent_kernel", self.recurrent_kernel))
        return [*(TfWeight(name, tensor) for name, tensor in kernels), *bias]

    def extra_repr(self) -> str:
        """Sizes, then what is not at its default."""
        shown = [f"{self.kernel.shape[0]}, {self.units}"]
        shown += ["use_bias=False"] if self.bias is None else []
        shown += [f"activation={self.activation}"] if str(self.activation) != "tanh" else []
        usual = self.gates == 1 or str(self.recurrent_activation) == "sigmoid"
        shown += [] if usual else [f"recurrent_activation={self.recurrent_activation}"]
        flags = ("return_sequences", "return_state", "go_backwards")
        shown += [f"{name}=True" for name in flags if getattr(self, name)]
        rates = ("dropout", "recurrent_dropout")
        return ", ".join(shown + [f"{n}={getattr(self, n):g}" for n in rates if getattr(self, n)])


class SimpleRNN(_Recurrent):
    """``keras.layers.SimpleRNN``: ``h = activation(x W + h U + b)``."""

    gates = 1

    def _step(self, x: Tensor, states: States) -> States:
        return (self._act(torch.addmm(x, states[0], self.recurrent_kernel)),)


class LSTM(_Recurrent):
    """``keras.layers.LSTM``: the gates in the order input, forget, candidate, output.

    Attributes:
        cell_clip: TFLite's: what the cell's state is cut to; 0 is no limit.
    """

    gates = 4
    states = 2
    cell_clip: float = 0.0

    def _step(self, x: Tensor, states: States) -> States:
        hidden, cell = states
        sums = torch.addmm(x, hidden, self.recurrent_kernel)
        into, forget, candidate, out = sums.chunk(4, 1)
        cell = self._gate(forget) * cell + self._gate(into) * self._act(candidate)
        if self.cell_clip > 0:
            cell = cell.clamp(-self.cell_clip, self.cell_clip)
        return self._gate(out) * self._act(cell), cell

    def extra_repr(self) -> str:
        """As the others, and the limit."""
        limit = f", cell_clip={self.cell_clip:g}" if self.cell_clip > 0 else ""
        return super().extra_repr() + limit


class GRU(_Recurrent):
    """``keras.layers.GRU``: the gates in the order update, reset, candidate."""

    gates = 3
    reset_after: bool = True

    def _input_bias(self) -> Tensor | None:
        return self.bias[0] if self.bias is not None and self.reset_after else self.bias

    def _step(self, x: Tensor, states: States) -> States:
        (hidden,) = states
        x_update, x_reset, x_candidate = x.chunk(3, 1)
        if self.reset_after:
            sums = hidden @ self.recurrent_kernel
            sums = sums if self.bias is None else sums + self.bias[1]
            h_update, h_reset, h_candidate = sums.chunk(3, 1)
            reset = self._gate(x_reset + h_reset)
            candidate = self._act(x_candidate + reset * h_candidate)
        else:
            gates, last = self.recurrent_kernel.split([2 * self.units, self.units], 1)
            h_update, h_reset = (hidden @ gates).chunk(2, 1)
            reset = self._gate(x_reset + h_reset)
            candidate = self._act(torch.addmm(x_candidate, reset * hidden, last))
        update = self._gate(x_update + h_update)
        return (update * hidden + (1 - update) * candidate,)

    def extra_repr(self) -> str:
        """As the others, and where it resets."""
        return super().extra_repr() + ", reset_after=False" * (not self.reset_after)


class Bidirectional(nn.Module):
    """``keras.layers.Bidirectional``: a layer forwards and one backwards, merged."""

    def __init__(
        self, forward_layer: _Recurrent, backward_layer: _Recurrent, merge_mode: str | None
    ) -> None:
        super().__init__()
        self.forward_layer, self.backward_layer = forward_layer, backward_layer
        self.merge_mode = merge_mode

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Both see every step; outputs of a step belong together."""
        one, other = self.forward_layer(x), self.backward_layer(x)
        if self.forward_layer.return_sequences:
            other = other.flip(1)
        return _MERGES[self.merge_mode](one, other)

    def tf_weights(self) -> list[TfWeight]:
        """Those of both, as ``forward_layer/kernel``."""
        return [
            replace(weight, name=f"{name}/{weight.name}")
            for name in ("forward_layer", "backward_layer")
            for weight in getattr(self, name).tf_weights()
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.forward_layer!r}, merge_mode={self.merge_mode!r})"


def _concatenated(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([one, other], -1)


def _sum(one: Tensor, other: Tensor) -> Tensor:
    return one + other


def _product(one: Tensor, other: Tensor) -> Tensor:
    return one * other


def _average(one: Tensor, other: Tensor) -> Tensor:
    return (one + other) / 2


def _both(one: Tensor, other: Tensor) -> list[Tensor]:
    return [one, other]


_MERGES: dict[str | None, Callable[[Tensor, Tensor], Tensor | list[Tensor]]] = {
    "concat": _concatenated,
    "sum": _sum,
    "mul": _product,
    "ave": _average,
    None: _both,
}

# ---- builders ------------------------------------------------------------------------------------


def _recurrent(module: type[_Recurrent]) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        refuse_if_set(spec, "stateful", "time_major")
        kernel = weight_shape(spec, "kernel", rank=2)
        units = kernel[1] // module.gates
        if spec.config.get("units") is not None:
            expect("number of units", (units,), sizes(spec, "units", 1))
        found = weight_shape(spec, "recurrent_kernel", rank=2)
        expect("recurrent_kernel", found, (units, module.gates * units))
        bias = weight_shape(spec, "bias") if flag(spec, "use_bias", True) else None
        layer = module(
            kernel,
            bias,
            _function(spec, "activation", "tanh"),
            _function(spec, "recurrent_activation", _usual_gate(spec)),
            return_sequences=flag(spec, "return_sequences", False),
            return_state=flag(spec, "return_state", False),
            go_backwards=flag(spec, "go_backwards", False),
            dropout=number(spec, "dropout", 0.0),
            recurrent_dropout=number(spec, "recurrent_dropout", 0.0),
        )
        if isinstance(layer, LSTM):
            layer.cell_clip = number(spec, "cell_clip", 0.0)
        after = isinstance(layer, GRU) and _resets_after(spec, bias)
        if isinstance(layer, GRU):
            layer.reset_after = after
        if bias is not None:
            expect("bias", bias, (2, kernel[1]) if after else (kernel[1],))
        return layer

    return build


def _function(spec: LayerSpec, key: str, default: str) -> Function | None:
    if key in spec.config:
        return activation_of(spec, key)
    return activation_of(replace(spec, config={key: default}), key)


def _usual_gate(spec: LayerSpec) -> str:
    """Of files that do not say it, which Keras 1 wrote."""
    return "hard_sigmoid" if spec.keras_major == 1 else "sigmoid"


def _resets_after(spec: LayerSpec, bias: Sequence[int] | None) -> bool:
    """Older files do not say it; the bias does."""
    usual = spec.keras_major == 3 if bias is None else len(bias) == 2
    return flag(spec, "reset_after", usual)


def _bidirectional(spec: LayerSpec) -> nn.Module:
    merge_mode = spec.config.get("merge_mode", "concat")
    if not isinstance(merge_mode, (str, type(None))) or merge_mode not in _MERGES:
        raise refuse(f"merge_mode={merge_mode!r}, where one of {list(_MERGES)} is expected")
    layers = [_direction(spec, key) for key in ("forward_layer", "backward_layer")]
    one, other = layers
    if one.return_state or other.return_state:
        raise unsupported(spec, "return_state=True")
    if one.go_backwards or one.return_sequences != other.return_sequences:
        raise unsupported(spec, "a forward_layer that goes backwards, or returns something else")
    if not other.go_backwards:
        raise refuse("its backward_layer does not go backwards")
    return Bidirectional(one, other, merge_mode)


def _direction(spec: LayerSpec, key: str) -> _Recurrent:
    """The backward layer is described, or like the forward one the other way round."""
    weights = {
        name.partition("/")[2]: shape
        for name, shape in spec.weights.items()
        if name.startswith(f"{key}/")
    }
    is_described = key == "backward_layer" and spec.config.get(key) is not None
    inner = inner_spec(spec, "backward_layer" if is_described else "layer", weights)
    if inner.class_name not in _LAYERS:
        raise unsupported(spec, f"a {inner.class_name} in it")
    if key == "backward_layer" and not is_described:
        backwards = not flag(inner, "go_backwards", False)
        inner = replace(inner, config={**inner.config, "go_backwards": backwards})
    layer = _LAYERS[inner.class_name](inner)
    assert isinstance(layer, _Recurrent)
    return layer


_LAYERS: dict[str, Builder] = {
    "SimpleRNN": _recurrent(SimpleRNN),
    "LSTM": _recurrent(LSTM),
    "GRU": _recurrent(GRU),
}
BUILDERS: dict[str, Builder] = {**_LAYERS, "Bidirectional": _bidirectional}
