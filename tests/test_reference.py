"""The plain-PyTorch operators, which the kernels are tested against, against plain loops."""

from __future__ import annotations

import random
from typing import NamedTuple

import brute_force
import numpy as np
import pytest
import torch

from tfcompat_dw import reference
from tfcompat_dw.layout import channels_last_in_memory
from tfcompat_dw.padding import Window

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class Call(NamedTuple):
    """Tensors, NHWC, whose values are exact in every dtype, and how they are convolved."""

    image: torch.Tensor
    filter: torch.Tensor
    grad: torch.Tensor
    window: Window
    case: brute_force.Case


def make_call(dtype: torch.dtype, seed: int) -> Call:
    """A random convolution: every parameter, windows wholly in the padding and empty results."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    sizes = [rng.randint(1, 7), rng.randint(1, 7)]
    kernel = [rng.randint(1, 4), rng.randint(1, 4)]
    stride = (rng.randint(1, 3), rng.randint(1, 3))
    dilation = (rng.randint(1, 3), rng.randint(1, 3))
    pads = [rng.randint(0, 5) for _ in range(4)]
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        pads[2 * axis] += max(0, reach - sizes[axis] - pads[2 * axis] - pads[2 * axis + 1])
    channels, multiplier = rng.randint(1, 3), rng.randint(1, 3)
    rows, columns = (
        brute_force.plain(
            sizes[axis], kernel[axis], stride[axis], dilation[axis], *pads[2 * axis : 2 * axis + 2]
        )
        for axis in (0, 1)
    )

    def tensor(*shape: int) -> torch.Tensor:
        # bfloat16's 8 bits are the fewest: what they hold, all dtypes hold.
        return torch.randn(shape, generator=generator).to(torch.bfloat16).to(dtype)

    batch = rng.randint(1, 2)
    image = tensor(batch, *sizes, channels)
    filter = tensor(*kernel, channels, multiplier)
    grad = tensor(batch, rows.outputs, columns.outputs, channels * multiplier)
    values = (t.to(torch.float64).numpy() for t in (image, filter, grad))
    window = Window(stride, (pads[0], pads[1], pads[2], pads[3]), dilation, True)
    return Call(image, filter, grad, window, brute_force.Case(*values, rows, columns))


def to_nchw(nhwc: torch.Tensor) -> torch.Tensor:
    return nhwc.permute(0, 3, 1, 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_all_three_operators_are_exact_up_to_summation_and_one_rounding(dtype):
    for seed in range(60):
        image, filter, grad, window, case = make_call(dtype, seed)
        case.check(
            reference.depthwise_conv2d(image, filter, None, *window),
            reference.depthwise_conv2d_backward_input(image.shape, filter, grad, *window),
            reference.depthwise_conv2d_backward_filter(image, filter.shape, grad, *window),
        )


@pytest.mark.parametrize("stored", ["NHWC", "NCHW"])
def test_nchw_axes_give_the_same_in_either_memory_order(stored):
    for seed in range(30):
        image, filter, grad, window, case = make_call(torch.float32, seed)
        window = window._replace(channels_last=False)
        image, grad = to_nchw(image), to_nchw(grad)
        if stored == "NCHW":
            image, grad = image.contiguous(), grad.contiguous()
        result = reference.depthwise_conv2d(image, filter, None, *window)
        input_grad = reference.depthwise_conv2d_backward_input(image.shape, filter, grad, *window)
        case.check(
            result.permute(0, 2, 3, 1),
            input_grad.permute(0, 2, 3, 1),
            reference.depthwise_conv2d_backward_filter(image, filter.shape, grad, *window),
        )


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("stored_channels_last", [True, False])
def test_results_are_dense_in_the_memory_order_of_the_image_they_follow(
    channels_last, stored_channels_last
):
    def image(*nchw: int) -> torch.Tensor:
        tensor = torch.randn(nchw)
        if stored_channels_last:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.permute(0, 2, 3, 1) if channels_last else tensor

    def is_dense(tensor: torch.Tensor) -> bool:
        nchw = tensor.permute(0, 3, 1, 2) if channels_last else tensor
        order = torch.channels_last if stored_channels_last else torch.contiguous_format
        return nchw.is_contiguous(memory_format=order)

    window = Window((2, 1), (1, 0, 2, 1), (1, 1), channels_last)
    x, filter, g = image(2, 3, 7, 6), torch.randn(3, 2, 3, 2), image(2, 6, 3, 8)
    assert is_dense(reference.depthwise_conv2d(x, filter, None, *window))
    assert is_dense(reference.depthwise_conv2d_backward_input(x.shape, filter, g, *window))
    assert reference.depthwise_conv2d_backward_filter(x, filter.shape, g, *window).is_contiguous()
    # A slice is dense in neither order, and is taken for the one it was cut from.
    sliced = x[:, :, 1:] if channels_last else x[:, :, :, 1:]
    assert channels_last_in_memory(sliced, channels_last) == stored_channels_last
    assert is_dense(reference.depthwise_conv2d(sliced, filter, None, *window))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("poison", [float("inf"), float("nan")])
def test_padded_taps_add_nothing_even_if_the_filter_or_gradient_is_not_finite(dtype, poison):
    window = Window((1, 1), (1, 1, 1, 1), (1, 1), True)
    ones = torch.ones(1, 4, 4, 1, dtype=dtype)
    filter = torch.ones(3, 3, 1, 1, dtype=dtype)
    filter[0, 0] = poison
    # The tap above and to the left meets the input everywhere but in the first row and column.
    result = reference.depthwise_conv2d(ones, filter, None, *window)[0, :, :, 0]
    assert result[0].tolist() == [4, 6, 6, 4]
    assert result[:, 0].tolist() == [4, 6, 6, 4]
    assert not result[1:, 1:].isfinite().any()
    # An input hears of it through the output below and to the right of it.
    grad = reference.depthwise_conv2d_backward_input((1, 4, 4, 1), filter, ones, *window)
    assert grad[0, 3, :, 0].tolist() == [4, 6, 6, 4]
    assert grad[0, :, 3, 0].tolist() == [4, 6, 6, 4]
    assert not grad[0, :3, :3].isfinite().any()
    # The output in the corner is read by the four taps that are inside there.
    corner = ones.clone()
    corner[0, 0, 0] = poison
    taps = reference.depthwise_conv2d_backward_filter(ones, (3, 3, 1, 1), corner, *window)
    assert taps[0, :, 0, 0].tolist() == [9, 12, 9]
    assert taps[:, 0, 0, 0].tolist() == [9, 12, 9]
    assert not taps[1:, 1:].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_sums_are_float32_with_one_rounding(dtype):
    # Summed in its own dtype, bfloat16 would stop at 256 and float16 at 2048.
    ones = torch.ones(1, 64, 64, 1, dtype=dtype)
    window = Window((1, 1), (0, 0, 0, 0), (1, 1), True)
    filter = reference.depthwise_conv2d_backward_filter(ones, (1, 1, 1, 1), ones, *window)
    assert filter.item() == 4096
    assert (
        reference.depthwise_conv2d(ones, ones.reshape(64, 64, 1, 1), None, *window).item() == 4096
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_bias_is_added_before_the_rounding(dtype):
    half_unit = torch.finfo(dtype).eps / 2
    image = torch.tensor([1.0, half_unit / 2]).to(dtype).reshape(1, 1, 2, 1)
    filter = torch.ones(1, 2, 1, 1, dtype=dtype)
    bias = torch.tensor([half_unit]).to(dtype)
    window = Window((1, 1), (0, 0, 0, 0), (1, 1), True)
    result = reference.depthwise_conv2d(image, filter, bias, *window)
    # 1 + 3/4 of a unit rounds up; 1 + 1/4 rounds down to 1, and 1 + 1/2 from there to even, 1.
    assert result.item() == 1 + 2 * half_unit


def test_empty_sizes_give_empty_results_and_zero_gradients():
    window = Window((1, 1), (1, 1, 1, 1), (1, 1), True)
    for batch, channels, multiplier in [(0, 2, 3), (2, 0, 3), (2, 2, 0)]:
        image = torch.ones(batch, 4, 5, channels)
        filter = torch.ones(3, 3, channels, multiplier)
        grad = torch.ones(batch, 4, 5, channels * multiplier)
        result = reference.depthwise_conv2d(image, filter, None, *window)
        assert result.shape == grad.shape
        for gradient, like in (
            (reference.depthwise_conv2d_backward_input(image.shape, filter, grad, *window), image),
            (
                reference.depthwise_conv2d_backward_filter(image, filter.shape, grad, *window),
                filter,
            ),
        ):
            assert gradient.shape == like.shape
            assert torch.equal(gradient, torch.zeros_like(like))


def test_hand_computed_gradients():
    # x = 1..12, f = 1..16, g = 1..8, VALID: the values are TensorFlow 2.21's.
    image = torch.arange(1.0, 13).reshape(1, 2, 3, 2)
    filter = torch.arange(1.0, 17).reshape(2, 2, 2, 2)
    grad = torch.arange(1.0, 9).reshape(1, 1, 2, 4)
    window = Window((1, 1), (0, 0, 0, 0), (1, 1), True)
    input_grad = reference.depthwise_conv2d_backward_input(image.shape, filter, grad, *window)
    filter_grad = reference.depthwise_conv2d_backward_filter(image, filter.shape, grad, *window)
    assert input_grad.tolist() == [
        [[[5, 25], [34, 106], [61, 113]], [[29, 81], [146, 282], [149, 233]]]
    ]
    assert filter_grad.tolist() == [
        [[[16, 20], [34, 40]], [[28, 36], [54, 64]]],
        [[[52, 68], [94, 112]], [[64, 84], [114, 136]]],
    ]


def test_brute_force_agrees_with_a_convolution_written_out():
    # One output of two taps, so that the oracle itself is not taken on trust.
    rows = brute_force.plain(1, 1, 1, 1, 0, 0)
    columns = brute_force.plain(3, 2, 2, 2, 1, 0)
    image = np.array([2.0, 3.0, 5.0]).reshape(1, 1, 3, 1)
    filter = np.array([7.0, 11.0]).reshape(1, 2, 1, 1)
    # Positions -1 (padding) and 1.
    assert brute_force.forward(image, filter, rows, columns).tolist() == [[[[33.0]]]]
