"""TFLite's operators that go from step to step, as Keras' layers.

``tensorflow/lite/kernels/unidirectional_sequence_lstm.cc`` and ``..._rnn.cc``.  What they keep from
one call to the next is zero here: every call is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tfcompat_dw.checkpoint.graph import GraphNode, Output
from tfcompat_dw.checkpoint.tflite import MISSING
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.lowering import Lower, Lowering
from tfcompat_dw.porting.nodes.weights import RECURRENT

ACTIVATIONS = {"NONE": "linear", "RELU": "relu", "RELU6": "relu6", "TANH": "tanh"}


def _sequence_lstm(to: Lowering, node: GraphNode) -> None:
    """Gates are the input's, the forgetting one, the candidate, the output's."""
    x, *rest = [*node.inputs, *[MISSING] * (24 - len(node.inputs))]
    inputs, hidden, peepholes, biases = rest[:4], rest[4:8], rest[8:11], rest[11:15]
    for name, others in (
        ("peepholes", peepholes),
        ("a projection", rest[15:17]),
        ("layer normalizations", rest[19:]),
    ):
        if any(one != MISSING for one in others):
            raise UnsupportedLayerError(f"it has {name}")
    _check_states(to, rest[17:19])
    if inputs[0] == MISSING:  # what is not forgotten is taken in: 1 - sigmoid(x) = sigmoid(-x)
        for gates in (inputs, hidden, biases):
            gates[0] = to.emit(node, "Neg", (gates[1],))
    weights = [_joined(to, node, [_turned(to, node, one) for one in gates])
               for gates in (inputs, hidden)]  # fmt: skip
    bias = to.emit(node, "ConcatV2", (*biases, to.constant(node, 0)), {"N": 4})
    config = {"cell_clip": node.attributes["cell_clip"], "recurrent_activation": "sigmoid"}
    _finish(to, node, "LSTM", [x, *weights, bias], config)


def _sequence_rnn(to: Lowering, node: GraphNode) -> None:
    x, kernel, hidden, bias, state = node.inputs
    _check_states(to, [state])
    weights = [_turned(to, node, one) for one in (kernel, hidden)]
    _finish(to, node, "SimpleRNN", [x, *weights, bias], {})


def _finish(
    to: Lowering, node: GraphNode, layer: str, inputs: Sequence[Output], config: dict[str, Any]
) -> None:
    kind = node.attributes["fused_activation_function"]
    if kind not in ACTIVATIONS or (kind == "NONE" and layer == "LSTM"):  # which TFLite leaves open
        raise UnsupportedLayerError(f"its activation is {kind}")
    config = {**config, "activation": ACTIVATIONS[kind], "return_sequences": True}
    given = {"layer": layer, "config": config}
    plain = replace(node, attributes={})  # the layer has the activation
    if not node.attributes["time_major"]:
        to.finish(plain, RECURRENT, inputs, given)
        return
    x = to.turned(node, inputs[0], (1, 0, 2))
    steps = to.emit(node, RECURRENT, (x, *inputs[1:]), given)
    to.finish(plain, "Transpose", (steps, to.constant(node, [1, 0, 2])))


def _turned(to: Lowering, node: GraphNode, matrix: Output) -> Output:
    """``[in, out]``, as Keras has it."""
    return to.turned(node, matrix, (1, 0))


def _joined(to: Lowering, node: GraphNode, matrices: Sequence[Output]) -> Output:
    """Side by side."""
    given = (*matrices, to.constant(node, 1))
    return to.emit(node, "ConcatV2", given, {"N": len(matrices)})


def _check_states(to: Lowering, states: Sequence[Output]) -> None:
    if any(one != MISSING for one in states):
        raise UnsupportedLayerError("it begins with a state that is given")


LOWERINGS: dict[str, Lower] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _sequence_rnn,
}
