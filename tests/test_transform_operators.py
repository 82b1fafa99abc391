"""Every operator, from tensors of every layout in both data formats, under transforms.

``docs/transforms.md`` has one function under all transforms; here are all operators under those
that depend on how a tensor lies in memory.  Operands are small integers, so results are exact and
compared for equality, their strides too.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from problems import ORDERS, integers, stored
from torch import Tensor
from torch.func import jvp, vjp
from torch.utils.checkpoint import checkpoint

from tfcompat_dw.padding import Window

pytestmark = pytest.mark.usefixtures("fresh_compiler")
ops = torch.ops.tfcompat_dw
CHANNELS, MULTIPLIER, KERNEL = 3, 2, (3, 2)
SIZE, LARGER = (4, 11, 9), (7, 16, 10)  # no two sizes alike: the compiler would take them for one
LAYOUTS = (*ORDERS, "empty")


def window_of(channels_last: bool) -> Window:
    """Unequal in everything."""
    return Window((2, 1), (1, 0, 2, 1), (1, 2), channels_last)


def function_of(name: str, window: Window) -> Callable[..., Any]:
    """An operator as a function of three tensors."""

    def forward(x: Tensor, f: Tensor, b: Tensor) -> Tensor:
        return ops.depthwise_conv2d(x, f, b, *window)

    def input_gradient(x: Tensor, f: Tensor, g: Tensor) -> Tensor:
        return ops.depthwise_conv2d_backward_input(x.shape, f, g, *window)

    def filter_gradient(x: Tensor, f: Tensor, g: Tensor) -> Tensor:
        return ops.depthwise_conv2d_backward_filter(x, f.shape, g, *window)

    def all_gradients(x: Tensor, f: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        return ops.depthwise_conv2d_backward(x, f, g, *window, [True] * 3)

    functions = forward, input_gradient, filter_gradient, all_gradients
    return {function.__name__: function for function in functions}[name]


NAMES = ("forward", "input_gradient", "filter_gradient", "all_gradients")


def tensors(name: str, window: Window, layout: str, size: tuple[int, int, int]) -> list[Tensor]:
    """The operands; images in the layout."""
    generator = random.Random(7)
    space = window.output_size(size[1:], KERNEL)

    def image(rows: int, columns: int, channels: int) -> Tensor:
        shape = (size[0], rows, columns, channels)
        if not window.channels_last:
            shape = (size[0], channels, rows, columns)
        tensor = integers(shape, torch.float64, generator)
        if layout == "empty":
            return tensor[:0]
        return stored(tensor, layout, window.channels_last)

    x = image(size[1], size[2], CHANNELS)
    f = integers((*KERNEL, CHANNELS, MULTIPLIER), torch.float64, generator)
    if name == "forward":
        return [x, f, integers((CHANNELS * MULTIPLIER,), torch.float64, generator)]
    return [x, f, image(*space, CHANNELS * MULTIPLIER)]


def results(function: Callable[..., Any], operands: list[Tensor]) -> list[Tensor]:
    """As a list."""
    found = function(*operands)
    return [found] if isinstance(found, Tensor) else list(found)


def with_gradients(function: Callable[..., Any], operands: list[Tensor]) -> list[Tensor]:
    """Results, and gradients of the sum of their squares."""
    leaves = [operand.detach().requires_grad_() for operand in operands]
    found = results(function, leaves)
    total = sum((result.pow(2).sum() for result in found), torch.zeros(()).double())
    of_leaves = torch.autograd.grad(total, leaves, materialize_grads=True)
    return [result.detach() for result in found] + list(of_leaves)


def assert_same(actual: list[Tensor], expected: list[Tensor], strides: bool = True) -> None:
    """Values, sizes and strides."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride() or not strides


every_operator = pytest.mark.parametrize("name", NAMES)
both_formats = pytest.mark.parametrize("channels_last", [True, False], ids=["nhwc", "nchw"])
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
Case = tuple[Callable[..., Any], list[Tensor]]


@pytest.fixture
def case(name: str, channels_last: bool, layout: str) -> Case:
    """An operator with operands."""
    window = window_of(channels_last)
    return function_of(name, window), tensors(name, window, layout, SIZE)


@every_layout
@both_formats
@every_operator
def test_compiled_whole_for_inference_and_training(case: Case) -> None:
    function, operands = case
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        assert_same(results(compiled, operands), results(function, operands))
    # PyTorch 2.10 and 2.11 hand gradients over as contiguous, whatever their strides
    strides = torch.__version__ >= (2, 12)
    assert_same(with_gradients(compiled, operands), with_gradients(function, operands), strides)


@pytest.mark.parametrize("layout", ORDERS)
@both_formats
@every_operator
def test_compiled_once_for_every_size(name: str, channels_last: bool, layout: str) -> None:
    window = window_of(channels_last)
    function = function_of(name, window)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
    with_gradients(compiled, tensors(name, window, layout, SIZE))
    operands = tensors(name, window, layout, LARGER)
    with torch.compiler.set_stance("fail_on_recompile"):
        actual = with_gradients(compiled, operands)
    # not the strides: the compiler hands gradients of unknown strides over as contiguous
    for one, other in zip(actual, with_gradients(function, operands), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("strict", [False, True])
@every_layout
@both_formats
@every_operator
def test_exported_saved_and_loaded(case: Case, strict: bool) -> None:
    function, operands = case

    class Module(torch.nn.Module):
        def forward(self, x: Tensor, f: Tensor, last: Tensor) -> Any:
            return function(x, f, last)

    file = io.BytesIO()
    torch.export.save(torch.export.export(Module(), tuple(operands), strict=strict), file)
    file.seek(0)
    assert_same(results(torch.export.load(file).module(), operands), results(function, operands))


@every_layout
@both_formats
@every_operator
def test_vjp_and_jvp_are_adjoint_and_those_of_autograd(case: Case) -> None:
    function, operands = case
    values, pull = vjp(function, *operands)
    cotangents = (values,) if isinstance(values, Tensor) else values
    pulled = pull(values)
    leaves = [operand.detach().requires_grad_() for operand in operands]
    expected = torch.autograd.grad(
        results(function, leaves), leaves, list(cotangents), materialize_grads=True
    )
    assert all(torch.equal(one, other) for one, other in zip(pulled, expected, strict=True))
    tangents = tuple(operand + 1 for operand in operands)
    _, pushed = jvp(function, tuple(operands), tangents)
    pushed = (pushed,) if isinstance(pushed, Tensor) else pushed

    def product(ones: Any, others: Any) -> float:
        return sum(float((one * other).sum()) for one, other in zip(ones, others, strict=True))

    assert product(pushed, cotangents) == product(tangents, pulled)


@every_layout
@both_formats
@every_operator
def test_checkpointed_and_with_saved_tensors_elsewhere(case: Case) -> None:
    function, operands = case
    expected = with_gradients(function, operands)

    def again(*leaves: Tensor) -> Any:
        return checkpoint(function, *leaves, use_reentrant=False)

    assert_same(with_gradients(again, operands), expected)
    with torch.autograd.graph.save_on_cpu():
        assert_same(with_gradients(function, operands), expected)


@every_layout
@both_formats
@every_operator
def test_deterministic_algorithms_find_no_element_unwritten(case: Case) -> None:
    function, operands = case
    expected = with_gradients(function, operands)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        assert_same(with_gradients(function, operands), expected)
    finally:
        torch.use_deterministic_algorithms(False)


@both_formats
@every_operator
def test_concurrent_calls_do_not_disturb_each_other(name: str, channels_last: bool) -> None:
    window = window_of(channels_last)
    function = function_of(name, window)
    sizes = [(n, 20 + n, 17) for n in range(1, 5)]
    operands = [tensors(name, window, "nhwc", size) for size in sizes]
    expected = [with_gradients(function, each) for each in operands]
    with ThreadPoolExecutor(len(sizes)) as pool:
        found = pool.map(lambda each: with_gradients(function, each), 10 * operands)
        for actual, right in zip(found, 10 * expected, strict=True):
            assert_same(actual, right)
