"""``torch.func``: every transform gives what a loop over the examples, or autograd, gives."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, vmap
from torch.utils._python_dispatch import TorchDispatchMode

import tfcompat_dw
from tfcompat_dw import DepthwiseConv2D, SeparableConv2D
from tfcompat_dw.padding import Window

ops = torch.ops.tfcompat_dw
BATCH, CHANNELS, MULTIPLIER, KERNEL = 2, 3, 2, (3, 2)
WINDOWS = {
    "nhwc": Window((2, 1), (1, 0, 2, 1), (1, 2), True),
    "nchw": Window((2, 1), (1, 0, 2, 1), (1, 2), False),
}


@pytest.fixture(autouse=True)
def no_slow_loop() -> Iterator[None]:
    """PyTorch warns where it has no batching rule and loops."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")
        yield


def integers(*shape: int) -> Tensor:
    """Small enough that every sum is exact."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).double()


def shapes(window: Window) -> dict[str, tuple[int, ...]]:
    space = window.output_size((4, 5), KERNEL)
    outputs = CHANNELS * MULTIPLIER
    return {
        "input": (BATCH, 4, 5, CHANNELS) if window.channels_last else (BATCH, CHANNELS, 4, 5),
        "filter": (*KERNEL, CHANNELS, MULTIPLIER),
        "bias": (outputs,),
        "grad": (BATCH, *space, outputs) if window.channels_last else (BATCH, outputs, *space),
    }


def functions(window: Window) -> dict[str, tuple[tuple[str, ...], Callable[..., Any]]]:
    """Every operator: the names of its tensors, and a function of them."""
    input_size, filter_size = shapes(window)["input"], shapes(window)["filter"]

    def fused(*mask: bool) -> tuple[tuple[str, ...], Callable[..., Any]]:
        def call(x: Tensor, f: Tensor, g: Tensor) -> tuple[Tensor, ...]:
            results = ops.depthwise_conv2d_backward(x, f, g, *window, mask)
            assert [result is not None for result in results] == list(mask)
            return tuple(result for result in results if result is not None)

        return ("input", "filter", "grad"), call

    return {
        "forward": (
            ("input", "filter", "bias"),
            lambda x, f, b: ops.depthwise_conv2d(x, f, b, *window),
        ),
        "forward without bias": (
            ("input", "filter"),
            lambda x, f: ops.depthwise_conv2d(x, f, None, *window),
        ),
        "input gradient": (
            ("filter", "grad"),
            lambda f, g: ops.depthwise_conv2d_backward_input(input_size, f, g, *window),
        ),
        "filter gradient": (
            ("input", "grad"),
            lambda x, g: ops.depthwise_conv2d_backward_filter(x, filter_size, g, *window),
        ),
        "all gradients": fused(True, True, True),
        "filter and bias gradient": fused(False, True, True),
        "input gradient of the fused": fused(True, False, False),
        "bias gradient": fused(False, False, True),
    }


NAMES = tuple(functions(WINDOWS["nhwc"]))


def stack(results: list[Any]) -> Any:
    """What vmap returns, from what the examples return."""
    if isinstance(results[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True))
    return torch.stack(results)


def assert_equal(actual: Any, expected: Any) -> None:
    if isinstance(actual, Tensor):
        actual, expected = (actual,), (expected,)
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        assert torch.equal(one, other)


def loop(function: Callable[..., Any], in_dims: tuple[int | None, ...]) -> Callable[..., Any]:
    """``vmap`` in its plainest form."""

    def run(*tensors: Tensor) -> Any:
        count = next(t.shape[d] for t, d in zip(tensors, in_dims, strict=True) if d is not None)
        return stack(
            [
                function(
                    *(
                        t if d is None else t.select(d, i)
                        for t, d in zip(tensors, in_dims, strict=True)
                    )
                )
                for i in range(count)
            ]
        )

    return run


def examples(shape: tuple[int, ...], dim: int | None, count: int = 3) -> Tensor:
    """What ``count`` examples have, or share, of one operand."""
    return integers(*shape) if dim is None else integers(count, *shape).movedim(0, dim).contiguous()


def batched(operands: int) -> list[tuple[int | None, ...]]:
    """Every way to vmap at least one of them, over the first dimension or the last."""
    return [
        dims
        for dims in itertools.product((None, 0, -1), repeat=operands)
        if dims != (None,) * operands
    ]


class Counter(TorchDispatchMode):
    """How many of the package's operators ran."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func.namespace == "tfcompat_dw"
        return func(*args, **(kwargs or {}))


# ---- vmap of the operators -----------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", NAMES)
def test_vmap_over_any_operands_is_a_loop_in_one_call(name: str, window: Window) -> None:
    operands, function = functions(window)[name]
    for dims in batched(len(operands)):
        tensors = [
            examples(shapes(window)[operand], dim)
            for operand, dim in zip(operands, dims, strict=True)
        ]
        with Counter() as counter:
            result = vmap(function, dims)(*tensors)
        assert_equal(result, loop(function, dims)(*tensors))
        assert counter.calls == 1 or (name == "all gradients" and dims[0] is None)
        assert counter.calls <= 2


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", NAMES)
def test_nested_vmap_is_a_nested_loop(name: str, window: Window) -> None:
    """Each operand is batched by the outer vmap, the inner one, both or none."""
    operands, function = functions(window)[name]
    for outer, inner in itertools.product(batched(len(operands)), repeat=2):
        if -1 in outer or -1 in inner:
            continue
        tensors = []
        for operand, *dims in zip(operands, outer, inner, strict=True):
            counts = [count for count, dim in zip((2, 3), dims, strict=True) if dim is not None]
            tensors.append(integers(*counts, *shapes(window)[operand]))
        nested = vmap(vmap(function, inner), outer)(*tensors)
        assert_equal(nested, loop(loop(function, inner), outer)(*tensors))


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", NAMES)
def test_vmap_over_no_examples_gives_no_results(name: str, window: Window) -> None:
    operands, function = functions(window)[name]
    for dims in batched(len(operands)):
        one, none = (
            [
                examples(shapes(window)[operand], dim, count)
                for operand, dim in zip(operands, dims, strict=True)
            ]
            for count in (1, 0)
        )
        expected, actual = vmap(function, dims)(*one), vmap(function, dims)(*none)
        if isinstance(actual, Tensor):
            expected, actual = (expected,), (actual,)
        assert [t.shape for t in actual] == [(0, *t.shape[1:]) for t in expected]


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", NAMES)
def test_vmap_is_differentiated_as_the_loop(name: str, window: Window) -> None:
    """Backwards through every batching rule, on integers: equal to the bit."""
    operands, function = functions(window)[name]
    for dims in batched(len(operands)):
        tensors = [
            examples(shapes(window)[operand], dim).requires_grad_()
            for operand, dim in zip(operands, dims, strict=True)
        ]
        gradients = []
        for run in (vmap(function, dims), loop(function, dims)):
            results = run(*tensors)
            results = (results,) if isinstance(results, Tensor) else results
            total = sum((result * integers(*result.shape)).sum() for result in results)
            gradients.append(torch.autograd.grad(total, tensors, materialize_grads=True))
        assert_equal(*gradients)


# ---- transforms of the functions and layers ------------------------------------------------------


def loss(x: Tensor, f: Tensor, b: Tensor, data_format: str) -> Tensor:
    """A cubic of the result: no derivative up to the second is constant."""
    return tfcompat_dw.depthwise_conv2d(x, f, 2, "SAME", data_format, bias=b).pow(3).sum()


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_per_sample_gradients_are_those_of_each_sample_alone(window: Window) -> None:
    data_format = "NHWC" if window.channels_last else "NCHW"
    shape = shapes(window)
    x, f, b = integers(4, *shape["input"]), integers(*shape["filter"]), integers(*shape["bias"])

    def gradients(x: Tensor, f: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return grad(loss, (0, 1, 2))(x, f, b, data_format)

    actual = vmap(gradients, (0, None, None))(x, f, b)
    samples = []
    for sample in x:
        leaves = [t.clone().requires_grad_() for t in (sample, f, b)]
        samples.append(torch.autograd.grad(loss(*leaves, data_format), leaves))
    assert_equal(actual, stack(samples))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("cls", [DepthwiseConv2D, SeparableConv2D])
def test_per_sample_gradients_and_ensembles_of_layers(cls: type, data_format: str) -> None:
    torch.manual_seed(0)
    sizes = (3, 4, 3) if cls is SeparableConv2D else (3, 3)
    layers = [
        cls(*sizes, 2, "same", data_format=data_format, dtype=torch.float64) for _ in range(3)
    ]
    x = torch.randn(5, 2, *((6, 7, 3) if data_format == "channels_last" else (3, 6, 7)))
    x = x.double()

    def of_sample(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.func.functional_call(layers[0], parameters, (sample,)).pow(2).sum()

    parameters = dict(layers[0].named_parameters())
    constants = {name: parameter.detach() for name, parameter in parameters.items()}
    actual = vmap(grad(of_sample), (None, 0))(constants, x)
    for i, sample in enumerate(x):
        expected = torch.autograd.grad(of_sample(parameters, sample), list(parameters.values()))
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(actual[name][i], gradient)

    stacked, _ = torch.func.stack_module_state(layers)
    results = vmap(lambda p: torch.func.functional_call(layers[0], p, (x[0],)))(stacked)
    torch.testing.assert_close(results, torch.stack([layer(x[0]) for layer in layers]))


@pytest.mark.parametrize("argument", [0, 1, 2])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_jacobians_and_hessians_agree_with_autograd(window: Window, argument: int) -> None:
    data_format = "NHWC" if window.channels_last else "NCHW"
    operands = [integers(*shapes(window)[name]) for name in ("input", "filter", "bias")]

    def output(x: Tensor, f: Tensor, b: Tensor) -> Tensor:
        return tfcompat_dw.depthwise_conv2d(x, f, 2, "SAME", data_format, bias=b)

    def of_argument(tensor: Tensor) -> Tensor:
        return output(*operands[:argument], tensor, *operands[argument + 1 :])

    expected = torch.autograd.functional.jacobian(of_argument, operands[argument])
    for jacobian in (jacrev, jacfwd):
        assert torch.equal(jacobian(output, argument)(*operands), expected)

    def of_scalar(tensor: Tensor) -> Tensor:
        return of_argument(tensor).pow(3).sum()

    expected = torch.autograd.functional.hessian(of_scalar, operands[argument])
    for second in (hessian, lambda f: jacrev(jacrev(f)), lambda f: jacrev(jacfwd(f))):
        assert torch.equal(second(of_scalar)(operands[argument]), expected)


def test_vmap_is_compiled_whole() -> None:
    def per_sample(x: Tensor, f: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return vmap(grad(loss, (0, 1, 2)), (0, None, None, None))(x, f, b, "NHWC")

    shape = shapes(WINDOWS["nhwc"])
    operands = (integers(3, *shape["input"]), integers(*shape["filter"]), integers(*shape["bias"]))
    compiled = torch.compile(per_sample, backend="aot_eager", fullgraph=True)
    assert_equal(compiled(*operands), per_sample(*operands))
