"""The CPU kernels by themselves: no PyTorch, no dispatch, results into memory that is there."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

from harness import build
from harness.cases import Case
from harness.data import RESULTS, Array, Operands
from harness.peer import CannotRun, Job, Peer

_DTYPES = {
    "float32": (1, np.dtype(np.float32)),
    "bfloat16": (2, np.dtype(ml_dtypes.bfloat16)),
    "float16": (3, np.dtype(np.float16)),
}
"""DataType's number in the C++ sources, and NumPy's type."""


class Kernel(Peer):
    """The number of threads is OMP_NUM_THREADS, which the coordinator has set."""

    def __init__(self, threads: int) -> None:
        self._run = ctypes.CDLL(str(build.kernels_library())).run_kernels
        self.version = "from csrc/cpu"

    def prepare(self, case: Case, operands: Operands) -> Job:
        """All passes but those that are about autograd."""
        if case.pass_ in ("forward_grad", "training"):
            raise CannotRun("kernels have no autograd")
        number, dtype = _DTYPES[case.dtype]

        def stored(image: Any) -> Any:
            axes = (0, 3, 1, 2) if case.order == "nchw" else (0, 1, 2, 3)
            return _aligned(np.ascontiguousarray(image.transpose(axes)).astype(dtype))

        x, g = stored(operands.input), stored(operands.grad)
        f = _aligned(operands.filter.astype(dtype))
        like = {"output": g, "input_gradient": x, "filter_gradient": f}
        made = {name: _aligned(np.zeros_like(like[name])) for name in RESULTS[case.pass_]}
        sizes = (ctypes.c_int64 * 17)(*_sizes(case, number))
        pointers = [
            ctypes.c_void_p(array.ctypes.data if array is not None else None)
            for array in (x, f, g, *(made.get(name) for name in like))
        ]
        run = self._run

        def call() -> Any:
            if run(sizes, *pointers) != 0:
                raise RuntimeError("the kernels refused; their reason is on stderr")
            return x, f, g  # the pointers' owners

        def results(value: Any) -> dict[str, Array]:
            axes = (0, 2, 3, 1) if case.order == "nchw" else (0, 1, 2, 3)
            return {
                name: (array if name == "filter_gradient" else array.transpose(axes)).astype(
                    np.float32
                )
                for name, array in made.items()
            }

        return Job(call, results)


def _aligned(array: Any) -> Any:
    """A copy that starts at a multiple of 64, as PyTorch's tensors do."""
    buffer = np.empty(array.nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _sizes(case: Case, dtype: int) -> list[int]:
    layer = case.layer
    top, _, left, _ = layer.padding
    rows, columns = layer.output_size
    common = layer.kernel, layer.stride, layer.dilation
    return [
        *(case.batch, layer.channels, layer.multiplier, int(case.order == "nhwc"), dtype),
        *(layer.height, rows, *common, top),
        *(layer.width, columns, *common, left),
    ]
