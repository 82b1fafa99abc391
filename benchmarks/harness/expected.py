"""What must come out of a case, from the plain-PyTorch reference of this package.

The package's own tests compare that reference with plain loops and with TensorFlow.
"""

from __future__ import annotations

import torch

from harness.cases import Case, Layer
from harness.data import RESULTS, Array, Operands
from tfcompat_dw import reference
from tfcompat_dw.padding import Window


def window(layer: Layer, channels_last: bool) -> Window:
    """The tail of the operators' arguments."""
    steps, gaps = (layer.stride, layer.stride), (layer.dilation, layer.dilation)
    return Window(steps, layer.padding, gaps, channels_last)


def expected_results(case: Case, operands: Operands) -> dict[str, Array]:
    """Exact, as all sums of such operands are."""
    arguments = window(case.layer, channels_last=True)
    x, f, g = (
        torch.from_numpy(array) for array in (operands.input, operands.filter, operands.grad)
    )
    wanted = RESULTS[case.pass_]
    results = {}
    if "output" in wanted:
        results["output"] = reference.depthwise_conv2d(x, f, None, *arguments)
    if "input_gradient" in wanted:
        results["input_gradient"] = reference.depthwise_conv2d_backward_input(
            x.shape, f, g, *arguments
        )
    if "filter_gradient" in wanted:
        results["filter_gradient"] = reference.depthwise_conv2d_backward_filter(
            x, f.shape, g, *arguments
        )
    return {name: result.numpy() for name, result in results.items()}
