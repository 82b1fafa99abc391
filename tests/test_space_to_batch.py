"""``strided_dilation="space_to_batch"`` against what its name says, done literally."""

from __future__ import annotations

import random

import brute_force
import pytest
import torch

from tfcompat_dw import (
    depthwise_conv2d,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class Call:
    """A random convolution with a stride and a dilation, in any data format and memory order."""

    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        rng = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        sizes = (rng.randint(1, 9), rng.randint(1, 9))
        kernel = (rng.randint(1, 4), rng.randint(1, 4))
        stride = rng.choice([(2, 2), (3, 1), (1, 2), (2, 3), (5, 2)])
        dilation = rng.choice([(2, 2), (1, 3), (2, 1), (3, 2), (4, 4), (12, 2)])
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        pads = {
            # SAME is that of stride 1.
            "SAME": [pad for r in reach for pad in ((r - 1) // 2, r // 2)],
            "VALID": [0, 0, 0, 0],
            "explicit": [rng.randint(0, 4) for _ in range(4)],
        }
        padding = rng.choice(list(pads))
        top, bottom, left, right = pads[padding]
        self.fits = reach[0] <= sizes[0] + top + bottom and reach[1] <= sizes[1] + left + right
        self.rows = brute_force.space_to_batch(
            sizes[0], kernel[0], stride[0], dilation[0], top, bottom
        )
        self.columns = brute_force.space_to_batch(
            sizes[1], kernel[1], stride[1], dilation[1], left, right
        )
        self.data_format = rng.choice(["NHWC", "NCHW"])
        self.stored = rng.choice(["NHWC", "NCHW"])
        pairs = [(top, bottom), (left, right)]
        outside = (0, 0)
        ordered = (
            [outside, *pairs, outside] if self.data_format == "NHWC" else [outside, outside, *pairs]
        )
        self.arguments = {
            "strides": stride,
            "padding": ordered if padding == "explicit" else padding,
            "data_format": self.data_format,
            "dilations": dilation,
            "strided_dilation": "space_to_batch",
        }

        def tensor(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator).to(torch.bfloat16).to(dtype)

        channels, multiplier, batch = rng.randint(1, 3), rng.randint(1, 2), rng.randint(1, 2)
        image = tensor(batch, *sizes, channels)
        self.filter = tensor(*kernel, channels, multiplier)
        grad = tensor(batch, self.rows.outputs, self.columns.outputs, channels * multiplier)
        values = (t.to(torch.float64).numpy() for t in (image, self.filter, grad))
        self.case = brute_force.Case(*values, self.rows, self.columns)
        self.image, self.grad = self.from_nhwc(image), self.from_nhwc(grad)

    def from_nhwc(self, image: torch.Tensor) -> torch.Tensor:
        if self.stored == "NCHW":
            image = image.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        return image if self.data_format == "NHWC" else image.permute(0, 3, 1, 2)

    def to_nhwc(self, image: torch.Tensor) -> torch.Tensor:
        return image if self.data_format == "NHWC" else image.permute(0, 2, 3, 1)


def calls(dtype: torch.dtype, count: int) -> list[Call]:
    return [call for seed in range(count) if (call := Call(dtype, seed)).fits]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_convolution_and_its_adjoints_are_the_literal_space_to_batch(dtype):
    for call in calls(dtype, 60):
        result = depthwise_conv2d(call.image, call.filter, **call.arguments)
        input_grad = depthwise_conv2d_backprop_input(
            call.image.shape, call.filter, call.grad, **call.arguments
        )
        filter_grad = depthwise_conv2d_backprop_filter(
            call.image, call.filter.shape, call.grad, **call.arguments
        )
        call.case.check(call.to_nhwc(result), call.to_nhwc(input_grad), filter_grad)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_autograd_gives_the_adjoints_with_one_rounding(dtype):
    for call in calls(dtype, 30):
        image, filter = call.image.requires_grad_(), call.filter.requires_grad_()
        result = depthwise_conv2d(image, filter, **call.arguments)
        input_grad, filter_grad = torch.autograd.grad(result, (image, filter), call.grad)
        call.case.check(None, call.to_nhwc(input_grad), filter_grad)


def test_result_and_input_gradient_are_dense_in_the_memory_order_of_what_they_follow():
    for call in calls(torch.float32, 60):
        result = depthwise_conv2d(call.image, call.filter, **call.arguments)
        input_grad = depthwise_conv2d_backprop_input(
            call.image.shape, call.filter, call.grad, **call.arguments
        )
        for image, like in ((result, call.image), (input_grad, call.grad)):
            if like.is_contiguous():  # Also if dense in both orders: the one of the axes.
                assert image.is_contiguous()
            else:
                in_memory = (0, 3, 1, 2) if call.data_format == "NHWC" else (0, 2, 3, 1)
                assert image.permute(in_memory).is_contiguous()


def test_a_stride_or_dilation_of_one_is_the_plain_convolution():
    image, filter = torch.randn(1, 9, 8, 3), torch.randn(3, 2, 3, 2)
    for strides, dilations in ((2, 1), (1, (2, 3))):
        results = [
            depthwise_conv2d(
                image, filter, strides, "SAME", dilations=dilations, strided_dilation=mode
            )
            for mode in ("error", "plain", "space_to_batch")
        ]
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


def test_example_with_a_shape_that_the_plain_convolution_does_not_have():
    # TensorFlow 2.21 returns these.
    image = torch.arange(1.0, 50).reshape(1, 7, 7, 1)
    filter = torch.arange(1.0, 5).reshape(2, 2, 1, 1)
    call = {"strides": 2, "padding": "SAME", "dilations": 2}
    result = depthwise_conv2d(image, filter, **call, strided_dilation="space_to_batch")
    assert result[0, :, :, 0].tolist() == [[36, 64, 85], [68, 120, 150], [194, 330, 360]]
    assert depthwise_conv2d(image, filter, **call, strided_dilation="plain").shape == (1, 4, 4, 1)


def test_a_stride_in_one_dimension_meets_a_dilation_in_the_other():
    # SAME pads the strided dimension as if its stride were 1.
    image, filter = torch.arange(1.0, 7).reshape(1, 6, 1, 1), torch.ones(3, 1, 1, 1)
    arguments = {"strides": (2, 1), "padding": "SAME", "dilations": (1, 2)}
    emulated = depthwise_conv2d(image, filter, **arguments, strided_dilation="space_to_batch")
    plain = depthwise_conv2d(image, filter, **arguments, strided_dilation="plain")
    assert emulated.flatten().tolist() == [0 + 1 + 2, 2 + 3 + 4, 4 + 5 + 6]
    assert plain.flatten().tolist() == [1 + 2 + 3, 3 + 4 + 5, 5 + 6 + 0]


@pytest.mark.parametrize("padding", ["SAME", [(0, 0), (2**29, 2**29), (1, 1), (0, 0)]])
def test_a_dilation_far_beyond_the_image_takes_no_more_than_the_image(padding):
    # The two outer of the three taps never meet the input.
    image, filter = torch.randn(1, 5, 4, 2), torch.randn(3, 3, 2, 1)
    arguments = {"strides": 2, "padding": padding, "dilations": (2**29, 1)}
    result = depthwise_conv2d(image, filter, **arguments, strided_dilation="space_to_batch")
    expected = depthwise_conv2d(image, filter[1:2], (1, 2), [(0, 0), (0, 0), (1, 1), (0, 0)])
    torch.testing.assert_close(result, expected)


def test_bias_is_added_everywhere_and_its_gradient_is_the_sum():
    image = torch.randn(2, 7, 8, 3, dtype=torch.float64)
    filter, bias = torch.randn(2, 3, 3, 2).double(), torch.randn(6).double().requires_grad_()
    arguments = {"strides": 2, "padding": "SAME", "dilations": 3}
    arguments["strided_dilation"] = "space_to_batch"
    result = depthwise_conv2d(image, filter, **arguments, bias=bias)
    torch.testing.assert_close(result, depthwise_conv2d(image, filter, **arguments) + bias)
    grad = torch.randn_like(result)
    torch.testing.assert_close(torch.autograd.grad(result, bias, grad)[0], grad.sum((0, 1, 2)))


def test_first_and_second_derivatives_are_those_of_finite_differences():
    torch.manual_seed(0)
    image = torch.randn(1, 5, 6, 2, dtype=torch.float64, requires_grad=True)
    filter = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def convolve(image, filter):
        return depthwise_conv2d(
            image, filter, (2, 1), "SAME", dilations=2, strided_dilation="space_to_batch"
        )

    assert torch.autograd.gradcheck(convolve, (image, filter))
    assert torch.autograd.gradgradcheck(convolve, (image, filter))


def test_a_cropped_output_brings_no_nan_to_the_gradient():
    # Position 3 of the padded 4 would be the second output of phase 1, past the 3 rows there are.
    filter = torch.full((1, 1, 1, 1), float("inf"))
    arguments = {"strides": (1, 2), "padding": "VALID", "dilations": (2, 1)}
    arguments["strided_dilation"] = "space_to_batch"
    grad = depthwise_conv2d_backprop_input(
        (1, 3, 3, 1), filter, torch.ones(1, 3, 2, 1), **arguments
    )
    # No output reads the second column.
    inf = float("inf")
    assert grad[0, :, :, 0].tolist() == [[inf, 0, inf]] * 3


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_empty_images_are_empty_results(padding):
    filter = torch.ones(2, 2, 3, 1)
    arguments = {"strides": 2, "padding": padding, "dilations": 2}
    arguments["strided_dilation"] = "space_to_batch"
    result = depthwise_conv2d(torch.ones(0, 8, 8, 3), filter, **arguments)
    assert result.shape == (0, 4, 4, 3)
    if padding == "SAME":
        image = torch.ones(1, 0, 8, 3)
        result = depthwise_conv2d(image, filter, **arguments)
        assert result.shape[1] == 0
        assert result.shape[2] > 0
        filter_grad = depthwise_conv2d_backprop_filter(image, filter.shape, result, **arguments)
        assert torch.equal(filter_grad, torch.zeros_like(filter))


def test_no_tensor_of_the_padded_size_is_made():
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.untyped_storage().size() // 4)
            return result

    image, filter = torch.randn(1, 16, 16, 8), torch.randn(3, 3, 8, 1)
    with Watch():
        depthwise_conv2d(image, filter, 2, "SAME", dilations=4, strided_dilation="space_to_batch")
    assert largest <= image.numel()


def test_compiles_whole_for_every_batch_of_one_image_size():
    layer = torch.nn.ParameterList([torch.randn(3, 2, 3, 1)])  # Parameters have constant sizes.

    def convolve(image):
        return depthwise_conv2d(
            image, layer[0], 2, "SAME", dilations=2, strided_dilation="space_to_batch"
        )

    compiled = torch.compile(convolve, backend="eager", fullgraph=True, dynamic=True)
    image = torch.randn(7, 9, 10, 3)
    torch.testing.assert_close(compiled(image), convolve(image))
    with torch.compiler.set_stance("fail_on_recompile"):
        image = torch.randn(5, 9, 10, 3)
        torch.testing.assert_close(compiled(image), convolve(image))
    image = torch.randn(5, 8, 8, 3)
    torch.testing.assert_close(compiled(image), convolve(image))
