"""TensorFlow: ``tf.nn.depthwise_conv2d`` in a graph, as Keras models run it.

Whether oneDNN or Eigen computes is decided by TF_ENABLE_ONEDNN_OPTS, before the import.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.cases import Case
from harness.data import RESULTS, Array, Operands
from harness.peer import CannotRun, Job, Peer


class TensorFlow(Peer):
    """Gradients are those of a GradientTape; the graph drops the forward pass they do not need."""

    def __init__(self, threads: int) -> None:
        import tensorflow

        tf: Any = tensorflow
        if not hasattr(tf, "nn"):
            raise ImportError(f"{tf!r} is not TensorFlow")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.get_logger().setLevel("ERROR")
        self._tf = tf
        self.version = tf.__version__

    def prepare(self, case: Case, operands: Operands) -> Job:
        """The passes that have kernels of their own."""
        if case.pass_ in ("forward_grad", "training"):
            raise CannotRun("calls that record gradients are compared with PyTorch's only")
        tf = self._tf
        nchw = case.order == "nchw"

        def image(array: Array) -> Any:
            stored = array.transpose(0, 3, 1, 2) if nchw else array
            return tf.cast(tf.constant(stored), case.dtype)

        x, g = image(operands.input), image(operands.grad)
        f = tf.cast(tf.constant(operands.filter), case.dtype)
        names = RESULTS[case.pass_]
        function = tf.function(self._program(case), autograph=False)
        function = function.get_concrete_function(x, f, g)

        def results(values: Any) -> dict[str, Array]:
            arrays = [np.asarray(tf.cast(value, tf.float32)) for value in values]
            if nchw:
                arrays = [
                    a if name == "filter_gradient" else a.transpose(0, 2, 3, 1)
                    for name, a in zip(names, arrays, strict=True)
                ]
            return dict(zip(names, arrays, strict=True))

        return Job(lambda: function(x, f, g), results)

    def _program(self, case: Case) -> Any:
        tf, layer = self._tf, case.layer
        steps, gaps = [layer.stride] * 2, [layer.dilation] * 2
        strides = [1, 1, *steps] if case.order == "nchw" else [1, *steps, 1]

        def forward(x: Any, f: Any) -> Any:
            return tf.nn.depthwise_conv2d(
                x, f, strides, "SAME", data_format=case.order.upper(), dilations=gaps
            )

        def program(x: Any, f: Any, g: Any) -> Any:
            if case.pass_ == "forward":
                return (forward(x, f),)
            wanted = [
                operand
                for name, operand in (("input_gradient", x), ("filter_gradient", f))
                if name in RESULTS[case.pass_]
            ]
            with tf.GradientTape() as tape:
                tape.watch(wanted)
                y = forward(x, f)
            return tuple(tape.gradient(y, wanted, output_gradients=g))

        return program
