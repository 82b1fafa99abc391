"""TensorFlow.js' graphs as messages that TensorFlow runs, for ``compare`` and the tests.

TensorFlow.js keeps constants beside the graph, and its converter (``tensorflowjs/converters/
fuse_prelu.py``, ``fuse_depthwise_conv2d.py``) makes nodes that TensorFlow has no kernels for:
``Prelu``, ``FusedDepthwiseConv2dNative``, ``_FusedConv2D`` that ends with ``Prelu``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfcompat_dw.checkpoint import Checkpoint

_WHOLE = {
    "_FusedConv2D": "Conv2D",
    "_FusedMatMul": "MatMul",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
}


def graph_def_of(path: Path, checkpoint: Checkpoint) -> Any:
    """A ``GraphDef`` with the constants in it, fused nodes written out."""
    import tensorflow as tf
    from google.protobuf import json_format

    file = path / "model.json" if path.is_dir() else path
    topology = json.loads(file.read_bytes())["modelTopology"]
    read = json_format.ParseDict(
        {key: topology[key] for key in ("node", "library", "versions") if key in topology},
        tf.compat.v1.GraphDef(),
        ignore_unknown_fields=True,
    )
    found = tf.compat.v1.GraphDef(library=read.library, versions=read.versions)
    for node in read.node:
        if node.op == "Const" and node.name in checkpoint:
            _fill(node, checkpoint[node.name].numpy())
        found.node.extend(_written_out(node))
    return found


def _fill(node: Any, value: Any) -> None:
    import tensorflow as tf

    dtype = tf.as_dtype(node.attr["dtype"].type)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype, value.shape))


def _written_out(node: Any) -> Iterator[Any]:
    """The node, or those that it was made of; the last one has its name."""
    if node.op == "Prelu":
        yield from _prelu(node.name, node.input[0], node.input[1], node)
        return
    if node.op not in _WHOLE:
        yield node
        return
    parts = [part.decode() for part in node.attr["fused_ops"].list.s]
    operands = list(node.input[2:])
    name = f"{node.name}/whole" if parts else node.name
    yield _node(_WHOLE[node.op], name, node.input[:2], node)
    for number, part in enumerate(parts):
        before, name = name, f"{node.name}/{part}" if number + 1 < len(parts) else node.name
        if part == "Prelu":
            yield from _prelu(name, before, operands.pop(0), node)
        elif part == "FusedBatchNorm":
            inputs, operands = [before, *operands[:4]], operands[4:]
            made = _node(part, name, inputs, node)
            made.attr["is_training"].b = False
            yield made
        else:
            made = _node(part, name, [before, *_operand(part, operands)], node)
            if part == "LeakyRelu" and "leakyrelu_alpha" in node.attr:
                made.attr["alpha"].f = node.attr["leakyrelu_alpha"].f
            yield made


def _operand(part: str, operands: list[str]) -> Iterable[str]:
    return [operands.pop(0)] if part == "BiasAdd" else []


def _prelu(name: str, x: str, alpha: str, like: Any) -> Iterator[Any]:
    """``relu(x) - alpha * relu(-x)``."""
    yield _node("Relu", f"{name}/positive", [x], like)
    yield _node("Neg", f"{name}/minus", [x], like)
    yield _node("Relu", f"{name}/negative", [f"{name}/minus"], like)
    yield _node("Mul", f"{name}/scaled", [f"{name}/negative", alpha], like)
    yield _node("Sub", name, [f"{name}/positive", f"{name}/scaled"], like)


def _node(op: str, name: str, inputs: Sequence[str], like: Any) -> Any:
    """With those attributes of another node that this operation has, too."""
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    made = tf.compat.v1.NodeDef(op=op, name=name, input=inputs)
    for one in op_def_registry.get(op).attr:
        if one.name in like.attr:
            made.attr[one.name].CopyFrom(like.attr[one.name])
        elif one.name == "T":
            made.attr["T"].type = tf.float32.as_datatype_enum
    return made
