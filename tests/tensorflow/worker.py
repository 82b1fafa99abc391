"""A TensorFlow process that answers the tests' questions.

TensorFlow reads its back end (Eigen or oneDNN) from the environment once, at import, and the two
differ (padded taps, unequal strides, NCHW, 16-bit accumulation), so each back end lives in a
process of its own. `client.py` starts this file with one end of a pipe; nothing here uses stdout,
which TensorFlow may write to.

Every array that travels is float64: all four element types convert to it without loss, and back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, ...]


def import_tensorflow() -> Any:
    """TensorFlow on one thread. Raises ImportError where it is missing."""
    import tensorflow

    if not hasattr(tensorflow, "nn"):
        raise ImportError(f"{tensorflow!r} is not TensorFlow")
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow


class Worker:
    """The questions: every public method answers one."""

    def __init__(self, tf: Any) -> None:
        import keras

        self.tf = tf
        self.keras = keras
        self.functions: dict[str, Callable[..., Any]] = {
            "depthwise_conv2d": tf.nn.depthwise_conv2d,
            "depthwise_conv2d_backprop_input": tf.nn.depthwise_conv2d_backprop_input,
            "depthwise_conv2d_backprop_filter": tf.nn.depthwise_conv2d_backprop_filter,
            "separable_conv2d": tf.nn.separable_conv2d,
        }

    def tensor(self, values: np.ndarray, dtype: str) -> Any:
        return self.tf.constant(values.astype(self.tf.as_dtype(dtype).as_numpy_dtype))

    def run(self, program: Callable[..., Any], inputs: Arrays, dtype: str) -> Arrays:
        results = program(*(self.tensor(values, dtype) for values in inputs))
        return tuple(np.asarray(result).astype(np.float64) for result in results)

    def every(
        self, program: Callable[..., Any], examples: Sequence[Arrays], dtype: str, xla: bool
    ) -> list[Arrays]:
        """Run one program on each example; XLA compiles it once, as all have the same shapes."""
        if xla:
            program = self.tf.function(program, jit_compile=True)
        return [self.run(program, example, dtype) for example in examples]

    def differentiated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The program (inputs..., gradient pool) -> (output, gradient of each input)."""

        def program(*arguments: Any) -> Any:
            *inputs, pool = arguments
            with self.tf.GradientTape() as tape:
                tape.watch(inputs)
                output = function(*inputs)
            gradient = self.taken_from(pool, output)
            return (output, *tape.gradient(output, inputs, output_gradients=gradient))

        return program

    def taken_from(self, pool: Any, output: Any) -> Any:
        """The first elements of a flat pool, in the shape of the output."""
        return self.tf.reshape(pool[: output.shape.num_elements()], output.shape)

    # ---- values ----

    def depthwise_conv2d(
        self,
        examples: Sequence[Arrays],
        dtype: str,
        gradients: str = "tape",
        xla: bool = False,
        **arguments: Any,
    ) -> list[Arrays]:
        """Of each (input, filter, gradient pool): (output, input gradient, filter gradient).

        The gradients come from a GradientTape or the backprop functions (which ignore dilations).
        """
        tf = self.tf

        def forward(x: Any, f: Any) -> Any:
            return tf.nn.depthwise_conv2d(x, f, **arguments)

        def by_backprop_functions(x: Any, f: Any, pool: Any) -> Any:
            output = forward(x, f)
            rest = {name: arguments[name] for name in ("strides", "padding", "data_format")}
            gradient = self.taken_from(pool, output)
            of_input = tf.nn.depthwise_conv2d_backprop_input(x.shape, f, gradient, **rest)
            of_filter = tf.nn.depthwise_conv2d_backprop_filter(x, f.shape, gradient, **rest)
            return output, of_input, of_filter

        program = (
            by_backprop_functions if gradients == "functions" else self.differentiated(forward)
        )
        return self.every(program, examples, dtype, xla)

    def keras_depthwise_conv(
        self,
        examples: Sequence[Arrays],
        dtype: str,
        pads: Sequence[tuple[int, int]],
        xla: bool = False,
        **arguments: Any,
    ) -> list[Arrays]:
        """The same by keras.ops.depthwise_conv; its explicit padding is a tf.pad before it."""

        def forward(x: Any, f: Any) -> Any:
            return self.keras.ops.depthwise_conv(self.tf.pad(x, pads), f, **arguments)

        return self.every(self.differentiated(forward), examples, dtype, xla)

    def separable_conv2d(
        self, examples: Sequence[Arrays], dtype: str, xla: bool = False, **arguments: Any
    ) -> list[Arrays]:
        """Of each (input, two filters, gradient pool): the output and three gradients."""

        def forward(x: Any, depthwise: Any, pointwise: Any) -> Any:
            return self.tf.nn.separable_conv2d(x, depthwise, pointwise, **arguments)

        return self.every(self.differentiated(forward), examples, dtype, xla)

    def layer(
        self, name: str, examples: Sequence[Arrays], dtype: str, xla: bool = False, **arguments: Any
    ) -> list[Arrays]:
        """Of each (input, weights..., gradient pool): a Keras layer's output and every gradient."""
        layer = getattr(self.keras.layers, name)(**arguments, dtype=dtype)
        layer.build(examples[0][0].shape)

        def forward(x: Any, *weights: Any) -> Any:
            return layer.stateless_call(list(weights), [], x)[0]

        return self.every(self.differentiated(forward), examples, dtype, xla)

    def initial_weights(
        self, name: str, shape: tuple[int, ...], **arguments: Any
    ) -> list[np.ndarray]:
        """The weights of a newly built Keras layer."""
        self.keras.utils.set_random_seed(20)
        layer = getattr(self.keras.layers, name)(**arguments)
        layer.build(shape)
        return [np.asarray(weight) for weight in layer.get_weights()]

    # ---- errors ----

    def outcome(self, function: str, arguments: dict[str, Any], graph: bool) -> str:
        """'returned', or 'Type: text' of what the call raised, eagerly or in a graph."""
        try:
            call = self.prepared(function, arguments)
            self.tf.function(call)() if graph else call()
        except Exception as error:  # whatever TensorFlow raises is the answer
            return f"{type(error).__name__}: {error}"
        return "returned"

    def prepared(self, function: str, arguments: dict[str, Any]) -> Callable[[], Any]:
        """The call, up to what a graph may trace: a layer's weights are made before."""
        if function not in self.functions:
            layer = getattr(self.keras.layers, function)(**arguments["layer"])
            layer.build(arguments["built_for"])
            return lambda: layer(arguments["input"])

        def call() -> Any:
            given = {name: self.as_given(name, value) for name, value in arguments.items()}
            return self.functions[function](**given)

        return call

    def as_given(self, name: str, value: Any) -> Any:
        """Arrays as tensors: TensorFlow changes the type of an array, never that of a tensor."""
        is_tensor = isinstance(value, np.ndarray) and name != "padding"
        return self.tf.constant(value) if is_tensor else value


def answer(worker: Worker, question: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    try:
        return "answer", getattr(worker, question)(**arguments)
    except Exception as error:  # the client raises it in the test that asked
        return "error", f"{type(error).__name__}: {error}"


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    try:
        tf = import_tensorflow()
    except ImportError as error:
        connection.send(("error", str(error)))
        return
    worker = Worker(tf)
    connection.send(("answer", tf.__version__))
    while True:
        try:
            questions = connection.recv()
        except EOFError:
            return
        connection.send([answer(worker, question, arguments) for question, arguments in questions])


if __name__ == "__main__":
    main()
