"""TensorFlow Lite, which hands float32 convolutions to XNNPACK.

The model is one operator, written with the file format's own classes: no TensorFlow is needed.
Only ``invoke`` is timed.  The filter is a constant, packed beforehand, and the input and output lie
where the interpreter wants them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.cases import Case
from harness.data import Array, Operands
from harness.peer import CannotRun, Job, Peer


class TFLite(Peer):
    """Inference in NHWC float32."""

    def __init__(self, threads: int) -> None:
        from importlib.metadata import version

        from ai_edge_litert import interpreter

        self._interpreter = interpreter.Interpreter
        self._threads = threads
        self.version = version("ai-edge-litert")

    def prepare(self, case: Case, operands: Operands) -> Job:
        """The forward pass."""
        if case.pass_ != "forward":
            raise CannotRun("inference only")
        if case.order != "nhwc":
            raise CannotRun("its memory order is NHWC")
        if case.dtype != "float32":
            raise CannotRun("of the floating types, float32 only")
        model = depthwise_model(case, operands.filter)
        interpreter = self._interpreter(model_content=model, num_threads=self._threads)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], operands.input)
        output = interpreter.get_output_details()[0]["index"]

        def results(value: None) -> dict[str, Array]:
            return {"output": interpreter.get_tensor(output)}

        return Job(interpreter.invoke, results)


def depthwise_model(case: Case, filter: Array) -> bytes:
    """A TFLite file of one depthwise convolution with SAME padding."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: tuple[int, ...], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name.encode(), list(shape), buffer
        made.type = schema.TensorType.FLOAT32
        return made

    def buffer(array: Array | None = None) -> Any:
        made = schema.BufferT()
        if array is not None:
            made.data = np.frombuffer(array.tobytes(), np.uint8)
        return made

    layer = case.layer
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideH = options.strideW = layer.stride
    options.dilationHFactor = options.dilationWFactor = layer.dilation
    options.depthMultiplier = layer.multiplier
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    operator.builtinOptions = options
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEPTHWISE_CONV_2D
    code.version = 2  # the first with dilation
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("input", case.input_shape, 0),
        tensor("filter", (1, layer.kernel, layer.kernel, layer.lanes), 1),
        tensor("bias", (layer.lanes,), 2),
        tensor("output", case.output_shape, 0),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(), buffer(filter), buffer(np.zeros(layer.lanes, np.float32))]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
