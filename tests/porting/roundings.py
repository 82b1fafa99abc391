"""What the roundings of a quantized network add up to in its outputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.graph import Graph

RARELY = 2**-8
"""Of the results that the port rounds like the original another integer is the nearest: its sums
are of float32, and of another order."""
MOVING = ("Const", "CONCATENATION", "MAX_POOL_2D", "PAD", "RELU", "RESHAPE", "STRIDED_SLICE")
"""Operators that round nothing where their result has the scale of their input."""


def rounded(graph: Graph) -> dict[str, float]:
    """The steps of results that a network rounds, by the names of their nodes."""
    found = {}
    for output, about in graph.quantization.items():
        node = graph.nodes[output.node]
        moves = node.op in MOVING and all(
            graph.quantization.get(one, about) == about for one in node.inputs[:1]
        )
        if not moves:
            found[output.node] = about.scale[0]
    return found


def deviations(graph: Graph, results: Mapping[str, Tensor], numbers: Tensor) -> Tensor:
    """The standard deviation of numbers that a quantized network computes, from exact arithmetic.

    A result that is rounded to a multiple of a step is off by a number between half a step below
    and half a step above: a variance of step ** 2 / 12.  Roundings are as good as independent, and
    small, so the variance of a number is the sum of these over all numbers of all layers before it,
    each times the squared derivative by that number.

    Args:
        graph: of TFLite's operators.
        results: of layers in exact arithmetic, by their names.
        numbers: computed from these.
    """
    steps = {
        name: step
        for name, step in rounded(graph).items()
        if name in results and results[name].requires_grad
    }
    given = [results[name] for name in steps]
    found = []
    for number in numbers.flatten():
        gradients = torch.autograd.grad(number, given, allow_unused=True, retain_graph=True)
        found.append(
            sum(
                step**2 / 12 * one.square().sum().item()
                for step, one in zip(steps.values(), gradients, strict=True)
                if one is not None
            )
            ** 0.5
        )
    return torch.tensor(found).view(numbers.shape)
