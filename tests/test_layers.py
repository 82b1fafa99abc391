"""The layers against the functions they wrap, and against ``nn.Conv2d`` where that can follow."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tfcompat_dw import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
    depthwise_conv2d,
    separable_conv2d,
)

LAYERS = [DepthwiseConv2D, SeparableConv2D, DepthwiseConv1D, SeparableConv1D]


def make(cls, in_channels=3, **arguments):
    """A layer with kernel size 3, or others, and random parameters."""
    arguments = {"kernel_size": 3} | arguments
    if cls in (SeparableConv1D, SeparableConv2D):
        arguments = {"filters": 5} | arguments
    torch.manual_seed(0)
    layer = cls(in_channels, **arguments)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def image_for(layer, *space):
    space = (7, 8)[-layer.rank :]
    if layer.data_format == "channels_last":
        return torch.randn(2, *space, layer.in_channels)
    return torch.randn(2, layer.in_channels, *space)


# ---- construction --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (
            DepthwiseConv2D(4, (5, 3), depth_multiplier=2),
            {"weight": (5, 3, 4, 2), "bias": (8,)},
        ),
        (DepthwiseConv1D(4, 5, use_bias=False), {"weight": (5, 4, 1)}),
        (
            SeparableConv2D(4, 7, 3, depth_multiplier=2),
            {"depthwise_weight": (3, 3, 4, 2), "pointwise_weight": (1, 1, 8, 7), "bias": (7,)},
        ),
        (
            SeparableConv1D(4, 7, (3,), use_bias=False),
            {"depthwise_weight": (3, 4, 1), "pointwise_weight": (1, 4, 7)},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_parameters_have_keras_shapes(layer, shapes):
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == shapes
    assert all(parameter.is_contiguous() for parameter in layer.parameters())


@pytest.mark.parametrize("cls", LAYERS)
def test_device_and_dtype_are_those_of_the_parameters(cls):
    layer = make(cls, device="meta", dtype=torch.float64)
    for parameter in layer.parameters():
        assert parameter.device.type == "meta"
        assert parameter.dtype is torch.float64


def test_initial_weights_are_uniform_within_keras_limits_and_biases_zero():
    # sqrt(6 / (fan_in + fan_out)), with the fans of a dense kernel [..., in, out].
    torch.manual_seed(0)
    depthwise = DepthwiseConv2D(32, (5, 3), depth_multiplier=4)
    separable = SeparableConv1D(32, 64, 5, depth_multiplier=4)
    for weight, limit in [
        (depthwise.weight, (6 / (15 * (32 + 4))) ** 0.5),
        (separable.depthwise_weight, (6 / (5 * (32 + 4))) ** 0.5),
        (separable.pointwise_weight, (6 / (128 + 64)) ** 0.5),
    ]:
        # All of n uniform draws below 0.98 of the limit: probability 0.98**n < 1e-5, n >= 640.
        assert 0.98 * limit < weight.abs().max() <= limit
        # The mean's standard deviation is limit / sqrt(3 * n), and this is 4 of them.
        assert abs(weight.mean()) < 4 * limit / (3 * weight.numel()) ** 0.5
    for layer in (depthwise, separable):
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))


@pytest.mark.parametrize("cls", LAYERS)
def test_reset_parameters_draws_what_the_constructor_draws(cls):
    layer = make(cls)
    parameters = copy.deepcopy(layer.state_dict())
    nn.init.zeros_(layer.bias)
    parameters["bias"].zero_()
    torch.manual_seed(0)
    layer.reset_parameters()
    for name, parameter in layer.state_dict().items():
        assert torch.equal(parameter, parameters[name])


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (DepthwiseConv2D(8, 3), "DepthwiseConv2D(8, kernel_size=(3, 3))"),
        (
            DepthwiseConv2D(8, (3, 5), 2, "SAME", 2, "channels_first", use_bias=False),
            "DepthwiseConv2D(8, kernel_size=(3, 5), strides=(2, 2), padding='same', "
            "depth_multiplier=2, data_format='channels_first', use_bias=False)",
        ),
        (
            SeparableConv1D(8, 16, 3, padding=(2, 0), dilation_rate=2),
            "SeparableConv1D(8, 16, kernel_size=(3,), padding=(2, 0), dilation_rate=(2,))",
        ),
    ],
)
def test_repr_shows_sizes_and_what_is_not_at_its_default(layer, text):
    assert repr(layer) == text


@pytest.mark.parametrize(
    ("cls", "arguments", "exception", "text"),
    [
        (
            DepthwiseConv2D,
            {"kernel_size": (1, 0)},
            ValueError,
            "kernel_size must be between 1 and 2147483647, got 0 in kernel_size=(1, 0); 1 is the "
            "least that has a meaning",
        ),
        (
            DepthwiseConv1D,
            {"kernel_size": (3, 3)},
            ValueError,
            "kernel_size must be an int or a tuple of 1, got 2 values: kernel_size=(3, 3)",
        ),
        (
            SeparableConv2D,
            {"strides": 0},
            ValueError,
            "strides must be between 1 and 2147483647, got 0; 1 is the least that has a meaning",
        ),
        (
            SeparableConv1D,
            {"dilation_rate": -1},
            ValueError,
            "dilation_rate must be between 1 and 2147483647, got -1; 1 is the least that has a "
            "meaning",
        ),
        (
            DepthwiseConv2D,
            {"depth_multiplier": 0},
            ValueError,
            "depth_multiplier must be between 1 and 2147483647, got 0; 1 is the least that has a "
            "meaning",
        ),
        (
            DepthwiseConv2D,
            {"in_channels": 0},
            ValueError,
            "in_channels must be between 1 and 2147483647, got 0; 1 is the least that has a "
            "meaning",
        ),
        (
            SeparableConv2D,
            {"filters": 0},
            ValueError,
            "filters must be between 1 and 2147483647, got 0; 1 is the least that has a meaning",
        ),
        (
            DepthwiseConv2D,
            {"strides": True},
            TypeError,
            "strides takes only ints, got True of type bool; pass ints, alone or in a list or "
            "tuple",
        ),
        (
            DepthwiseConv2D,
            {"kernel_size": (3, 3.0)},
            TypeError,
            "kernel_size takes only ints, got 3.0 of type float in kernel_size=(3, 3.0); pass "
            "ints, alone or in a list or tuple",
        ),
        (
            SeparableConv2D,
            {"filters": 8.0},
            TypeError,
            "filters takes only ints, got 8.0 of type float; pass ints, alone or in a list or "
            "tuple",
        ),
        (
            DepthwiseConv2D,
            {"padding": "causal"},
            ValueError,
            "padding must be 'same', 'valid' or ((top, bottom), (left, right)); got "
            "padding='causal'",
        ),
        (
            DepthwiseConv1D,
            {"padding": 1},
            TypeError,
            "padding must be 'same', 'valid' or (left, right); got padding=1",
        ),
        (
            DepthwiseConv2D,
            {"padding": (1, 1)},
            TypeError,
            "explicit padding must be made of (before, after) pairs, got 1 in padding=(1, 1); "
            "write n as (n, n)",
        ),
        (
            DepthwiseConv2D,
            {"padding": ((0, 0), (1, 1), (1, 1), (0, 0))},
            ValueError,
            "explicit padding must be ((top, bottom), (left, right)); got 4 elements: "
            "padding=((0, 0), (1, 1), (1, 1), (0, 0))",
        ),
        (
            DepthwiseConv1D,
            {"padding": (0, -1)},
            ValueError,
            "padding must be between 0 and 2147483647, got -1 in padding=(0, -1); to crop, slice "
            "the input",
        ),
        (
            DepthwiseConv2D,
            {"data_format": "NHWC"},
            ValueError,
            "data_format must be 'channels_last' or 'channels_first'; got 'NHWC'",
        ),
        (
            SeparableConv1D,
            {"data_format": np.array(["channels_last"] * 2)},
            ValueError,
            "data_format must be 'channels_last' or 'channels_first'; got array(['channels_last', "
            "'channels_last'], dtype='<U13')",
        ),
        (
            SeparableConv2D,
            {"dtype": torch.int32},
            ValueError,
            "dtype must be torch.float64, torch.float32, torch.bfloat16 or torch.float16, got "
            "torch.int32; leave it out for PyTorch's default",
        ),
        (
            DepthwiseConv1D,
            {"dtype": torch.complex64},
            ValueError,
            "dtype must be torch.float64, torch.float32, torch.bfloat16 or torch.float16, got "
            "torch.complex64; leave it out for PyTorch's default",
        ),
        (
            DepthwiseConv2D,
            {"kernel_size": 2**31},
            ValueError,
            "kernel_size must be between 1 and 2147483647, got 2147483648; TensorFlow has the same "
            "limit; use a smaller number",
        ),
        (
            DepthwiseConv2D,
            {"use_bias": 1},
            TypeError,
            "use_bias must be True or False; got 1",
        ),
    ],
)
def test_refused_arguments(cls, arguments, exception, text):
    with pytest.raises(exception) as refusal:
        make(cls, **arguments)
    assert str(refusal.value) == text


# ---- forward -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["Same", "VALID", ((1, 0), (2, 3))])
@pytest.mark.parametrize(("strides", "dilation_rate"), [((2, 1), 1), (1, (1, 2)), (2, 2)])
def test_2d_layers_are_the_functions_with_a_plain_strided_dilation(
    data_format, padding, strides, dilation_rate
):
    arguments = {
        "kernel_size": (3, 2),
        "strides": strides,
        "padding": padding,
        "depth_multiplier": 2,
        "data_format": data_format,
        "dilation_rate": dilation_rate,
    }
    last = data_format == "channels_last"
    if isinstance(padding, str):
        tf_padding = padding.upper()
    else:
        outside = [(0, 0)]
        tf_padding = [*outside, *padding, *outside] if last else [*outside, *outside, *padding]
    call = {
        "strides": strides,
        "padding": tf_padding,
        "data_format": "NHWC" if last else "NCHW",
        "dilations": dilation_rate,
        "strided_dilation": "plain",
    }
    layer = make(DepthwiseConv2D, **arguments)
    x = image_for(layer)
    expected = depthwise_conv2d(x, layer.weight, **call, bias=layer.bias)
    assert torch.equal(layer(x), expected)

    layer = make(SeparableConv2D, **arguments)
    expected = separable_conv2d(x, layer.depthwise_weight, layer.pointwise_weight, **call)
    bias = layer.bias if last else layer.bias[:, None, None]
    # The default tolerance, 1e-5 at results of order 1, is far above the one rounding between them.
    torch.testing.assert_close(layer(x), expected + bias)


@pytest.mark.parametrize("cls", LAYERS[:2])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["same", "valid", (3, 1)])
@pytest.mark.parametrize(("strides", "dilation_rate"), [(1, 1), (2, 1), (3, 2)])
def test_1d_layers_are_2d_layers_on_one_row(cls, data_format, padding, strides, dilation_rate):
    narrow = {DepthwiseConv2D: DepthwiseConv1D, SeparableConv2D: SeparableConv1D}[cls]
    arguments = {"depth_multiplier": 2, "data_format": data_format}
    layer = make(
        narrow,
        kernel_size=4,
        padding=padding,
        strides=strides,
        dilation_rate=dilation_rate,
        **arguments,
    )
    wide = make(
        cls,
        kernel_size=(1, 4),
        padding=padding if isinstance(padding, str) else ((0, 0), padding),
        strides=(1, strides),
        dilation_rate=(1, dilation_rate),
        **arguments,
    )
    wide.load_state_dict(
        {
            name: value if name == "bias" else value.unsqueeze(0)
            for name, value in layer.state_dict().items()
        }
    )
    x = image_for(layer)
    row = 1 if data_format == "channels_last" else 2
    assert torch.equal(layer(x), wide(x.unsqueeze(row)).squeeze(row))


@pytest.mark.parametrize("cls", LAYERS)
def test_layer_without_a_bias_is_the_layer_whose_bias_is_zero(cls):
    with_bias, without = make(cls), make(cls, use_bias=False)
    assert without.bias is None
    assert "bias" not in without.state_dict()
    without.load_state_dict(with_bias.state_dict(), strict=False)
    nn.init.zeros_(with_bias.bias)
    x = image_for(with_bias)
    assert torch.equal(with_bias(x), without(x))


@pytest.mark.parametrize("cls", LAYERS)
def test_parameters_get_gradients_in_their_shape_and_dtype(cls):
    layer = make(cls, padding="same", dtype=torch.float64)
    layer(image_for(layer).double()).square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad.shape == parameter.shape
        assert parameter.grad.dtype is torch.float64
        assert parameter.grad.abs().max() > 0


def test_arguments_may_be_changed_after_construction():
    layer = make(DepthwiseConv2D)
    layer.strides, layer.dilation_rate, layer.padding = (2, 2), (1, 3), "SAME"
    x = image_for(layer)
    expected = depthwise_conv2d(
        x, layer.weight, 2, "SAME", dilations=(1, 3), bias=layer.bias, strided_dilation="plain"
    )
    assert torch.equal(layer(x), expected)
    layer.data_format, layer.strides = "channels_first", 2
    first = layer(x.permute(0, 3, 1, 2).contiguous())  # the taps are summed in another order
    torch.testing.assert_close(first.permute(0, 2, 3, 1), expected)
    assert layer.strides == (2, 2)


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("padding", "reflect", "padding must be 'same', 'valid' or "),
        ("data_format", "NHWC", "data_format must be 'channels_last' or 'channels_first'; got "),
        ("strides", 0, "strides must be between 1 and 2147483647, got 0; "),
        ("strides", (1, 2, 1), "strides must be an int or a tuple of "),
        ("dilation_rate", -1, "dilation_rate must be between 1 and 2147483647, got -1; "),
    ],
)
def test_an_argument_that_is_changed_is_checked_as_in_the_constructor(cls, name, value, text):
    layer = make(cls)
    before = getattr(layer, name)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the text is compared.
        setattr(layer, name, value)
    assert str(refusal.value).startswith(text)
    assert getattr(layer, name) == before


@pytest.mark.parametrize(
    ("cls", "arguments", "shape", "text"),
    [
        (
            DepthwiseConv2D,
            {},
            (7, 8, 3),
            "input must have 4 dimensions, [n, h, w, c]; got 3: shape (7, 8, 3); reshape it",
        ),
        (
            SeparableConv1D,
            {"data_format": "channels_first"},
            (2, 3, 7, 8),
            "input must have 3 dimensions, [n, c, w]; got 4: shape (2, 3, 7, 8); reshape it",
        ),
        (
            DepthwiseConv2D,
            {},
            (2, 3, 7, 8),
            "input must have the in_channels of the layer, 3; got 8; channels are axis 3 where "
            "data_format='channels_last'",
        ),
        (
            DepthwiseConv1D,
            {"data_format": "channels_first"},
            (2, 7, 3),
            "input must have the in_channels of the layer, 3; got 7; channels are axis 1 where "
            "data_format='channels_first'",
        ),
        (
            DepthwiseConv2D,
            {},
            (2, 2, 8, 3),
            "weight must fit the padded input, got 3 rows (3 taps, dilation 1) on 2 (input 2, "
            "padding 0 + 0); use padding='same' or a larger input",
        ),
        (
            SeparableConv1D,
            {"dilation_rate": 4},
            (2, 8, 3),
            "depthwise_weight must fit the padded input, got 9 columns (3 taps, dilation 4) on 8 "
            "(input 8, padding 0 + 0); use padding='same' or a larger input",
        ),
    ],
)
def test_refused_inputs(cls, arguments, shape, text):
    layer = make(cls, **arguments)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole text is compared.
        layer(torch.ones(shape))
    assert str(refusal.value) == text


def test_input_of_another_dtype_is_refused():
    layer = make(DepthwiseConv2D)
    with pytest.raises(TypeError) as refusal:
        layer(image_for(layer).double())
    assert str(refusal.value) == (
        "weight must have the dtype of input, torch.float64; got torch.float32; convert one of "
        "them with .to()"
    )


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_layers_survive_copying_and_saving(cls, data_format, tmp_path):
    layer = make(cls, data_format=data_format, padding="same", strides=2)
    x = image_for(layer)
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    torch.save(layer, tmp_path / "layer.pt")
    assert torch.equal(torch.load(tmp_path / "layer.pt", weights_only=False)(x), expected)


def layers_to_compile():
    for cls, padding in itertools.product(LAYERS, ["same", "valid", "explicit"]):
        explicit = (2, 1) if cls in LAYERS[2:] else ((1, 0), (2, 1))
        arguments = {"padding": explicit if padding == "explicit" else padding}
        for data_format in ("channels_last", "channels_first"):
            layer = make(cls, strides=2, data_format=data_format, **arguments)
            yield pytest.param(layer, id=f"{cls.__name__}-{padding}-{data_format}")
    for padding in (1, "same", "valid"):
        conv = nn.Conv2d(3, 6, 3, padding=padding, groups=3)
        yield pytest.param(DepthwiseConv2D.from_conv2d(conv), id=f"from_conv2d-{padding}")


def gradients(function, layer, x):
    x = x.clone().requires_grad_()
    layer.zero_grad()
    result = function(x)
    result.square().sum().backward()
    return [result.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("layer", list(layers_to_compile()))
def test_compiled_whole_a_layer_has_the_same_values_and_gradients(layer):
    x = image_for(layer)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for actual, expected in zip(
        gradients(compiled, layer, x), gradients(layer, layer, x), strict=True
    ):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("layer", list(layers_to_compile()))
def test_exported_strictly_a_layer_takes_every_size(layer):
    first = 1 if layer.data_format == "channels_last" else 2
    axes = range(first, first + layer.rank)
    x = image_for(layer).repeat_interleave(2, 0)
    for axis in axes:
        x = x.repeat_interleave(2, axis)
    sizes = {axis: torch.export.Dim(f"size{axis}", min=8, max=64) for axis in axes}
    sizes[0] = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(layer, (x,), dynamic_shapes=(sizes,), strict=True).module()
    for image in (x, x[:3].narrow(first, 2, 9)):
        torch.testing.assert_close(exported(image), layer(image))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("layer", list(layers_to_compile()))
def test_traced_by_the_old_tracer_a_layer_computes_the_same(layer):
    x = image_for(layer)
    torch.testing.assert_close(torch.jit.trace(layer, x)(x), layer(x))


def test_a_model_moved_to_channels_last_memory_computes_the_same():
    """``Module.to`` gives 4-D parameters that memory order too, the filters included."""
    torch.manual_seed(0)
    layers = [
        make(cls, 4, data_format="channels_first", padding="same", **arguments)
        for cls, arguments in [
            (DepthwiseConv2D, {"depth_multiplier": 1}),
            (SeparableConv2D, {"filters": 4, "depth_multiplier": 2}),
        ]
    ]
    model = nn.Sequential(*layers)
    x = torch.randn(2, 4, 6, 7)
    expected = gradients(model, model, x)
    model.to(memory_format=torch.channels_last)
    assert not layers[0].weight.is_contiguous()
    actual = gradients(model, model, x.contiguous(memory_format=torch.channels_last))
    assert actual[0].is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


# ---- nn.Conv2d -----------------------------------------------------------------------------------

CONVS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2)},
    {"kernel_size": 3, "padding": "same", "dilation": 2},
    {"kernel_size": (4, 2), "padding": "same"},  # one more row and column after
    {"kernel_size": (2, 3), "padding": "valid", "stride": 3},
    {"kernel_size": 3, "stride": 2, "dilation": (2, 1), "padding": 2, "bias": False},
]


def assert_same_convolution(one, other, x):
    # Either sum of n terms, bias included, is off by at most n*u / (1 - n*u) times the sum of their
    # absolute values, u = 2**-24.
    magnitude = copy.deepcopy(one)
    for parameter in magnitude.parameters():
        parameter.data.abs_()
    terms = one.weight.numel() // (one(x).shape[1]) + 1
    bound = 2 * terms * 2**-24 / (1 - terms * 2**-24) * magnitude(x.abs())
    assert (abs(one(x) - other(x)) <= bound).all()


@pytest.mark.parametrize("arguments", CONVS, ids=repr)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_conv2d_there_and_back_computes_the_same_with_the_same_parameters(arguments, multiplier):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4 * multiplier, groups=4, **arguments)
    layer = DepthwiseConv2D.from_conv2d(conv)
    back = layer.to_conv2d()
    for name, parameter in conv.named_parameters():
        assert torch.equal(parameter, getattr(back, name))
    x = torch.randn(2, 4, 11, 12)
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        assert_same_convolution(conv, layer, image)
        assert_same_convolution(conv, back, image)
    last = DepthwiseConv2D.from_conv2d(conv, "channels_last")
    torch.testing.assert_close(last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), layer(x))


def test_conversion_is_a_copy_that_keeps_dtype_requires_grad_and_training():
    conv = nn.Conv2d(4, 4, 3, groups=4, dtype=torch.float64).eval()
    conv.weight.requires_grad_(False)
    state = torch.get_rng_state()
    layer = DepthwiseConv2D.from_conv2d(conv)
    back = layer.to_conv2d()
    assert torch.equal(torch.get_rng_state(), state)
    for module in (layer, back):
        assert not module.training
        assert module.weight.dtype is module.bias.dtype is torch.float64
        assert module.weight.is_contiguous()
        assert isinstance(module.weight, nn.Parameter)
        assert not module.weight.requires_grad
        assert module.bias.requires_grad
        for name in ("weight", "bias"):
            assert (
                getattr(module, name).untyped_storage().data_ptr()
                != getattr(conv, name).untyped_storage().data_ptr()
            )
    assert DepthwiseConv2D.from_conv2d(nn.Conv2d(4, 4, 3, groups=4, device="meta")).training


class PadsItself(nn.Conv2d):
    def forward(self, input):
        return super().forward(nn.functional.pad(input, (0, 1, 0, 1)))


@pytest.mark.parametrize(
    ("conv", "exception", "text"),
    [
        (
            nn.ConvTranspose2d(4, 4, 3, groups=4),
            TypeError,
            "conv must be an nn.Conv2d; got ConvTranspose2d",
        ),
        (
            PadsItself(4, 4, 3, groups=4),
            TypeError,
            "conv must compute what nn.Conv2d does, but PadsItself overrides its forward; build "
            "DepthwiseConv2D and copy the weight",
        ),
        (
            nn.Conv2d(4, 4, 3, groups=2),
            ValueError,
            "conv must be depthwise, groups == in_channels; got groups=2 and in_channels=4",
        ),
        (
            nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
            ValueError,
            "conv.padding_mode must be 'zeros', got 'reflect'; pad with torch.nn.functional.pad "
            "before the layer",
        ),
        (
            nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, groups=4)),
            ValueError,
            "conv.weight must be a parameter, but it is computed (weight_norm, parametrization); "
            "make it one with remove_weight_norm() or remove_parametrizations()",
        ),
    ],
)
def test_convolutions_that_are_not_depthwise_conv2d_are_refused(conv, exception, text):
    with pytest.raises(exception) as refusal:
        DepthwiseConv2D.from_conv2d(conv)
    assert str(refusal.value) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"padding": "same", "strides": (1, 2)},
            "nn.Conv2d cannot express padding='same' with strides=(1, 2): the padding of the "
            "columns depends on the input's size; set the layer's padding to the one of your "
            "input's size",
        ),
        (
            {"padding": ((1, 1), (0, 1))},
            "nn.Conv2d cannot express padding 0 before and 1 after the columns; pad with "
            "nn.ZeroPad2d and set the layer's padding to 'valid'",
        ),
        (
            {"padding": "same", "strides": (1, 2), "kernel_size": (2, 1)},
            "nn.Conv2d cannot express padding 0 before and 1 after the rows; pad with "
            "nn.ZeroPad2d and set the layer's padding to 'valid'",
        ),
    ],
)
def test_padding_that_conv2d_does_not_have_is_refused(arguments, text):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole text is compared.
        make(DepthwiseConv2D, **arguments).to_conv2d()
    assert str(refusal.value) == text


def test_same_padding_that_does_not_depend_on_the_size_is_converted():
    x = torch.randn(2, 3, 9, 10)
    for kernel_size, strides in itertools.product([(1, 1), (3, 1), (5, 1)], [(1, 1), (1, 2)]):
        layer = make(
            DepthwiseConv2D,
            kernel_size=kernel_size,
            strides=strides,
            padding="same",
            data_format="channels_first",
        )
        assert_same_convolution(layer, layer.to_conv2d(), x)


def test_to_conv2d_has_the_bias_that_the_layer_has():
    layer = make(DepthwiseConv2D, data_format="channels_first")
    layer.bias = None
    conv = layer.to_conv2d()
    assert conv.bias is None
    x = image_for(layer)
    assert_same_convolution(layer, conv, x)
