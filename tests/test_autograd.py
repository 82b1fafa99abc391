"""Derivatives of every operator, of the first and second order, reverse and forward mode."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

import tfcompat_dw
from tfcompat_dw.padding import Window

ops = torch.ops.tfcompat_dw

WINDOWS = {
    "same": Window((1, 1), (1, 1, 1, 1), (1, 1), True),
    "strided, nchw": Window((2, 2), (0, 1, 0, 1), (1, 1), False),
    "unequal and dilated": Window((2, 1), (1, 0, 2, 1), (1, 2), True),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors(window: Window, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Input, filter, bias and an output gradient; 3 channels, multiplier 2."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    height, width = window.output_size((4, 5), (3, 2))
    if window.channels_last:
        return leaf(2, 4, 5, 3), leaf(3, 2, 3, 2), leaf(6), leaf(2, height, width, 6)
    return leaf(2, 3, 4, 5), leaf(3, 2, 3, 2), leaf(6), leaf(2, 6, height, width)


def calls(window: Window) -> dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]]:
    """Every operator as a function of its tensors, with those tensors."""
    input, filter, bias, grad = tensors(window)
    input_size, filter_size = list(input.shape), list(filter.shape)
    return {
        "forward": (
            lambda x, f, b: ops.depthwise_conv2d(x, f, b, *window),
            (input, filter, bias),
        ),
        "forward without bias": (
            lambda x, f: ops.depthwise_conv2d(x, f, None, *window),
            (input, filter),
        ),
        "input gradient": (
            lambda f, g: ops.depthwise_conv2d_backward_input(input_size, f, g, *window),
            (filter, grad),
        ),
        "filter gradient": (
            lambda x, g: ops.depthwise_conv2d_backward_filter(x, filter_size, g, *window),
            (input, grad),
        ),
        "all gradients": (
            lambda x, f, g: ops.depthwise_conv2d_backward(x, f, g, *window, [True, True, True]),
            (input, filter, grad),
        ),
    }


NAMES = tuple(calls(WINDOWS["same"]))


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", NAMES)
def test_first_derivatives_are_numerically_right_in_both_modes(name: str, window: Window) -> None:
    function, arguments = calls(window)[name]
    assert gradcheck(function, arguments, check_forward_ad=True)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_numerically_right(name: str, window: Window) -> None:
    function, arguments = calls(window)[name]
    assert gradgradcheck(function, arguments, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_third_derivatives_are_those_of_pytorchs_own_convolution() -> None:
    """A cubic of the result, three directional derivatives in, on integers: equal to the bit."""
    generator = torch.Generator().manual_seed(0)
    window = WINDOWS["same"]
    operands = [
        torch.randint(-2, 3, t.shape, generator=generator).double().requires_grad_()
        for t in tensors(window)[:2]
    ]
    directions = [
        [torch.randint(-2, 3, t.shape, generator=generator).double() for t in operands]
        for _ in range(3)
    ]

    def ours(x: Tensor, f: Tensor) -> Tensor:
        return ops.depthwise_conv2d(x, f, None, *window)

    def stock(x: Tensor, f: Tensor) -> Tensor:
        weight = f.permute(2, 3, 0, 1).reshape(6, 1, 3, 2)
        padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (1, 1, 1, 1))
        return torch.nn.functional.conv2d(padded, weight, groups=3).permute(0, 2, 3, 1)

    def third(convolve: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        value = convolve(*operands).pow(3).sum()
        for direction in directions:
            gradients = torch.autograd.grad(value, operands, create_graph=True)
            value = sum((g * v).sum() for g, v in zip(gradients, direction, strict=True))
        return value

    assert third(ours) == third(stock) != 0


# ---- only what is asked for --------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    """The package's operators that ran, with the mask of the fused one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "tfcompat_dw":
            name = func._schema.name.removeprefix("tfcompat_dw::depthwise_conv2d")
            self.seen.append(name + (f" {args[-1]}" if name == "_backward" else ""))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("wanted", "operators"),
    [
        ((True, False, False), ["_backward_input"]),
        ((False, True, False), ["_backward_filter"]),
        ((False, False, True), ["_backward [False, False, True]"]),
        ((True, True, False), ["_backward [True, True, False]"]),
        ((False, True, True), ["_backward [False, True, True]"]),
        ((True, True, True), ["_backward [True, True, True]"]),
    ],
)
def test_only_the_gradients_asked_for_are_computed(
    wanted: tuple[bool, ...], operators: list[str]
) -> None:
    window = WINDOWS["same"]
    leaves = [
        tensor.detach().requires_grad_(is_wanted)
        for tensor, is_wanted in zip(tensors(window), wanted, strict=False)
    ]
    output = ops.depthwise_conv2d(*leaves, *window)
    with Recorder() as recorder:
        output.sum().backward()
    assert recorder.seen == operators
    assert [leaf.grad is not None for leaf in leaves] == list(wanted)


def test_nothing_is_recorded_where_no_gradient_is_wanted() -> None:
    window = WINDOWS["same"]
    input, filter, bias, _ = tensors(window)
    with torch.no_grad():
        assert ops.depthwise_conv2d(input, filter, bias, *window).grad_fn is None
    with torch.inference_mode():
        assert ops.depthwise_conv2d(input, filter, bias, *window).is_inference()
    detached = (input.detach(), filter.detach(), bias.detach())
    assert ops.depthwise_conv2d(*detached, *window).grad_fn is None


def test_only_inputs_are_saved_for_the_backward_pass() -> None:
    window = WINDOWS["same"]
    input, filter, bias, _ = tensors(window)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.data_ptr()) or tensor, lambda tensor: tensor
    ):
        ops.depthwise_conv2d(input, filter, bias, *window)
    assert set(saved) <= {input.data_ptr(), filter.data_ptr(), bias.data_ptr()}


# ---- through the public functions --------------------------------------------------------------


@pytest.mark.parametrize("strided_dilation", ["plain", "space_to_batch"])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_functions_pass_gradcheck(data_format: str, strided_dilation: str) -> None:
    window = WINDOWS["same"]._replace(channels_last=data_format == "NHWC")
    input, filter, bias, _ = tensors(window)

    def convolve(x: Tensor, f: Tensor, b: Tensor) -> Tensor:
        return tfcompat_dw.depthwise_conv2d(
            x, f, 2, "SAME", data_format, 2, bias=b, strided_dilation=strided_dilation
        )

    assert gradcheck(convolve, (input, filter, bias), check_forward_ad=True)
    assert gradgradcheck(convolve, (input, filter, bias))


def test_separable_passes_gradcheck() -> None:
    input, filter, _, _ = tensors(WINDOWS["same"])
    pointwise = torch.randn(1, 1, 6, 4, dtype=torch.float64, requires_grad=True)

    def convolve(x: Tensor, f: Tensor, p: Tensor) -> Tensor:
        return tfcompat_dw.separable_conv2d(x, f, p, [1, 2, 2, 1], "SAME")

    assert gradcheck(convolve, (input, filter, pointwise), check_forward_ad=True)
    assert gradgradcheck(convolve, (input, filter, pointwise))


def test_forward_mode_gives_the_directional_derivative() -> None:
    window = WINDOWS["unequal and dilated"]
    input, filter, bias, _ = (tensor.detach() for tensor in tensors(window))
    d_input, d_filter, d_bias = (torch.randn_like(t) for t in (input, filter, bias))
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(*pair)
            for pair in ((input, d_input), (filter, d_filter), (bias, d_bias))
        ]
        tangent = forward_ad.unpack_dual(ops.depthwise_conv2d(*duals, *window)).tangent
    expected = ops.depthwise_conv2d(d_input, filter, None, *window) + ops.depthwise_conv2d(
        input, d_filter, d_bias, *window
    )
    assert torch.allclose(tangent, expected, rtol=1e-13, atol=1e-13)  # sums of < 20 terms near 1


# ---- without PyTorch's private names ------------------------------------------------------------

FALLBACK = """
import sys
sys.path.insert(0, "tests")
import pytest, torch, torch._functorch.utils
del torch._functorch.utils.enable_single_level_autograd_function
import test_autograd as t
from torch.autograd import forward_ad, gradcheck, gradgradcheck

assert not t.tfcompat_dw.autograd.PRIVATE_NAMES_PRESENT
for name, (function, arguments) in t.calls(t.WINDOWS["unequal and dilated"]).items():
    assert gradcheck(function, arguments)
    assert gradgradcheck(function, arguments)
    constants = [argument.detach() for argument in arguments]
    for position, constant in enumerate(constants):
        with forward_ad.dual_level(), pytest.raises(RuntimeError) as refusal:
            dual = forward_ad.make_dual(constant, torch.ones_like(constant))
            function(*constants[:position], dual, *constants[position + 1 :])
        assert "forward-mode derivatives need private names" in str(refusal.value)
    with pytest.raises(RuntimeError, match="forward-mode derivatives need private names"):
        torch.func.jvp(function, tuple(constants), tuple(constants))
    with pytest.raises(RuntimeError, match="functorch"):
        torch.func.grad(lambda *a: sum(r.sum() for r in function(*a)))(*constants)
t.tfcompat_dw.show_config()
"""


def test_without_private_names_reverse_mode_works_and_the_rest_raises() -> None:
    run = subprocess.run([sys.executable, "-c", FALLBACK], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "torch.library.register_autograd (reverse mode only, no torch.func)" in run.stdout


# ---- fakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "other order", "sliced", "empty"])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str, channels_last: bool, layout: str, requires_grad: bool) -> None:
    """Schema, autograd registration, fakes with exact strides, and AOT dispatch, by PyTorch."""
    window = WINDOWS["unequal and dilated"]._replace(channels_last=channels_last)
    input, filter, bias, grad = (tensor.detach() for tensor in tensors(window, torch.float32))
    other = (0, 3, 1, 2) if channels_last else (0, 2, 3, 1)
    back = (0, 2, 3, 1) if channels_last else (0, 3, 1, 2)
    if layout == "other order":
        input, grad = (t.permute(other).contiguous().permute(back) for t in (input, grad))
    elif layout == "sliced":
        input, grad = (torch.cat([t, t])[::2] for t in (input, grad))
    elif layout == "empty":
        input, grad = input[:0], grad[:0]
    for tensor in (input, filter, bias, grad):
        tensor.requires_grad_(requires_grad)
    arguments = {
        "forward": (ops.depthwise_conv2d, (input, filter, bias)),
        "forward without bias": (ops.depthwise_conv2d, (input, filter, None)),
        "input gradient": (
            ops.depthwise_conv2d_backward_input,
            (list(input.shape), filter, grad),
        ),
        "filter gradient": (
            ops.depthwise_conv2d_backward_filter,
            (input, list(filter.shape), grad),
        ),
        "all gradients": (ops.depthwise_conv2d_backward, (input, filter, grad)),
    }
    op, operands = arguments[name]
    rest = ([True, True, True],) if name == "all gradients" else ()
    torch.library.opcheck(op.default, (*operands, *window, *rest))


# ---- autocast ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_its_dtype_and_gives_gradients_in_the_parameters(
    dtype: torch.dtype,
) -> None:
    window = WINDOWS["same"]
    leaves = [tensor.detach().requires_grad_() for tensor in tensors(window, torch.float32)[:3]]
    with torch.autocast("cpu", dtype):
        output = ops.depthwise_conv2d(*leaves, *window)
        with torch.autocast("cpu", enabled=False):
            assert ops.depthwise_conv2d(*leaves, *window).dtype == torch.float32
        double = [leaf.double() for leaf in leaves]
        assert ops.depthwise_conv2d(*double, *window).dtype == torch.float64
    assert torch.equal(output, ops.depthwise_conv2d(*(t.to(dtype) for t in leaves), *window))
    output.sum().backward()
    assert [leaf.grad.dtype for leaf in leaves] == [torch.float32] * 3
