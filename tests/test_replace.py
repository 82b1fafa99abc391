"""``replace_depthwise``: twins compute what their ``nn.Conv2d`` did, and nothing else changes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel

import tfcompat_dw
from tfcompat_dw import replace, replace_depthwise
from tfcompat_dw.replace import Conv2dTwin

TWIN_OP = torch.ops.tfcompat_dw.depthwise_conv2d.default
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture
def operator_calls(monkeypatch):
    """How often the operator ran in place of F.conv2d."""
    calls = []

    def call(op, *args):
        calls.append(args)
        return op(*args)

    monkeypatch.setattr(replace, "call", call)
    return calls


def conv(in_channels=4, multiplier=1, **arguments):
    """A depthwise nn.Conv2d in float64 with random parameters that are the same every time."""
    torch.manual_seed(0)
    arguments = {"kernel_size": 3, "groups": in_channels, "dtype": torch.float64} | arguments
    return nn.Conv2d(in_channels, in_channels * multiplier, **arguments)


def image(channels=4, *, size=(11, 12), batch=(2,), dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, channels, *size, dtype=dtype, generator=generator)


class Block(nn.Module):
    """A small network: two depthwise convolutions, and others between and after them."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1, dtype=dtype)
        self.body = nn.Sequential(
            nn.Conv2d(4, 8, 3, padding=1, groups=4, dtype=dtype),
            nn.BatchNorm2d(8, dtype=dtype),
            nn.ReLU(),
        )
        self.down = nn.Conv2d(8, 8, (3, 5), 2, (1, 2), groups=8, bias=False, dtype=dtype)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2, dtype=dtype)

    def forward(self, x):
        return self.grouped(self.down(self.body(self.stem(x))))


def block_and_swapped():
    block = Block()
    swapped = copy.deepcopy(block)
    assert list(replace_depthwise(swapped).swapped) == ["body.0", "down"]
    return block, swapped


def assert_close(actual, expected):
    """Equal to 1e-12 of the largest element.

    For the small networks here: every element is a few sums, one behind the other, of fewer than
    1000 terms of the largest element's order, each sum off by less than 1000 * 2**-53 = 1.1e-13 of
    it, and rounding errors mostly cancel.
    """
    assert actual.shape == expected.shape
    assert actual.dtype is expected.dtype
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


# ---- numbers -------------------------------------------------------------------------------------

CONFIGURATIONS = [
    {},
    {"padding": 1},
    {"padding": (2, 0), "stride": (1, 2)},
    {"padding": (0, 3), "kernel_size": (3, 7), "stride": (3, 2)},
    {"padding": "valid", "kernel_size": (2, 3), "stride": 2},
    {"padding": "same"},
    {"padding": "same", "kernel_size": (4, 2)},  # odd totals: one more row and column after
    {"padding": "same", "kernel_size": (2, 5), "dilation": (3, 2)},
    {"padding": 2, "dilation": (2, 1), "stride": 2},  # a stride and a dilation: plain
    {"padding": 3, "kernel_size": 5, "stride": 3, "dilation": 2, "bias": False},
    {"kernel_size": 1, "stride": 2},
    {"padding": 1, "multiplier": 3},
    {"padding": "same", "multiplier": 2, "kernel_size": (6, 3), "bias": False},
    {"padding": 2, "kernel_size": 5, "stride": 2, "multiplier": 2, "dilation": 2},
    {"in_channels": 19, "padding": 1},
    {"in_channels": 1, "padding": 1},
    {"padding": 1, "batch": ()},  # an unbatched image, [c, h, w]
    {"padding": "same", "kernel_size": (4, 3), "multiplier": 2, "batch": ()},
    {"padding": 1, "batch": (0,)},
    {"padding": 4, "size": (1, 2)},
]


def passes(module, x, grad):
    """The result and every gradient, for the result's gradient ``grad``."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    result = module(x)
    return [result.detach(), *torch.autograd.grad(result, [x, *module.parameters()], grad)]


def assert_same_convolution(one, other, x):
    """Both are within their rounding errors of each other, forward and all gradients.

    The sum of n terms in any order is off by at most n*u / (1 - n*u) times the sum of the terms'
    absolute values, which is the same pass on absolute values.
    """
    magnitude = copy.deepcopy(one)
    for parameter in magnitude.parameters():
        parameter.data.abs_()
    result = one(x)
    grad = image(1, size=result.shape, batch=(), dtype=x.dtype, seed=2).reshape(result.shape)
    pixels = result.numel() // result.shape[-3]
    taps = one.weight.numel() // one.in_channels  # an input's gradient has those of all its filters
    terms = max(pixels, taps) + 1
    unit = torch.finfo(x.dtype).eps / 2
    bound = 2 * terms * unit / (1 - terms * unit)
    assert bound < 1e-12 or x.dtype is not torch.float64
    for actual, expected, largest in zip(
        passes(other, x, grad), passes(one, x, grad), passes(magnitude, x.abs(), grad.abs()),
        strict=True,
    ):  # fmt: skip
        assert actual.shape == expected.shape
        assert actual.dtype is expected.dtype
        assert (abs(actual - expected) <= bound * largest).all()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_twin_computes_values_and_gradients_of_conv2d(
    configuration, memory_format, dtype, operator_calls
):
    arguments = dict(configuration)
    images = {name: arguments.pop(name) for name in ("size", "batch") if name in arguments}
    original = conv(**arguments, dtype=dtype)
    twin = copy.deepcopy(original)
    assert replace_depthwise(twin).swapped == {"": twin}
    x = image(original.in_channels, dtype=dtype, **images)
    if x.dim() == 4:
        x = x.contiguous(memory_format=memory_format)
    assert_same_convolution(original, twin, x)
    assert len(operator_calls) == 1


@pytest.mark.parametrize("kernel_size", [(1, 2), (4, 3), (7, 6)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_same_pads_as_conv2d_says(kernel_size, dilation, operator_calls):
    twin = conv(kernel_size=kernel_size, dilation=dilation, padding="same")
    replace_depthwise(twin)
    twin(image(size=(20, 21)))
    ((_, _, _, _, padding, _, _),) = operator_calls
    left, right, top, bottom = twin._reversed_padding_repeated_twice
    assert padding == (top, bottom, left, right)


def test_inf_and_nan_stay_out_of_the_padding():
    twin = conv(padding=1)
    replace_depthwise(twin)
    with torch.no_grad():
        twin.weight[:, :, 0] = torch.inf  # the first row of taps meets padding in the first row
    assert twin(image())[:, :, 0].isfinite().all()


def test_derivatives_of_second_order_and_forward_mode():
    twin = conv(2, 2, padding="same", kernel_size=(2, 3))
    replace_depthwise(twin)
    x = image(2, size=(4, 3), batch=(1,)).requires_grad_()

    def convolve(x, weight, bias):
        return functional_call(twin, {"weight": weight, "bias": bias}, (x,))

    arguments = (x, twin.weight, twin.bias)
    assert torch.autograd.gradcheck(convolve, arguments, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(convolve, arguments)


def test_twins_compute_gradients_per_sample():
    original, twin = conv(padding=1), conv(padding=1)
    replace_depthwise(twin)
    x = image()

    def per_sample(module):
        def loss(parameters, x):
            return functional_call(module, parameters, (x,)).square().sum()

        parameters = {name: value.detach() for name, value in module.named_parameters()}
        return torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)

    expected = per_sample(original)
    for name, gradient in per_sample(twin).items():
        assert_close(gradient, expected[name])


# ---- memory order and dtype ----------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("weight_format", FORMATS, ids=str)
def test_result_has_the_memory_order_of_its_input(memory_format, weight_format):
    twin = conv(padding=1, multiplier=2).to(memory_format=weight_format)
    replace_depthwise(twin)
    x = image().contiguous(memory_format=memory_format).requires_grad_()
    result = twin(x)
    result.backward(image(8).contiguous(memory_format=memory_format))
    assert result.is_contiguous(memory_format=memory_format)
    assert x.grad.is_contiguous(memory_format=memory_format)
    assert twin.weight.grad.stride() == twin.weight.stride()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bit_twins_are_rounded_once(dtype):
    exact = conv(padding=1)
    twin = conv(padding=1, dtype=dtype)
    with torch.no_grad():
        for parameter, value in zip(exact.parameters(), twin.parameters(), strict=True):
            parameter.copy_(value)
    x = image(dtype=dtype)
    expected = exact(x.double())
    replace_depthwise(twin)
    result = twin(x)
    assert result.dtype is dtype
    # Half a unit in the last place, and a little for the sum in float32.
    bound = torch.finfo(dtype).eps / 2 * expected.abs() + 1e-5
    assert (abs(result - expected) <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_autocast_gives_the_dtypes_of_conv2d(dtype, operator_calls):
    original, twin = conv(padding=1, dtype=dtype), conv(padding=1, dtype=dtype)
    replace_depthwise(twin)
    x = image(dtype=dtype)
    results = []
    for module in (original, twin):
        with torch.autocast("cpu", torch.bfloat16):
            result = module(x)
        result.sum().backward()
        assert module.weight.grad.dtype is dtype
        results.append(result)
    assert results[1].dtype is results[0].dtype
    # Each is within an ulp of bfloat16, 2**-7, of the exact value, and the values are below 4.
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=4 * 2**-6)
    assert len(operator_calls) == 1


def test_autocast_takes_operands_of_two_dtypes_as_conv2d_does(operator_calls):
    twin = conv(padding=1, dtype=torch.float32)
    replace_depthwise(twin)
    with torch.autocast("cpu", torch.bfloat16):
        assert twin(image(dtype=torch.bfloat16)).dtype is torch.bfloat16
    assert len(operator_calls) == 1


# ---- what stays the same -------------------------------------------------------------------------


def test_everything_but_the_class_is_untouched():
    block = Block().eval()
    block.down.note = "mine"
    block.down.weight.requires_grad_(False)
    block.body.train()
    before = {
        name: (module, dict(vars(module)), module.training)
        for name, module in block.named_modules()
    }
    parameters = dict(block.named_parameters())
    state = block.state_dict()
    replaced = replace_depthwise(block)
    for name, module in block.named_modules():
        same, attributes, training = before[name]
        assert module is same
        assert vars(module) == attributes
        assert module.training is training
    assert all(parameters[name] is value for name, value in block.named_parameters())
    assert list(block.state_dict()) == list(state)
    assert replaced.swapped == {"body.0": block.body[0], "down": block.down}
    for twin in replaced.swapped.values():
        assert type(twin) is Conv2dTwin
        assert isinstance(twin, nn.Conv2d)
    assert type(block.stem) is type(block.grouped) is nn.Conv2d
    assert block.down.note == "mine"


def test_gradients_land_on_the_same_parameters_in_their_shape():
    original, twin = conv(multiplier=2), conv(multiplier=2)
    parameters = list(twin.parameters())
    replace_depthwise(twin)
    for module in (original, twin):
        module(image()).square().sum().backward()
    for parameter, expected in zip(parameters, original.parameters(), strict=True):
        assert_close(parameter.grad, expected.grad)


def test_state_dict_goes_to_an_unswapped_model_and_back():
    block, swapped = block_and_swapped()
    with torch.no_grad():
        for parameter in swapped.parameters():
            parameter.mul_(1.5)
    block.load_state_dict(swapped.state_dict())
    x = image(3)
    assert_close(swapped(x), block(x))
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.25)
    swapped.load_state_dict(block.state_dict())
    assert_close(swapped(x), block(x))


def test_hooks_run_as_before():
    twin = conv(padding=1)
    log = []
    twin.register_forward_pre_hook(lambda module, args: log.append("pre"))
    twin.register_forward_hook(lambda module, args, result: result * 2)
    twin.register_full_backward_hook(lambda module, gi, go: log.append("backward"))
    twin.register_state_dict_post_hook(lambda module, state, prefix, meta: log.append("state"))
    twin.weight.register_hook(lambda grad: grad * 3)
    x = image().requires_grad_()
    expected = twin(x)
    expected.sum().backward()
    gradient, twin.weight.grad = twin.weight.grad, None
    log.clear()
    replace_depthwise(twin)
    result = twin(x)
    result.sum().backward()
    twin.state_dict()
    assert log == ["pre", "backward", "state"]
    assert_close(result, expected)
    assert_close(twin.weight.grad, gradient)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_optimizer_and_average_made_before_the_swap_go_on(optimizer):
    def train(swap):
        block = Block()
        steps = optimizer(block.parameters(), lr=0.01)
        average = AveragedModel(block, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
        if swap:
            assert len(replace_depthwise(block).swapped) == 2
        for seed in range(3):
            steps.zero_grad()
            block(image(3, seed=seed)).square().mean().backward()
            steps.step()
            average.update_parameters(block)
        assert type(average.module.down) is nn.Conv2d
        return block, average

    for expected, actual in zip(train(False), train(True), strict=True):
        for name, value in expected.state_dict().items():
            # Three steps of a small learning rate keep 1e-13 far below this; Adam divides by the
            # gradient's size, which the test's gradients are not small enough to spoil.
            torch.testing.assert_close(actual.state_dict()[name], value, rtol=1e-8, atol=1e-10)


def test_average_made_after_the_swap_is_swapped():
    _, swapped = block_and_swapped()
    average = AveragedModel(swapped)
    average.update_parameters(swapped)
    assert type(average.module.down) is Conv2dTwin
    assert average.module.down.weight is not swapped.down.weight
    assert torch.equal(average(image(3)), swapped(image(3)))


def test_tied_weights_stay_tied():
    model = nn.Sequential(conv(padding=1), conv(padding=1, stride=2))
    model[1].weight = model[0].weight
    expected = copy.deepcopy(model)
    assert list(replace_depthwise(model).swapped) == ["0", "1"]
    assert model[0].weight is model[1].weight
    for module in (model, expected):
        module(image()).square().sum().backward()
    assert_close(model[0].weight.grad, expected[0].weight.grad)


def test_shared_module_is_swapped_once_and_reported_under_both_names():
    shared, kept = conv(padding=1), conv(padding=1, padding_mode="circular")
    model = nn.ModuleDict({"one": shared, "two": shared, "three": kept, "four": kept})
    replaced = replace_depthwise(model)
    assert replaced.swapped == {"one": shared, "two": shared}
    assert list(replaced.kept) == ["three", "four"]
    assert type(shared) is Conv2dTwin


def test_swapping_twice_changes_nothing():
    _, swapped = block_and_swapped()
    classes = [type(module) for module in swapped.modules()]
    again = replace_depthwise(swapped)
    assert again.swapped == {}
    assert again.kept == {"body.0": "is a twin already", "down": "is a twin already"}
    assert [type(module) for module in swapped.modules()] == classes


# ---- subclasses and parametrizations -------------------------------------------------------------


class Labelled(nn.Conv2d):
    """A subclass that leaves the computation alone."""

    label = "mine"

    def shout(self):
        return self.label.upper()


class SavesItself(nn.Conv2d):
    """A subclass that says how it is pickled."""

    def __reduce__(self):
        return _conv_with_state, (self.state_dict(),)


def _conv_with_state(state):
    made = conv(padding=1)
    made.load_state_dict(state)
    return made


def test_subclass_that_computes_as_conv2d_keeps_its_methods():
    one, other = (Labelled(4, 4, 3, groups=4) for _ in range(2))
    model = nn.Sequential(one, other)
    expected = model(image(dtype=torch.float32))
    assert list(replace_depthwise(model).swapped) == ["0", "1"]
    assert type(one) is type(other)
    assert isinstance(one, Labelled)
    assert isinstance(one, Conv2dTwin)
    assert one.shout() == "MINE"
    assert repr(one).startswith("LabelledTwin(4, 4, kernel_size=(3, 3)")
    torch.testing.assert_close(model(image(dtype=torch.float32)), expected)


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2

    def right_inverse(self, weight):
        return weight * 2


@pytest.mark.parametrize("kind", [nn.Conv2d, Labelled])
@pytest.mark.parametrize("swap_first", [False, True])
def test_parametrizations_stay_and_can_be_removed(kind, swap_first, operator_calls):
    torch.manual_seed(0)
    twin = kind(4, 4, 3, padding=1, groups=4, dtype=torch.float64)
    x, weight = image(), twin.weight.detach().clone()
    expected = twin(x)
    if swap_first:
        replace_depthwise(twin)
    parametrize.register_parametrization(twin, "weight", Halved())
    parametrize.register_parametrization(twin, "bias", Halved())
    original = twin.parametrizations.weight.original
    if not swap_first:
        assert list(replace_depthwise(twin).swapped) == [""]
    assert twin.parametrizations.weight.original is original
    assert parametrize.is_parametrized(twin, "weight")
    assert parametrize.type_before_parametrizations(twin) is replace._twin_of(kind)
    assert list(twin.state_dict()) == [
        "parametrizations.weight.original",
        "parametrizations.bias.original",
    ]
    assert torch.equal(twin.weight, weight)
    for module in (twin, copy.deepcopy(twin)):
        assert_close(module(x), expected)
    twin(x).sum().backward()
    assert original.grad.shape == weight.shape
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(twin)  # as PyTorch has it
    parametrize.remove_parametrizations(twin, "weight")
    assert_close(twin(x), expected)
    parametrize.remove_parametrizations(twin, "bias")
    assert type(twin) is replace._twin_of(kind)
    assert_close(twin(x), expected)
    assert len(operator_calls) == 5


def test_parametrized_copy_of_a_swapped_module_is_not_swapped():
    module = parametrizations.weight_norm(conv(padding=1))
    other = copy.deepcopy(module)  # PyTorch gives it the very class of the first
    replace_depthwise(module)
    assert isinstance(module, Conv2dTwin)
    assert not isinstance(other, Conv2dTwin)
    parametrize.remove_parametrizations(module, "weight")
    assert_close(module(image()), other(image()))


def test_finding_out_does_not_compute_a_parametrized_weight():
    module = parametrizations.spectral_norm(conv(padding=1))  # training: each access is a step
    before = copy.deepcopy(module.state_dict())
    replace_depthwise(module)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weight_that_a_hook_computes_is_used():
    original, twin = (torch.nn.utils.weight_norm(conv(padding=1)) for _ in range(2))
    assert list(replace_depthwise(twin).swapped) == [""]
    for module in (original, twin):
        module(image()).square().sum().backward()
    assert_close(twin.weight_g.grad, original.weight_g.grad)
    assert_close(twin(image()), original(image()))


# ---- left alone ----------------------------------------------------------------------------------


class OwnForward(nn.Conv2d):
    def forward(self, input):
        return super().forward(nn.functional.pad(input, (0, 1, 0, 1)))


class OwnConvForward(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight / weight.norm(), bias)


class Inherited(OwnForward):
    pass


def with_forward_of_its_own():
    module = conv()
    module.forward = lambda input: input
    return module


def quantized():
    module = torch.ao.nn.quantized.reference.Conv2d(4, 4, 3, groups=4)
    assert isinstance(module, nn.Conv2d)
    return module


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        *[
            (
                lambda mode=mode: conv(padding=1, padding_mode=mode),
                f"padding_mode is '{mode}', not 'zeros'",
            )
            for mode in ("reflect", "replicate", "circular")
        ],
        (
            lambda: nn.LazyConv2d(8, 3, groups=4),
            "is lazy; run the model once, so that its channels are known, then swap",
        ),
        (
            quantized,
            "is quantized, or prepared for it: torch.ao.nn.quantized.reference.modules.conv.Conv2d",
        ),
        (
            lambda: torch.ao.nn.quantized.Conv2d(4, 4, 3, groups=4),
            "is quantized, or prepared for it: torch.ao.nn.quantized.modules.conv.Conv2d",
        ),
        (lambda: OwnForward(4, 4, 3, groups=4), "its class, OwnForward, overrides forward"),
        (
            lambda: parametrizations.weight_norm(OwnForward(4, 4, 3, groups=4)),
            "its class, OwnForward, overrides forward",
        ),
        (lambda: Inherited(4, 4, 3, groups=4), "its class, Inherited, overrides forward"),
        (
            lambda: OwnConvForward(4, 4, 3, groups=4),
            "its class, OwnConvForward, overrides _conv_forward",
        ),
        (with_forward_of_its_own, "its forward was replaced in the instance"),
        (
            lambda: conv(dtype=torch.complex64),
            "has a parameter of torch.complex64; the operator takes float64, float32, bfloat16, "
            "float16",
        ),
        (
            lambda: nn.ConvTranspose2d(4, 4, 3, groups=4),
            "is a ConvTranspose2d, not an nn.Conv2d",
        ),
        (lambda: nn.Conv1d(4, 4, 3, groups=4), "is a Conv1d, not an nn.Conv2d"),
        (
            lambda: nn.Conv2d(1, 8, 3),
            "has one input channel: a dense convolution, for which nn.Conv2d is faster",
        ),
    ],
)
def test_convolution_is_left_alone_and_the_reason_said(make, reason):
    module = make()
    kind = type(module)
    attributes = dict(vars(module))
    replaced = replace_depthwise(nn.ModuleDict({"layer": module}))
    assert replaced.swapped == {}
    assert replaced.kept == {"layer": reason}
    assert type(module) is kind
    assert vars(module) == attributes


def test_lazy_convolution_is_swapped_once_its_channels_are_known():
    module = nn.LazyConv2d(8, 3, groups=4, dtype=torch.float64)
    replace_depthwise(module)
    expected = module(image())
    assert list(replace_depthwise(module).swapped) == [""]
    assert_close(module(image()), expected)


def test_what_is_not_depthwise_is_not_mentioned():
    model = nn.ModuleList(
        [
            nn.Conv2d(4, 8, 3),
            nn.Conv2d(4, 8, 3, groups=2),
            nn.ConvTranspose2d(1, 8, 3),
            nn.LazyConv2d(8, 3),
            nn.Linear(4, 4),
            tfcompat_dw.DepthwiseConv2D(4, 3),
        ]
    )
    assert replace_depthwise(model) == ({}, {})


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError) as refusal:
        replace_depthwise([conv()])
    assert str(refusal.value) == "module must be an nn.Module; got list"


def test_report_reads_as_text():
    model = nn.Sequential(conv(padding=1), nn.ReLU(), conv(padding=1, padding_mode="reflect"))
    assert str(replace_depthwise(model)) == (
        "depthwise convolutions: 1 swapped, 1 kept\n"
        "  swapped 0: Conv2dTwin(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), "
        "groups=4)\n"
        "  kept 2: padding_mode is 'reflect', not 'zeros'"
    )
    assert str(replace_depthwise(conv(bias=False))) == (
        "depthwise convolutions: 1 swapped, 0 kept\n"
        "  swapped (the module itself): Conv2dTwin(4, 4, kernel_size=(3, 3), stride=(1, 1), "
        "groups=4, bias=False)"
    )


# ---- a twin whose attributes or operands are no longer the operator's ----------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"padding_mode": "reflect", "_reversed_padding_repeated_twice": [1, 1, 1, 1]},
        {"stride": (2, 3), "dilation": (2, 1)},
        {"padding": "same"},
        {"padding": 2, "stride": 2, "dilation": (2,)},
    ],
    ids=repr,
)
def test_attributes_changed_after_the_swap_count(change):
    original, twin = conv(padding=1), conv(padding=1)
    replace_depthwise(twin)
    for module in (original, twin):
        vars(module).update(change)
    assert_close(twin(image()), original(image()))


def test_channels_removed_after_the_swap_count(operator_calls):
    original, twin = conv(padding=1, multiplier=2), conv(padding=1, multiplier=2)
    replace_depthwise(twin)
    for module in (original, twin):
        module.weight = nn.Parameter(module.weight.detach()[:6])
        module.bias = nn.Parameter(module.bias.detach()[:6])
        module.in_channels, module.out_channels, module.groups = 3, 6, 3
    assert_close(twin(image(3)), original(image(3)))
    assert len(operator_calls) == 1


def test_weight_that_is_no_longer_depthwise_is_convolved_by_pytorch(operator_calls):
    original, twin = conv(), conv()
    replace_depthwise(twin)
    for module in (original, twin):
        module.weight = nn.Parameter(conv(groups=2).weight.detach())
        module.groups = 2
    assert torch.equal(twin(image()), original(image()))
    assert operator_calls == []


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")
@pytest.mark.parametrize(
    ("move", "images"),
    [
        (lambda module: module.to(torch.complex128), lambda x: x.to(torch.complex128)),
        (lambda module: module.to("meta"), lambda x: x.to("meta")),
        (lambda module: module.float(), lambda x: x.float().to_mkldnn()),
    ],
    ids=["dtype", "device", "layout"],
)
def test_what_the_operator_lacks_is_convolved_by_pytorch(move, images, operator_calls):
    original, twin = conv(padding=1), conv(padding=1)
    replace_depthwise(twin)
    expected, result = (move(module)(images(image())) for module in (original, twin))
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert (result.device, result.layout) == (expected.device, expected.layout)
    if result.device.type == "cpu":
        assert torch.equal(result.to_dense(), expected.to_dense())
    assert operator_calls == []


def weight(*shape):
    return {"weight": nn.Parameter(torch.ones(shape, dtype=torch.float64))}


@pytest.mark.parametrize(
    ("change", "x"),
    [
        ({}, image(5)),
        ({}, image(batch=(2, 2))),
        ({}, image(batch=(), size=(4,))),
        ({}, image(dtype=torch.float32)),
        ({"padding": "SAME"}, image()),
        ({"padding": "same", "stride": (2, 1)}, image()),
        ({"stride": (1, 1, 1)}, image()),
        (weight(4, 2, 3, 3), image()),
        (weight(6, 1, 3, 3), image()),
        (weight(4, 3, 3), image()),
    ],
    ids=[
        "channels",
        "rank 5",
        "rank 2",
        "dtype",
        "padding",
        "same",
        "stride",
        "dense weight",
        "odd multiplier",
        "rank 3 weight",
    ],
)
def test_errors_are_those_of_conv2d(change, x):
    texts = []
    original, twin = conv(padding=1), conv(padding=1)
    replace_depthwise(twin)
    for module in (original, twin):
        for name, value in change.items():
            setattr(module, name, value)
        with pytest.raises(RuntimeError) as refusal:
            module(x)
        texts.append(str(refusal.value))
    assert texts[1] == texts[0]


def test_kernel_that_does_not_fit_is_refused():
    twin = conv(kernel_size=5)
    replace_depthwise(twin)
    with pytest.raises(RuntimeError, match="does not fit"):
        twin(image(size=(4, 9)))


# ---- compiled, exported, copied, saved -----------------------------------------------------------


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile_takes_the_whole_swapped_network(backend, dynamic):
    block, swapped = block_and_swapped()
    compiled = torch.compile(swapped, backend=backend, fullgraph=True, dynamic=dynamic)
    for size in [(11, 12), (16, 9)]:
        x = image(3, size=size)
        for module in (block, swapped):
            module.zero_grad()
        expected, result = block(x), compiled(x)
        assert_close(result, expected)
        expected.square().sum().backward()
        result.square().sum().backward()
        for name in ("stem", "down"):
            actual = swapped.get_submodule(name).weight.grad
            assert_close(actual, block.get_submodule(name).weight.grad)


@pytest.mark.usefixtures("fresh_compiler")
def test_torch_compile_generates_code_for_the_swapped_network():
    block, swapped = block_and_swapped()
    x = image(3)
    assert_close(torch.compile(swapped, fullgraph=True)(x), block(x))


@pytest.mark.xfail(torch.__version__ < (2, 12), reason="compiled code does not notice the swap")
@pytest.mark.usefixtures("fresh_compiler")
def test_network_compiled_before_the_swap_uses_the_twins_after_it():
    block = Block().eval()
    expected = block(image(3))
    seen = []

    def backend(graph, inputs):
        seen.append([node.target for node in graph.graph.nodes if node.op == "call_function"])
        return graph

    compiled = torch.compile(block, backend=backend, fullgraph=True)
    compiled(image(3))
    replace_depthwise(block)
    assert_close(compiled(image(3)), expected)
    assert seen[-1].count(TWIN_OP) == 2


WITHOUT_DYNAMO = pytest.param(
    False,
    marks=pytest.mark.xfail(
        torch.__version__ < (2, 11), reason="does not see that the residual's sizes are equal"
    ),
)


@pytest.mark.parametrize("strict", [WITHOUT_DYNAMO, True])
def test_export_holds_the_operator_and_any_image_size(strict):
    block, swapped = block_and_swapped()
    block.eval()
    rows, columns = torch.export.Dim("rows", min=7), torch.export.Dim("columns", min=7)
    program = torch.export.export(
        swapped.eval(), (image(3),), dynamic_shapes=({2: rows, 3: columns},), strict=strict
    )
    targets = [node.target for node in program.graph.nodes]
    assert targets.count(TWIN_OP) == 2
    for size in [(11, 12), (7, 33)]:
        x = image(3, size=size)
        assert_close(program.module()(x), block(x))


def test_fx_trace_holds_twins():
    _, swapped = block_and_swapped()
    traced = torch.fx.symbolic_trace(swapped)
    assert sum(node.target is replace._conv2d for node in traced.graph.nodes) == 2
    assert torch.equal(traced(image(3)), swapped(image(3)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit._script")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit._trace")
@pytest.mark.parametrize("way", [torch.jit.script, lambda m: torch.jit.trace(m, (image(3),))])
def test_torch_jit_gets_the_convolution_of_pytorch(way):
    block, swapped = block_and_swapped()
    block.eval()
    jitted = way(swapped.eval())
    assert "tfcompat_dw::" not in str(jitted.inlined_graph)
    assert_close(jitted(image(3)), block(image(3)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit._script")
def test_scripted_twin_with_another_padding_mode_refuses_to_run():
    twin = conv(padding=1)
    replace_depthwise(twin)
    twin.padding_mode = "reflect"
    scripted = torch.jit.script(twin)
    with pytest.raises(torch.jit.Error, match="padding_mode was changed after the swap"):
        scripted(image())


def _saved_and_loaded(module, folder):
    torch.save(module, folder / "module.pt")
    return torch.load(folder / "module.pt", weights_only=False)


COPIES = {
    "deepcopy": lambda module, _: copy.deepcopy(module),
    "pickle": lambda module, _: pickle.loads(pickle.dumps(module)),
    "oldest pickle": lambda module, _: pickle.loads(pickle.dumps(module, 0)),
    "torch.save": _saved_and_loaded,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", [nn.Conv2d, Labelled])
def test_copies_are_twins_with_their_own_parameters(way, kind, tmp_path):
    torch.manual_seed(0)
    twin = kind(4, 8, 3, padding=1, groups=4, dtype=torch.float64).eval()
    twin.note = "mine"
    replace_depthwise(twin)
    other = COPIES[way](twin, tmp_path)
    assert type(other) is type(twin)
    assert other is not twin
    assert other.weight is not twin.weight
    assert other.note == "mine"
    assert not other.training
    assert torch.equal(other(image()), twin(image()))


@pytest.mark.parametrize("way", COPIES)
def test_subclass_that_pickles_itself_is_copied_in_its_own_way(way, tmp_path):
    twin = SavesItself(4, 4, 3, padding=1, groups=4, dtype=torch.float64)
    replace_depthwise(twin)
    other = COPIES[way](twin, tmp_path)
    assert type(other) is nn.Conv2d  # what its __reduce__ makes
    assert_close(other(image()), twin(image()))
