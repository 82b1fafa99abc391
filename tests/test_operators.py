"""The raw operators: exact results in every memory order, and clean refusals of any nonsense."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import DTYPES, ORDERS, Problem, integers, random_problem, stored
from torch import Tensor

import tfcompat_dw
from tfcompat_dw import reference
from tfcompat_dw.padding import Window

ops = torch.ops.tfcompat_dw
PLAIN = Window((1, 1), (1, 1, 1, 1), (1, 1), True)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def assert_exact(problem: Problem) -> None:
    results, expected = problem.results(), problem.expected()
    for name, value in expected.items():
        assert torch.equal(results[name], value), (name, problem.window, problem.input.shape)


@pytest.mark.parametrize("seed", range(40))
def test_all_passes_are_exact_on_integers(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(15):
        assert_exact(random_problem(generator))


INSTRUCTION_SETS = ["baseline", "avx2", "avx512", "avx512bf16"]


def run_with(isa: str, script: str) -> None:
    """Runs a program with the kernels of one instruction set."""
    head = (
        "import random, sys; sys.path.insert(0, 'tests')\n"
        "import tfcompat_dw.library as library, test_operators as t\n"
        f"assert library.CPU_ISA == '{isa}', library.CPU_ISA\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", head + script],
        env={"TFCOMPAT_DW_ISA": isa, "PATH": "", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    if f"'{isa}', but this processor and build offer" in run.stderr:
        pytest.skip(f"this processor or build has no {isa}")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_instruction_set_is_exact_on_integers(isa: str) -> None:
    run_with(
        isa,
        "generator = random.Random(7)\n"
        "for _ in range(200): t.assert_exact(t.random_problem(generator))\n",
    )


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_bfloat16_product_is_rounded_once_denormals_and_nans_included(isa: str) -> None:
    run_with(isa, "t.assert_products_are_rounded()\n")


def assert_products_are_rounded() -> None:
    """Every bfloat16 number times a weight, in one tap: exact in float32, then rounded as torch."""
    numbers = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    for memory_order in ((1, 256, 16, 16), (1, 64, 64, 16)):
        x = numbers.reshape(memory_order)
        for weight in (1.0, -1.0, 0.99609375, 1.0078125, 3.0, 2.0**-130, 2.0**127):
            filter = torch.full((1, 1, 16, 1), weight, dtype=torch.bfloat16)
            y = torch.ops.tfcompat_dw.depthwise_conv2d(
                x, filter, None, [1, 1], [0, 0, 0, 0], [1, 1], True
            )
            expected = (x.float() * filter[0, 0, 0, 0].float()).bfloat16()
            assert torch.equal(y.isnan(), expected.isnan())
            assert bool(((y == expected) | expected.isnan()).all()), weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("size", "dilation"), [((3, 57, 61, 256), 1), ((2, 90, 121, 224), 3), ((5, 64, 64, 144), 1)]
)
def test_16_bit_results_beyond_the_caches_are_those_of_float32_rounded(
    size: tuple[int, int, int, int], dilation: int, dtype: torch.dtype
) -> None:
    """Small integers: every sum is exact, so the order of adding does not matter.  8 MiB is far."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randint(-8, 9, size, generator=generator).to(dtype)
    filter = torch.randint(-8, 9, (3, 3, size[3], 1), generator=generator).to(dtype)
    assert 2 * x.numel() * x.element_size() > 8 << 20
    window = ([1, 1], [dilation] * 4, [dilation] * 2, True)
    forward = torch.ops.tfcompat_dw.depthwise_conv2d
    backward = torch.ops.tfcompat_dw.depthwise_conv2d_backward_input
    expected = forward(x.float(), filter.float(), None, *window).to(dtype)
    assert torch.equal(forward(x, filter, None, *window), expected)
    expected = backward(size, filter.float(), x.float(), *window).to(dtype)
    assert torch.equal(backward(size, filter, x, *window), expected)


def test_sizes_at_which_work_is_split_are_exact() -> None:
    """Many channels (chunks of channels), tall images (blocks of rows), batches (groups)."""
    generator = random.Random(3)
    for channels_last, order, size in [
        (True, "nhwc", (2, 5, 6, 300)),
        (True, "nhwc", (9, 40, 30, 8)),
        (False, "nchw", (2, 3, 90, 70)),
        (False, "nchw", (9, 4, 40, 9)),
    ]:
        for kernel, stride, multiplier in [((3, 3), (1, 1), 1), ((5, 4), (2, 3), 2)]:
            window = Window(stride, (2, 1, 1, 2), (1, 1), channels_last)
            depth = size[3 if channels_last else 1]
            space = window.output_size(window.rows_and_columns(size), kernel)
            shape = (
                (size[0], *space, depth * multiplier)
                if channels_last
                else (size[0], depth * multiplier, *space)
            )
            problem = Problem(
                stored(integers(size, torch.float32, generator), order, channels_last),
                integers((*kernel, depth, multiplier), torch.float32, generator),
                integers((depth * multiplier,), torch.float32, generator),
                stored(integers(shape, torch.float32, generator), order, channels_last),
                window,
            )
            assert_exact(problem)


# ---- memory order ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("channels", [1, 5, 16, 37])
def test_filter_may_lie_in_memory_in_any_way(
    channels: int, multiplier: int, dtype: torch.dtype
) -> None:
    """Each order of its axes, slices and repeated values, against the same filter made dense."""
    generator = random.Random(7)
    input = integers((2, 5, 6, channels), dtype, generator)
    grad = integers((2, 5, 6, channels * multiplier), dtype, generator)
    dense = integers((3, 2, channels, multiplier), dtype, generator)
    window = Window((1, 1), (1, 1, 0, 1), (1, 1), True)
    filters = [
        dense.permute(order).contiguous().permute([order.index(axis) for axis in range(4)])
        for order in itertools.permutations(range(4))
    ]
    filters.append(dense.repeat_interleave(2, 2).repeat(2, 1, 1, 2)[3:, :, ::2, multiplier:])
    filters.append(dense[:, :1, :1].expand(dense.shape))
    filters.append(dense[..., :1].expand(dense.shape))
    for filter in filters:
        copy = filter.clone(memory_format=torch.contiguous_format)
        assert torch.equal(
            ops.depthwise_conv2d(input, filter, None, *window),
            ops.depthwise_conv2d(input, copy, None, *window),
        )
        assert torch.equal(
            ops.depthwise_conv2d_backward_input(input.shape, filter, grad, *window),
            ops.depthwise_conv2d_backward_input(input.shape, copy, grad, *window),
        )
        for ours, expected in zip(
            ops.depthwise_conv2d_backward(input, filter, grad, *window, [True] * 3),
            ops.depthwise_conv2d_backward(input, copy, grad, *window, [True] * 3),
            strict=True,
        ):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("order", ["nhwc", "nchw"])
def test_results_keep_the_memory_order_of_their_source(order: str, channels_last: bool) -> None:
    generator = random.Random(0)
    shape = (2, 5, 6, 3) if channels_last else (2, 3, 5, 6)
    other = "nchw" if order == "nhwc" else "nhwc"
    input = stored(integers(shape, torch.float32, generator), order, channels_last)
    grad = stored(integers(shape, torch.float32, generator), other, channels_last)
    filter = integers((3, 3, 3, 1), torch.float32, generator)
    window = PLAIN._replace(channels_last=channels_last)
    output = ops.depthwise_conv2d(input, filter, None, *window)
    d_input, d_filter, _ = ops.depthwise_conv2d_backward(
        input, filter, grad, *window, [True, True, False]
    )
    assert output.stride() == input.stride()
    assert d_input.stride() == grad.stride()
    assert d_filter.is_contiguous()


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [((2, 5, 6, 1), True), ((2, 1, 5, 6), False), ((2, 1, 1, 4), True), ((2, 4, 1, 1), False)],
)
def test_strides_that_fit_both_orders_count_as_what_the_axes_say(
    shape: tuple[int, ...], channels_last: bool
) -> None:
    depth = shape[3 if channels_last else 1]
    filter = torch.ones(1, 1, depth, 2)
    window = Window((1, 1), (0, 0, 0, 0), (1, 1), channels_last)
    assert ops.depthwise_conv2d(torch.ones(shape), filter, None, *window).is_contiguous()


@pytest.mark.parametrize("order", ORDERS)
def test_values_beside_a_view_are_never_read(order: str) -> None:
    """The view lies at every offset from a vector boundary, NaN on both sides of it."""
    generator = random.Random(1)
    values = integers((1, 3, 5, 3), torch.float32, generator)
    filter = integers((3, 3, 3, 2), torch.float32, generator)
    expected = reference.depthwise_conv2d(values, filter, None, *PLAIN)
    for offset in range(20):
        buffer = torch.full((offset + values.numel() + 20,), torch.nan)
        view = buffer[offset : offset + values.numel()].view(values.shape)
        view.copy_(values)
        result = ops.depthwise_conv2d(stored(view, order, True), filter, None, *PLAIN)
        assert torch.equal(result, expected)


# ---- what is written, and by whom --------------------------------------------------------------


def test_every_element_of_every_result_is_written() -> None:
    """The allocator hands out memory again that was full of NaN, so what is left out shows."""
    generator = random.Random(11)
    reused = 0
    for _ in range(100):
        problem = random_problem(generator)
        values = 4 * list(problem.results().values())
        poison = [torch.full_like(value, math.nan) for value in values]
        freed = {value.data_ptr() for value in poison}
        del poison
        for name, value in problem.results().items():
            reused += value.data_ptr() in freed
            assert not value.isnan().any(), (name, problem.window)
    assert reused > 100, reused


def test_inputs_are_never_written() -> None:
    generator = random.Random(12)
    for _ in range(50):
        problem = random_problem(generator)
        tensors = (problem.input, problem.filter, problem.bias, problem.grad)
        before = [tensor.clone() for tensor in tensors]
        problem.results()
        assert all(map(torch.equal, tensors, before))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_results_are_bitwise_the_same_for_any_number_of_threads(
    dtype: torch.dtype, channels_last: bool
) -> None:
    torch.manual_seed(0)
    shape = (3, 33, 40, 40) if channels_last else (3, 40, 33, 40)
    window = PLAIN._replace(channels_last=channels_last)
    problem = Problem(
        torch.randn(shape).to(dtype),
        torch.randn(3, 3, 40, 1).to(dtype),
        torch.randn(40).to(dtype),
        torch.randn(shape).to(dtype),
        window,
    )
    torch.set_num_threads(1)
    once = problem.results()
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        for name, value in problem.results().items():
            assert torch.equal(value, once[name]), (name, threads)


# ---- numbers that are not finite ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("order", ["nhwc", "nchw"])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_padded_taps_add_exactly_nothing(
    value: float, order: str, channels_last: bool, dtype: torch.dtype
) -> None:
    generator = random.Random(5)
    for stride in ((1, 1), (2, 3)):
        window = Window(stride, (2, 1, 1, 2), (1, 2), channels_last)
        for where in ("input", "filter", "grad"):
            shape = (1, 6, 7, 3) if channels_last else (1, 3, 6, 7)
            height, width = window.output_size((6, 7), (3, 3))
            grad_shape = (1, height, width, 6) if channels_last else (1, 6, height, width)
            tensors = {
                "input": stored(integers(shape, dtype, generator), order, channels_last),
                "filter": integers((3, 3, 3, 2), dtype, generator),
                "bias": integers((6,), dtype, generator),
                "grad": stored(integers(grad_shape, dtype, generator), order, channels_last),
            }
            tensors[where][0, 0, 0, 0] = value
            problem = Problem(**tensors, window=window)
            results, expected = problem.results(), problem.expected()
            for name, exact in expected.items():
                assert torch.equal(results[name].nan_to_num(99), exact.nan_to_num(99)), (
                    name,
                    where,
                )


# ---- nonsense ----------------------------------------------------------------------------------

tensor_like = st.builds(
    lambda sizes, dtype, transposed: (
        torch.ones(sizes, dtype=dtype).transpose(0, -1)
        if transposed and sizes
        else torch.ones(sizes, dtype=dtype)
    ),
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from([torch.float32, torch.float32, torch.float32, torch.float16, torch.int32]),
    st.booleans(),
)
number = st.one_of(
    st.integers(-2, 4), st.sampled_from([2**31 - 1, 2**31, 2**40, 2**62, -(2**62), 2**63 - 1])
)
numbers = st.one_of(
    st.lists(number, max_size=5), st.lists(st.integers(1, 2), min_size=2, max_size=2)
)
plausible_padding = st.lists(st.integers(0, 3), min_size=4, max_size=4)
window_like = st.tuples(numbers, st.one_of(numbers, plausible_padding), numbers, st.booleans())
sizes_like = st.one_of(numbers, st.lists(st.integers(0, 4), min_size=4, max_size=4))
REFUSALS = (RuntimeError, TypeError, ValueError, OverflowError, MemoryError)


@pytest.mark.filterwarnings("ignore:tfcompat_dw has no kernels for device type 'cpu'")
@settings(max_examples=400, deadline=None, derandomize=True)
@given(tensor_like, tensor_like, st.none() | tensor_like, tensor_like, window_like, sizes_like)
def test_nonsense_is_refused_or_computed_alike_by_kernel_fake_and_reference(
    input: Tensor,
    filter: Tensor,
    bias: Tensor | None,
    grad: Tensor,
    window: tuple,
    sizes: list[int],
) -> None:
    for name, arguments in {
        "depthwise_conv2d": (input, filter, bias, *window),
        "depthwise_conv2d_backward_input": (sizes, filter, grad, *window),
        "depthwise_conv2d_backward_filter": (input, sizes, grad, *window),
        "depthwise_conv2d_backward": (input, filter, grad, *window, [True, True, True]),
    }.items():
        kernel = outcome("kernel", name, arguments)
        fake = outcome("fake", name, arguments)
        if "aten::new_empty" in kernel:  # no memory, of which a fake needs none
            continue
        assert fake == kernel
        assert outcome("other device", name, arguments) == kernel


def outcome(way: str, name: str, arguments: tuple[Any, ...]) -> str:
    """The sizes and strides of the results, or the refusal."""
    try:
        results = WAYS[way](name, arguments)
    except REFUSALS as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    results = [results] if isinstance(results, Tensor) else results
    return str([(result.shape, result.stride()) for result in results])


IMAGE, FILTER = torch.ones(1, 4, 4, 2), torch.ones(3, 3, 2, 1)
BIG = 2**31 - 1
REFUSED = {
    "rank": (
        "depthwise_conv2d",
        (IMAGE[0], FILTER, None, *PLAIN),
        "input must have 4 dimensions, got 3",
    ),
    "filter rank": (
        "depthwise_conv2d",
        (IMAGE, FILTER[0], None, *PLAIN),
        "filter must have 4 dimensions, got 3",
    ),
    "dtype": (
        "depthwise_conv2d",
        (IMAGE.int(), FILTER.int(), None, *PLAIN),
        "input must be float64, float32, bfloat16 or float16",
    ),
    "mixed dtypes": (
        "depthwise_conv2d",
        (IMAGE, FILTER.double(), None, *PLAIN),
        "all tensors must have one dtype; filter differs",
    ),
    "channels": (
        "depthwise_conv2d",
        (IMAGE, torch.ones(3, 3, 3, 1), None, *PLAIN),
        "the filter is for 3 input channels, the input has 2",
    ),
    "bias": (
        "depthwise_conv2d",
        (IMAGE, FILTER, torch.ones(3), *PLAIN),
        "bias must have 2 elements, got 3",
    ),
    "stride": (
        "depthwise_conv2d",
        (IMAGE, FILTER, None, *PLAIN._replace(stride=(0, 1))),
        "stride must be in [1, 2147483647], got [0, 1]",
    ),
    "stride length": (
        "depthwise_conv2d",
        (IMAGE, FILTER, None, *PLAIN._replace(stride=(1,) * 3)),
        "stride must hold 2 integers, got [1, 1, 1]",
    ),
    "padding": (
        "depthwise_conv2d",
        (IMAGE, FILTER, None, *PLAIN._replace(padding=(0, 0, -1, 0))),
        "padding must be in [0, 2147483647], got [0, 0, -1, 0]",
    ),
    "window": (
        "depthwise_conv2d",
        (IMAGE, FILTER, None, *PLAIN._replace(dilation=(9, 1))),
        "a window of 19 rows does not fit into 4 + 1 + 1 padded ones",
    ),
    "empty kernel": (
        "depthwise_conv2d",
        (IMAGE, torch.ones(0, 3, 2, 1), None, *PLAIN),
        "the filter's rows must be in [1, 2147483647], got 0",
    ),
    "grad size": (
        "depthwise_conv2d_backward_input",
        ([1, 4, 4, 2], FILTER, IMAGE[:, :3], *PLAIN),
        "grad must have the forward result's size [1, 4, 4, 2], got [1, 3, 4, 2]",
    ),
    "negative size": (
        "depthwise_conv2d_backward_input",
        ([1, -4, 4, 2], FILTER, IMAGE, *PLAIN),
        "input_size must not be negative, got [1, -4, 4, 2]",
    ),
    "64-bit overflow": (
        "depthwise_conv2d_backward_input",
        ([2**40, 4, 2**40, 2], FILTER, IMAGE, *PLAIN),
        "the sizes of this call exceed 64-bit arithmetic",
    ),
    "channels times multiplier": (
        "depthwise_conv2d_backward_filter",
        (torch.ones(0, 4, 4, 2**40), [3, 3, 2**40, 2**40], IMAGE, *PLAIN),
        "the sizes of this call exceed 64-bit arithmetic",
    ),
    "windows beyond 64 bits": (
        "depthwise_conv2d",
        (IMAGE, FILTER, None, *PLAIN._replace(padding=(BIG,) * 4)),
        "the sizes of this call exceed 64-bit arithmetic",
    ),
    "padded size beyond 64 bits": (
        "depthwise_conv2d_backward_input",
        ([1, 2**63 - 1, 4, 2], FILTER, IMAGE, *PLAIN),
        "the padded rows exceed 64-bit arithmetic",
    ),
    "short mask": (
        "depthwise_conv2d_backward",
        (IMAGE, FILTER, IMAGE, *PLAIN, [True]),
        "mask must hold 3 booleans, got 1",
    ),
    "long mask": (
        "depthwise_conv2d_backward",
        (IMAGE, FILTER, IMAGE, *PLAIN, [True] * 4),
        "mask must hold 3 booleans, got 4",
    ),
    "sparse": (
        "depthwise_conv2d",
        (IMAGE.to_sparse(), FILTER, None, *PLAIN),
        "input must be dense (torch.strided), got torch.sparse_coo; convert with .to_dense()",
    ),
}


def on_meta(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.to("meta") if isinstance(a, Tensor) else a for a in arguments)


WAYS: dict[str, Callable[[str, tuple[Any, ...]], Any]] = {
    "kernel": lambda name, arguments: getattr(ops, name)(*arguments),
    "fake": lambda name, arguments: getattr(ops, name)(*on_meta(arguments)),
    "other device": lambda name, arguments: tfcompat_dw.ops._on_other_device(name)(*arguments),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", REFUSED)
def test_direct_callers_are_told_what_is_wrong(case: str, way: str) -> None:
    name, arguments, text = REFUSED[case]
    with pytest.raises(RuntimeError) as caught:
        WAYS[way](name, arguments)
    assert str(caught.value) == f"tfcompat_dw::{name}: {text}"


def test_a_result_too_large_for_memory_is_an_error() -> None:
    window = PLAIN._replace(padding=(BIG, BIG, 2**20, 0))  # 2^55 bytes
    with pytest.raises(RuntimeError, match=r"no memory for a tensor of size \[1, "):
        ops.depthwise_conv2d(IMAGE, FILTER, None, *window)


OPERANDS = {
    "depthwise_conv2d": {"input": IMAGE, "filter": FILTER, "bias": torch.ones(2)},
    "depthwise_conv2d_backward_input": {
        "input_size": [1, 4, 4, 2],
        "filter": FILTER,
        "grad": IMAGE,
    },
    "depthwise_conv2d_backward_filter": {
        "input": IMAGE,
        "filter_size": [3, 3, 2, 1],
        "grad": IMAGE,
    },
    "depthwise_conv2d_backward": {"input": IMAGE, "filter": FILTER, "grad": IMAGE},
}


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        (name, operand)
        for name, operands in OPERANDS.items()
        for operand, value in operands.items()
        if isinstance(value, Tensor)
    ],
)
def test_tensors_on_two_devices_are_refused(name: str, moved: str) -> None:
    operands = OPERANDS[name] | {moved: OPERANDS[name][moved].to("meta")}
    rest = ([True] * 3,) if name == "depthwise_conv2d_backward" else ()
    arguments = (*operands.values(), *PLAIN, *rest)
    for call in (getattr(ops, name), tfcompat_dw.ops._on_other_device(name)):
        with pytest.raises(
            RuntimeError, match=r"all tensors must be on one device; \w+ is on \w+, \w+ on \w+$"
        ):
            call(*arguments)


def test_nothing_in_nothing_out() -> None:
    for batch, depth, multiplier in [(0, 2, 1), (1, 0, 1), (1, 2, 0)]:
        input, filter = torch.ones(batch, 4, 4, depth), torch.ones(3, 3, depth, multiplier)
        output = ops.depthwise_conv2d(input, filter, None, *PLAIN)
        assert output.shape == (batch, 4, 4, depth * multiplier)
        d_input, d_filter, d_bias = ops.depthwise_conv2d_backward(
            input, filter, output, *PLAIN, [True, True, True]
        )
        for gradient, like in [(d_input, input), (d_filter, filter)]:
            assert torch.equal(gradient, torch.zeros_like(like))
        assert torch.equal(d_bias, torch.zeros(depth * multiplier))


# ---- other devices -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", tfcompat_dw.ops._FALLBACKS)
def test_devices_without_kernels_get_the_reference_with_one_warning(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = random_problem(random.Random(2))
    arguments = {
        "depthwise_conv2d": (problem.input, problem.filter, problem.bias, *problem.window),
        "depthwise_conv2d_backward_input": (
            list(problem.input.shape),
            problem.filter,
            problem.grad,
            *problem.window,
        ),
        "depthwise_conv2d_backward_filter": (
            problem.input,
            list(problem.filter.shape),
            problem.grad,
            *problem.window,
        ),
        "depthwise_conv2d_backward": (
            problem.input,
            problem.filter,
            problem.grad,
            *problem.window,
            [True, True, True],
        ),
    }[name]
    assert torch._C._dispatch_has_computed_kernel_for_dispatch_key(f"tfcompat_dw::{name}", "XPU")
    monkeypatch.setattr(tfcompat_dw.ops, "_warned", set())
    fallback = tfcompat_dw.ops._on_other_device(name)
    with pytest.warns(UserWarning, match="has no kernels for device type 'cpu'"):
        results = fallback(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fallback(*arguments)
    expected = getattr(ops, name)(*arguments)
    if isinstance(results, Tensor):
        results, expected = (results,), (expected,)
    for result, value in zip(results, expected, strict=True):
        assert torch.equal(result, value)
        assert result.stride() == value.stride()


def test_a_cuda_tensor_is_refused_with_the_remedy() -> None:
    """No GPU is needed: a tensor subclass claims the device, the fallback answers."""

    class OnCuda(Tensor):
        device = torch.device("cuda")

    with pytest.raises(RuntimeError, match=r"this build has no CUDA kernels; .* \.cpu\(\)"):
        tfcompat_dw.ops._on_other_device("depthwise_conv2d")(
            IMAGE.as_subclass(OnCuda), FILTER.as_subclass(OnCuda), None, *PLAIN
        )


def test_scratch_stays_in_proportion_to_the_tensors() -> None:
    """Wide steps and much padding: laid out flat, this call would take 24 GB."""
    input, filter = torch.ones(1, 1, 1, 1), torch.ones(30, 30, 1, 1)
    window = Window((30, 30), (29, 0, 10**7, 10**7), (1, 1), False)
    output = ops.depthwise_conv2d(input, filter, None, *window)
    assert output.sum() == 1
    gradients = ops.depthwise_conv2d_backward(
        input, filter, torch.ones_like(output), *window, [True, True, False]
    )
    assert [gradient.sum() for gradient in gradients[:2]] == [1, 1]
