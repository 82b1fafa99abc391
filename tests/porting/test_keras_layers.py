"""Every layer alone computes, and is trained, as by Keras on TensorFlow in float32."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layers_cases import CASES, TRAINING, Case
from torch import Tensor, nn

from tfcompat_dw.porting.config import parse_network
from tfcompat_dw.porting.layer import HasTfWeights, LayerSpec, UnsupportedLayerError
from tfcompat_dw.porting.layers import BUILDERS
from tfcompat_dw.porting.layers.convolution import DepthwiseConv2D
from tfcompat_dw.porting.variables import variables_of

PROGRAM = Path(__file__).with_name("layers_keras.py")
# Of the largest value.  The longest sums here have about 400 terms (gradients of a bias over two
# images) and Keras' elementary functions are a few units in the last place off: 2**-24 * 400 at the
# worst is 2.4e-5, by chance its root, 1.2e-6.
BOUND = 1e-5
ORDER = {"rtol": 1e-5, "atol": 1e-5}
"""For one layer by two ways, or in two types: at most 36 products (3 x 3 kernels, 4 channels) of
numbers around 1 in float32, each product and sum off by 2**-24 of some units: 72 * 6e-8 = 4e-6."""
NUMBERS = {str(case): number for number, case in enumerate([*CASES, *TRAINING])}


class Originals:
    """What Keras computed."""

    def __init__(self, folder: Path) -> None:
        self.models = json.loads((folder / "models.json").read_text())
        self.arrays = dict(np.load(folder / "arrays.npz"))

    def of(self, case: Case) -> Original:
        return Original(case, self.models[NUMBERS[str(case)]], self.arrays)


class Original:
    """Of one layer."""

    def __init__(self, case: Case, model: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.case, self.trainable, self._arrays = case, model["trainable"], arrays
        self.prefix = NUMBERS[str(case)]
        major = 2 if case.library == "tf_keras" else 3
        layer = parse_network(model["model"], major).layer("layer")
        known = variables_of(layer.class_name, layer.config)
        self.names = model["weights"] if known is None else [one.name for one in known]
        shapes = {name: self.array(f"w{number}").shape for number, name in enumerate(self.names)}
        self.spec = LayerSpec(layer.class_name, "layer", layer.config, shapes, major)

    def array(self, key: str) -> np.ndarray:
        return self._arrays[f"{self.prefix} {key}"]

    def has(self, key: str) -> bool:
        return f"{self.prefix} {key}" in self._arrays

    def inputs(self, step: int = 0) -> list[Tensor]:
        return [
            torch.from_numpy(self.array(f"step{step} x{index}"))
            for index in range(len(self.case.shapes))
        ]

    def weights(self, when: str = "w") -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(self.array(f"{when}{number}"))
            for number, name in enumerate(self.names)
        }


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    folder = tmp_path_factory.mktemp("layers")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Originals(folder)


# ---- ours ----------------------------------------------------------------------------------------


def built(original: Original, **changes: Any) -> nn.Module:
    """The module with the original's weights, in its mode."""
    spec = replace(original.spec, config={**original.spec.config, **changes})
    module = BUILDERS[spec.class_name](spec)
    weights = original.weights()
    held = module.tf_weights() if isinstance(module, HasTfWeights) else []
    assert [weight.name for weight in held] == list(weights)
    for weight in held:
        assert weight.tf_shape == weights[weight.name].shape
        weight.assign(weights[weight.name])
        assert torch.equal(weight.to_tf(), weights[weight.name].to(weight.tensor.dtype))
    return module.train(original.case.is_training)


def arguments_of(case: Case, inputs: Sequence[Tensor]) -> tuple[Any, ...]:
    """Merges take a list, other layers tensors."""
    return (list(inputs),) if len(inputs) > 1 and not case.spread else tuple(inputs)


def called(module: nn.Module, case: Case, inputs: Sequence[Tensor]) -> Tensor:
    """Several results one after another."""
    output: Any = module(*arguments_of(case, inputs))
    if isinstance(output, (list, tuple)):
        return torch.cat([one.flatten(1) for one in output], 1)
    assert isinstance(output, Tensor)
    return output


def assert_close(
    ours: Tensor, theirs: np.ndarray, what: str, like: np.ndarray | None = None
) -> None:
    """As far as rounding explains, of the largest value, or of that of another array."""
    assert tuple(ours.shape) == theirs.shape, what
    mine, their = ours.detach().numpy().astype(np.float64), theirs.astype(np.float64)
    largest = np.abs(their if like is None else like).max(initial=0)
    assert np.abs(mine - their).max(initial=0) <= BOUND * largest, what


def assert_step_is_keras(
    module: nn.Module, original: Original, step: int, *, channels_first: bool = False
) -> None:
    """Output, gradients of inputs and of weights in TF's layout."""

    def moved(x: Tensor) -> Tensor:
        return x.movedim(-1, 1).contiguous() if channels_first and x.dim() > 2 else x

    def back(x: Tensor) -> Tensor:
        return x.movedim(1, -1) if channels_first and x.dim() > 2 else x

    inputs = [moved(x) for x in original.inputs(step)]
    sources = [x.requires_grad_() for x in inputs if x.is_floating_point()]
    output = called(module, original.case, inputs)
    assert_close(back(output), original.array(f"step{step} output"), "output")
    if not original.has(f"step{step} pool"):
        return
    assert output.dtype is torch.float32
    module.zero_grad()
    if output.requires_grad:
        output.backward(moved(torch.from_numpy(original.array(f"step{step} pool"))))
    for number, source in enumerate(sources):
        if original.has(f"step{step} dx{number}"):
            assert source.grad is not None
            assert_close(back(source.grad), original.array(f"step{step} dx{number}"), "dx")
    assert_weight_gradients(module, original, step)


def assert_weight_gradients(module: nn.Module, original: Original, step: int) -> None:
    held = module.tf_weights() if isinstance(module, HasTfWeights) else []
    trained = [one for one, flag in zip(held, original.trainable, strict=True) if flag]
    assert all(weight.trainable for weight in trained)
    for number, weight in enumerate(trained):
        key = f"step{step} dw{number}"
        assert original.has(key)
        assert weight.tensor.grad is not None
        ours = replace(weight, tensor=weight.tensor.grad).to_tf()
        # softmax takes no notice of key/bias: its gradient is the rounding of key/kernel's
        like = original.array(f"step{step} dw{number - 1}") if weight.name == "key/bias" else None
        assert_close(ours, original.array(key), key, like)


# ---- against Keras -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_layer_and_its_gradients_are_those_of_keras(case: Case, originals: Originals) -> None:
    original = originals.of(case)
    assert_step_is_keras(built(original), original, 0)


FIRST = [case for case in CASES if case.channels_first]


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_a_layer_with_channels_first_computes_the_same(case: Case, originals: Originals) -> None:
    original = originals.of(case)
    module = built(original, data_format="channels_first")
    assert_step_is_keras(module, original, 0, channels_first=True)


@pytest.mark.parametrize("case", TRAINING, ids=str)
def test_moving_statistics_after_training_steps_are_those_of_keras(
    case: Case, originals: Originals
) -> None:
    original = originals.of(case)
    module = built(original)
    for step in range(3):
        assert_step_is_keras(module, original, step)
    assert isinstance(module, HasTfWeights)
    after = original.weights("after")
    for weight in module.tf_weights():
        assert_close(weight.to_tf(), after[weight.name].numpy(), weight.name)
        assert weight.trainable or not torch.equal(weight.to_tf(), original.weights()[weight.name])


# ---- as modules of PyTorch -----------------------------------------------------------------------


def _one_each() -> Iterator[Case]:
    """Of every class the case with the most arguments."""
    classes: dict[str, Case] = {}
    for case in CASES:
        if any(shape[0] < 2 for shape in case.shapes):
            continue  # PyTorch takes a batch of one for a constant
        known = classes.get(case.layer)
        if known is None or len(case.arguments) > len(known.arguments):
            classes[case.layer] = case
    yield from classes.values()


ONE_EACH = list(_one_each())


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_a_layer_can_be_copied_pickled_and_printed_in_a_line(
    case: Case, originals: Originals
) -> None:
    original = originals.of(case)
    module = built(original).eval()
    expected = called(module, case, original.inputs())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for twin in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert torch.equal(called(twin, case, original.inputs()), expected)
    assert "\n" not in repr(module)


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_a_layer_is_exported_and_compiled_for_any_batch(case: Case, originals: Originals) -> None:
    torch.compiler.reset()
    original = originals.of(case)
    module = built(original).eval()
    inputs = original.inputs()
    batch = torch.export.Dim("batch")
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in inputs)
    shapes = (list(shapes),) if len(arguments_of(case, inputs)) < len(inputs) else shapes
    arguments = arguments_of(case, inputs)
    program = torch.export.export(module, arguments, dynamic_shapes=shapes).module()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for times in (1, 3):
        larger = [torch.cat([x] * times) for x in inputs]
        expected = called(module, case, larger)
        for other in (program, compiled):
            assert_close(called(other, case, larger), expected.detach().numpy(), "output")


# ---- what the table does not reach ---------------------------------------------------------------


def module_of(
    class_name: str,
    config: dict[str, Any],
    weights: dict[str, tuple[int, ...]] | None = None,
    keras_major: int = 3,
) -> nn.Module:
    return BUILDERS[class_name](LayerSpec(class_name, "layer", config, weights or {}, keras_major))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CONV = {"kernel": (3, 3, 4, 6), "bias": (6,)}
DEPTHWISE = {"kernel": (3, 3, 4, 2), "bias": (8,)}
SEPARABLE = {
    "depthwise_kernel": (3, 3, 4, 1), "pointwise_kernel": (1, 1, 4, 5), "bias": (5,),
}  # fmt: skip
NORM = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (4,))


@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((0, 1), (2, 0)), ((2, 2), (0, 3))], ids=str)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(
    ("class_name", "weights"),
    [
        ("Conv2D", CONV),
        ("Conv2D", {**CONV, "kernel": (1, 1, 4, 6)}),
        ("DepthwiseConv2D", DEPTHWISE),
        ("SeparableConv2D", SEPARABLE),
    ],
)
def test_a_folded_padding_computes_what_two_layers_do(
    class_name: str,
    weights: dict[str, tuple[int, ...]],
    strides: int,
    data_format: str,
    pads: Any,
) -> None:
    size = next(iter(weights.values()))[0]
    config = {"kernel_size": size, "strides": strides, "data_format": data_format}
    if class_name == "DepthwiseConv2D":
        config["depth_multiplier"] = 2
    apart = module_of(class_name, config, weights).double()
    folded = module_of(class_name, {**config, "explicit_padding": pads}, weights).double()
    folded.load_state_dict(apart.state_dict())
    padding = module_of("ZeroPadding2D", {"padding": pads, "data_format": data_format})
    x = drawn(2, 9, 8, 4) if data_format == "channels_last" else drawn(2, 4, 9, 8)
    torch.testing.assert_close(folded(x), apart(padding(x)))


def test_convolutions_are_those_that_tools_know() -> None:
    dense = module_of("Conv2D", {"kernel_size": 3}, CONV)
    grouped = module_of("Conv2D", {"groups": 4}, {"kernel": (3, 3, 1, 8), "bias": (8,)})
    assert isinstance(dense, nn.Conv2d)
    assert dense.weight.shape == (6, 4, 3, 3)
    assert isinstance(grouped, DepthwiseConv2D)
    assert grouped.weight.shape == (3, 3, 4, 2)
    assert isinstance(module_of("Dense", {}, {"kernel": (4, 6), "bias": (6,)}), nn.Linear)
    assert isinstance(module_of("Conv2DTranspose", {}, CONV), nn.ConvTranspose2d)
    assert isinstance(module_of("Dropout", {"rate": 0.5}), nn.Dropout)


@pytest.mark.parametrize("channels", range(1, 20))
def test_the_gradient_of_a_strided_1x1_convolution_is_right(channels: int) -> None:
    config = {"kernel_size": 1, "strides": 2, "padding": "same"}
    layer = module_of("Conv2D", config, {"kernel": (1, 1, channels, 5), "bias": (5,)})
    with torch.no_grad():  # whole numbers: every sum is exact in float32
        for parameter in layer.parameters():
            parameter.copy_((8 * parameter).round())
    x = (2 * drawn(3, 7, 8, channels)).round().float().requires_grad_()
    layer(x).square().sum().backward()
    wide = copy.deepcopy(layer).double()
    wide.zero_grad()
    y = x.detach().double().requires_grad_()
    wide(y).square().sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.equal(x.grad.double(), y.grad)
    assert torch.equal(layer.weight.grad.double(), wide.weight.grad)


IN_ORDER = [
    ("Conv2D", {"strides": 2, "padding": "same"}, CONV),
    ("Conv2D", {"kernel_size": 1, "strides": 2}, {**CONV, "kernel": (1, 1, 4, 6)}),
    ("Conv2DTranspose", {"strides": 2, "padding": "same"}, {**CONV, "kernel": (3, 3, 6, 4)}),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}, DEPTHWISE),
    ("SeparableConv2D", {"kernel_size": 3, "padding": "same"}, SEPARABLE),
    ("BatchNormalization", {}, NORM),
    ("GroupNormalization", {"groups": 2}, {"gamma": (4,), "beta": (4,)}),
    ("MaxPooling2D", {"pool_size": 3, "strides": 1, "padding": "same"}, {}),
    ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, {}),
    ("ZeroPadding2D", {"padding": [[0, 1], [0, 1]]}, {}),
    ("UpSampling2D", {}, {}),
    ("UpSampling2D", {"interpolation": "bilinear"}, {}),
]


@pytest.mark.parametrize(("class_name", "config", "weights"), IN_ORDER, ids=str)
def test_images_stay_channels_last_in_memory(
    class_name: str, config: dict[str, Any], weights: dict[str, tuple[int, ...]]
) -> None:
    layer = module_of(class_name, config, weights)
    for mode in (False, True):
        y = layer.train(mode)(drawn(2, 9, 8, 4).float())
        assert y.is_contiguous() or class_name == "Conv2DTranspose"  # a row less: a view
        assert sorted(y.stride(), reverse=True) == list(y.stride())


def test_a_line_stays_channels_last_in_memory() -> None:
    conv = module_of("Conv1D", {"padding": "same"}, {"kernel": (3, 4, 6), "bias": (6,)})
    for layer in (conv, module_of("BatchNormalization", {}, NORM), module_of("MaxPooling1D", {})):
        assert layer.train()(drawn(2, 9, 4).float()).is_contiguous()


SIZED = [
    ("Conv2D", {"strides": 2, "padding": "same"}, CONV),
    ("Conv2D", {"kernel_size": 3, "padding": "same"}, CONV),
    ("Conv2DTranspose", {"strides": 2, "padding": "same"}, {**CONV, "kernel": (3, 3, 6, 4)}),
    ("DepthwiseConv2D", {"strides": 2, "padding": "same", "depth_multiplier": 2}, DEPTHWISE),
    ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, {}),
    ("MaxPooling2D", {"pool_size": 2, "strides": 1, "padding": "same"}, {}),
    ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, {}),
    ("GlobalAveragePooling2D", {}, {}),
    ("UpSampling2D", {"size": 3}, {}),
    ("UpSampling2D", {"interpolation": "bicubic"}, {}),
    ("Resizing", {"height": 7, "width": 20}, {}),
    ("Resizing", {"height": 7, "width": 20, "interpolation": "area"}, {}),
    ("Resizing", {"height": 7, "width": 20, "interpolation": "nearest"}, {}),
    ("Cropping2D", {"cropping": 2}, {}),
    ("Flatten", {}, {}),
    ("BatchNormalization", {}, NORM),
]


@pytest.mark.parametrize(("class_name", "config", "weights"), SIZED, ids=str)
def test_a_layer_is_exported_for_any_size(
    class_name: str, config: dict[str, Any], weights: dict[str, tuple[int, ...]]
) -> None:
    layer = module_of(class_name, config, weights).eval()
    auto = torch.export.Dim.AUTO
    shapes = ({0: auto, 1: auto, 2: auto},)
    x = drawn(2, 13, 11, 4).float()
    program = torch.export.export(layer, (x,), dynamic_shapes=shapes).module()
    for size in ((13, 11), (12, 16), (31, 10)):
        y = drawn(3, *size, 4).float()
        torch.testing.assert_close(program(y), layer(y), **ORDER)


def test_a_frozen_batch_norm_keeps_its_statistics_in_training() -> None:
    layer = module_of("BatchNormalization", {"trainable": False}, NORM).train()
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    before = copy.deepcopy(layer.state_dict())
    x = drawn(2, 3, 5, 4).float()
    torch.testing.assert_close(layer(x), x / (1 + 1e-3) ** 0.5)
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


def test_update_bn_averages_the_statistics_of_all_batches() -> None:
    layer = module_of("BatchNormalization", {}, NORM)
    batches = [drawn(2, 3, 5, 4, seed=seed).float() for seed in range(3)]
    torch.optim.swa_utils.update_bn(batches, layer)
    means = torch.stack([batch.mean((0, 1, 2)) for batch in batches])
    variances = torch.stack([batch.var((0, 1, 2), correction=0) for batch in batches])
    torch.testing.assert_close(layer.running_mean, means.mean(0))
    torch.testing.assert_close(layer.running_var, variances.mean(0))


def test_layers_compute_in_other_types() -> None:
    for class_name, config, weights in (
        *IN_ORDER,
        ("Normalization", {"mean": 1.0, "variance": 4.0}, {}),
    ):
        layer = module_of(class_name, config, weights).eval()
        x = drawn(2, 9, 8, 4)
        wide = copy.deepcopy(layer).double()(x)
        assert wide.dtype is torch.float64
        torch.testing.assert_close(layer(x.float()).double(), wide, **ORDER)
        narrow = layer.bfloat16()(x.bfloat16())
        assert narrow.dtype is torch.bfloat16
        # weights, input and output are rounded to 8 bits: a few 2**-9 of the largest value
        assert (narrow.double() - wide).abs().max() < 4 * 2**-9 * 2 * wide.abs().max()


# ---- training only -------------------------------------------------------------------------------


NOISE = [
    ("Dropout", {"rate": 0.25}),
    ("Dropout", {"rate": 0.25, "noise_shape": [None, 1, None, 1]}),
    ("SpatialDropout2D", {"rate": 0.25}),
    ("SpatialDropout1D", {"rate": 0.25}),
    ("GaussianDropout", {"rate": 0.25}),
    ("GaussianNoise", {"stddev": 0.25}),
    ("AlphaDropout", {"rate": 0.25}),
    ("StochasticDepth", {"drop_path_rate": 0.25}),
    ("RandomFlip", {}),
    ("RandomCrop", {"height": 3, "width": 3}),
]


@pytest.mark.parametrize(("class_name", "config"), NOISE, ids=str)
def test_noise_is_for_training_only(class_name: str, config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = module_of(class_name, config)
    x = drawn(4, 6, 5) if class_name == "SpatialDropout1D" else drawn(4, 6, 5, 3)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(layer.train()(x), x) == class_name.startswith("Random")


@pytest.mark.parametrize(
    ("class_name", "config", "axes"),
    [
        ("Dropout", {"rate": 0.25}, ()),
        ("Dropout", {"rate": 0.25, "noise_shape": [None, 1, None, 1]}, (1, 3)),
        ("SpatialDropout2D", {"rate": 0.25}, (1, 2)),
        ("StochasticDepth", {"drop_path_rate": 0.25}, (1, 2, 3)),
    ],
)
def test_dropout_drops_together_what_keras_does(
    class_name: str, config: dict[str, Any], axes: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    y = module_of(class_name, config).train()(torch.ones(4000, 4, 3, 2))
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    if axes:
        assert torch.equal(y.amin(axes), y.amax(axes))
        y = y.amax(axes)
    # of n draws the share that is dropped is within 5 standard deviations of the rate
    assert abs((y == 0).float().mean() - 0.25) < 5 * (0.25 * 0.75 / y.numel()) ** 0.5


def test_gaussian_noise_has_kerass_deviation() -> None:
    torch.manual_seed(0)
    x = torch.full((200_000,), 2.0)
    for layer, deviation in (
        (module_of("GaussianNoise", {"stddev": 0.3}), 0.3),
        (module_of("GaussianDropout", {"rate": 0.2}), 2 * (0.2 / 0.8) ** 0.5),
    ):
        y = layer.train()(x)
        # 5 standard deviations of the mean, and of the deviation, of n numbers
        assert abs(y.mean() - 2) < 5 * deviation / x.numel() ** 0.5
        assert abs(y.std() - deviation) < 5 * deviation / (2 * x.numel()) ** 0.5


def test_recurrent_dropout_refuses_training_alone() -> None:
    weights = {"kernel": (3, 8), "recurrent_kernel": (2, 8), "bias": (8,)}
    layer = module_of("LSTM", {"recurrent_dropout": 0.5}, weights)
    x = torch.ones(2, 4, 3)
    assert layer.eval()(x).shape == (2, 2)
    with pytest.raises(RuntimeError, match="recurrent_dropout is not ported"):
        layer.train()(x)


# ---- refusals ------------------------------------------------------------------------------------

REFUSED = [
    ("Conv2D", {"kernel_size": 5}, CONV, "kernel's size is \\(3, 3\\) in the file"),
    ("Conv2D", {"padding": "reflect"}, CONV, "padding='reflect', where one of same, valid"),
    ("Conv2D", {"filters": 7}, CONV, "number of filters is \\(6,\\) in the file"),
    ("Conv2D", {"groups": 5}, CONV, "6 filters in 5 groups"),
    ("Conv2D", {"data_format": "NHWC"}, CONV, "data_format='NHWC'"),
    ("Conv2D", {"activation": "golu"}, CONV, "the activation 'golu', which is not ported; give a"),
    ("Conv2D", {"activation": {"class_name": "Lambda", "config": {}}}, CONV, "'Lambda'"),
    ("Conv2D", {"activation": {"class_name": "PReLU", "config": {}}}, CONV, "'PReLU'"),
    ("Conv2D", {"strides": 2.0}, CONV, "strides=2.0, where 2 positive integers are expected"),
    ("Conv2D", {"strides": 0}, CONV, "strides=0"),
    ("Conv2D", {}, {}, "the file has no kernel for it \\(its variables: none\\)"),
    ("Conv2D", {}, {"kernel": (3, 3, 4)}, "where 4 axes are expected"),
    ("Conv2D", {"lora_rank": 4}, CONV, "lora_rank=4, which is not ported"),
    ("Conv2DTranspose", {"dilation_rate": 2}, CONV, "dilation_rate=2, which is not ported"),
    ("Conv2DTranspose", {"strides": 2, "output_padding": 2}, CONV, "less than strides"),
    ("DepthwiseConv2D", {"depth_multiplier": 1}, DEPTHWISE, "depth_multiplier is \\(2,\\) in"),
    ("SeparableConv2D", {}, {**SEPARABLE, "pointwise_kernel": (1, 1, 8, 5)}, "pointwise kernel"),
    ("Dense", {"units": 3}, {"kernel": (4, 6), "bias": (6,)}, "number of units"),
    ("BatchNormalization", {"renorm": True}, NORM, "renorm=True, which is not ported"),
    ("BatchNormalization", {"virtual_batch_size": 8}, NORM, "virtual_batch_size=8"),
    ("BatchNormalization", {"axis": [1, 3]}, NORM, "more than one axis"),
    ("BatchNormalization", {"epsilon": "small"}, NORM, "epsilon='small', where a number"),
    ("LayerNormalization", {"axis": [-1, 1]}, {"gamma": (4, 4)}, "from both ends"),
    ("GroupNormalization", {"groups": 3}, {"gamma": (4,), "beta": (4,)}, "groups=3 of 4"),
    ("Normalization", {"mean": "a", "variance": 1.0}, {}, "its mean is no array of numbers"),
    ("Normalization", {"mean": [1.0], "variance": [1.0, 2.0]}, {}, "its mean has shape"),
    ("MaxPooling2D", {"padding": "causal"}, {}, "padding='causal'"),
    ("UpSampling2D", {"interpolation": "cubic"}, {}, "interpolation='cubic'"),
    ("UpSampling3D", {"interpolation": "bilinear"}, {}, "interpolation='bilinear'"),
    ("Resizing", {"height": 3, "width": 3, "fill_mode": "reflect"}, {}, "fill_mode='reflect'"),
    ("Resizing", {"height": -3, "width": 3}, {}, "height=-3"),
    ("Rescaling", {"scale": None}, {}, "scale=None, where a number"),
    ("Reshape", {"target_shape": [-1, -1]}, {}, "one size may be -1"),
    ("Permute", {"dims": [1, 3]}, {}, "a permutation"),
    ("Dropout", {"rate": 1.5}, {}, "rate=1.5, where a share"),
    ("AlphaDropout", {"rate": 0.5, "noise_shape": [2, 1]}, {}, "noise_shape"),
    ("Embedding", {"mask_zero": True}, {"embeddings": (4, 3)}, "mask_zero=True"),
    ("EinsumDense", {"equation": "ab;rm"}, {"kernel": (3,)}, "equation='ab;rm', where"),
    ("Masking", {}, {}, "a mask that other layers are to heed, which is not ported"),
    ("Lambda", {"function": ["code"]}, {}, "code of Lambda layer 'layer' is never run; say what"),
    ("TimeDistributed", {"layer": {"class_name": "Nope", "config": {}}}, {}, "a Nope in it"),
    ("TimeDistributed", {}, {}, "its layer is not described"),
    ("LSTM", {"stateful": True}, {"kernel": (3, 8)}, "stateful=True"),
    ("GRU", {"reset_after": True}, {"kernel": (3, 6), "recurrent_kernel": (2, 6), "bias": (6,)},
     "its bias is"),
    ("MultiHeadAttention", {"attention_axes": [1, 2]}, {}, "attention_axes=\\[1, 2\\]"),
    ("Attention", {"score_mode": "concat"}, {}, "score_mode='concat'"),
]  # fmt: skip


@pytest.mark.parametrize(("class_name", "config", "weights", "words"), REFUSED)
def test_what_is_not_ported_is_refused_with_its_value(
    class_name: str, config: dict[str, Any], weights: dict[str, tuple[int, ...]], words: str
) -> None:
    with pytest.raises(UnsupportedLayerError, match=words):
        module_of(class_name, config, weights)


@pytest.mark.parametrize("config", [{"strides": 2, "dilation_rate": 2}])
def test_a_strided_dilation_of_keras_2_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedLayerError, match="of Keras 2"):
        module_of("DepthwiseConv2D", {**config, "depth_multiplier": 2}, DEPTHWISE, keras_major=2)


GARBAGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**40, 1e300, float("nan"), "", "x" * 50, [], [[]], [None, 3], [1, 2, 3, 4],
    {}, {"class_name": "x"}, {"class_name": [], "config": None}, {"value": {}},
)  # fmt: skip


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_a_damaged_description_is_refused_or_built_and_never_an_accident(
    case: Case, originals: Originals
) -> None:
    """With ``torch.device("meta")``, as the port builds layers before it gives them memory."""
    spec = originals.of(case).spec
    with torch.device("meta"):
        for key in spec.config:
            for value in GARBAGE:
                with contextlib.suppress(UnsupportedLayerError):
                    BUILDERS[spec.class_name](replace(spec, config={**spec.config, key: value}))
        for name, shape in spec.weights.items():
            for other in ((), (0,), shape[:-1], (*shape, 3), (2**40,) * len(shape), (1,) * 4):
                with contextlib.suppress(UnsupportedLayerError):
                    BUILDERS[spec.class_name](replace(spec, weights={**spec.weights, name: other}))
