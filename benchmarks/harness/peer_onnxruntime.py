"""ONNX Runtime on the CPU.  It computes in NCHW, and that is what it is given for either order.

The filter is a constant, packed beforehand; input and output are bound to memory that is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.cases import Case
from harness.data import Array, Operands
from harness.peer import CannotRun, Job, Peer


class OnnxRuntime(Peer):
    """Inference."""

    def __init__(self, threads: int) -> None:
        import onnx
        import onnxruntime

        self._onnx: Any = onnx
        self._runtime: Any = onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 4
        self.version = onnxruntime.__version__

    def prepare(self, case: Case, operands: Operands) -> Job:
        """The forward pass in float32 and, where it has a kernel for it, float16."""
        if case.pass_ != "forward":
            raise CannotRun("inference only")
        if case.dtype == "bfloat16":
            raise CannotRun("no bfloat16 on the CPU")
        dtype = np.dtype(case.dtype)
        session = self._runtime.InferenceSession(
            self._model(case, operands.filter.astype(dtype)),
            self._options,
            providers=["CPUExecutionProvider"],
        )
        x = np.ascontiguousarray(operands.input.transpose(0, 3, 1, 2), dtype)
        of_value = self._runtime.OrtValue.ortvalue_from_numpy
        batch, rows, columns, lanes = case.output_shape
        given, made = of_value(x), of_value(np.empty((batch, lanes, rows, columns), dtype))
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", given)
        binding.bind_ortvalue_output("y", made)

        def results(value: None) -> dict[str, Array]:
            return {"output": made.numpy().transpose(0, 2, 3, 1).astype(np.float32)}

        return Job(lambda: session.run_with_iobinding(binding), results)

    def _model(self, case: Case, filter: Any) -> bytes:
        helper, layer = self._onnx.helper, case.layer
        kind = helper.np_dtype_to_tensor_dtype(filter.dtype)
        shape = (layer.lanes, 1, layer.kernel, layer.kernel)
        stored = np.ascontiguousarray(filter.transpose(2, 3, 0, 1).reshape(shape))
        top, bottom, left, right = layer.padding
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            group=layer.channels,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            dilations=[layer.dilation] * 2,
            pads=[top, left, bottom, right],
        )

        def image(name: str, shape: tuple[int, int, int, int]) -> Any:
            n, h, w, c = shape
            return helper.make_tensor_value_info(name, kind, (n, c, h, w))

        graph = helper.make_graph(
            [node],
            "depthwise",
            [image("x", case.input_shape)],
            [image("y", case.output_shape)],
            [self._onnx.numpy_helper.from_array(stored, "w")],
        )
        imports = [helper.make_opsetid("", 21)]
        model: bytes = helper.make_model(
            graph, opset_imports=imports, ir_version=10
        ).SerializeToString()
        return model
