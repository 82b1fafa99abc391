"""`load_tf_weights`: what goes where, and that nothing is guessed."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_files import LIBRARIES, networks  # noqa: F401
from torch import nn

import tfcompat_dw
from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.porting import load_tf_weights, port_model

PROGRAM = Path(__file__).with_name("graph_checkpoints.py")
BOUND = 1e-5
"""Of the largest value: four layers of sums of at most 72 float32 products, 72 * 2**-24 = 4e-6."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    program = [sys.executable, PROGRAM, folder]
    subprocess.run(program, check=True, capture_output=True)
    return folder


class Net(nn.Module):
    """What `graph_checkpoints.network` is, under other names."""

    def __init__(self, depthwise):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.stem_bn = nn.BatchNorm2d(4, eps=1e-3)
        self.block = nn.ModuleDict({"dw": depthwise(), "bn": nn.BatchNorm2d(8, eps=1e-3)})
        self.pw = nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu6(self.stem_bn(self.stem(F.pad(x, (0, 1, 0, 1)))))
        x = F.relu6(self.block["bn"](self.block["dw"](x)))
        return self.head(self.pw(x).mean((2, 3)))


def ours():
    return tfcompat_dw.DepthwiseConv2D(4, 3, 1, "same", 2, "channels_first", use_bias=False)


def pytorchs():
    return nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False)


SCOPES = {
    "stem": "Net/Conv2d_0",
    "stem_bn": "Net/Conv2d_0/BatchNorm",
    "block.dw": "Net/Conv2d_1_depthwise",
    "block.bn": "Net/Conv2d_1_depthwise/BatchNorm",
    "pw": "Net/Conv2d_1_pointwise",
    "head": "Net/Logits/Conv2d_1c_1x1",
}
VARIABLES = {
    "stem.weight": "Net/Conv2d_0/weights",
    "block.dw.weight": "Net/Conv2d_1_depthwise/depthwise_weights",
    "head.bias": "Net/Logits/Conv2d_1c_1x1/biases",
}
NAME_MAPS = {
    "modules": SCOPES,
    "parameters first": {**SCOPES, **VARIABLES},
    "function": lambda name: SCOPES.get(name.rpartition(".")[0]),
    "expressions": [
        (r"^stem(_bn)?\.", r"Net/Conv2d_0\1/"),
        (r"^block\.dw", "Net/Conv2d_1_depthwise"),
        (r"^block\.bn", "Net/Conv2d_1_depthwise/BatchNorm"),
        (r"_bn/", "/BatchNorm."),
        (r"^pw", "Net/Conv2d_1_pointwise"),
        (r"^head", "Net/Logits/Conv2d_1c_1x1"),
        (r"Conv2d_0/weight", "Conv2d_0/weights"),
    ],
}


def check(module, folder, which):
    arrays = np.load(folder / "net.npz")
    with torch.no_grad():
        output = module.eval()(torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2)).numpy()
    expected = arrays[which]
    assert np.abs(output - expected).max() <= BOUND * np.abs(expected).max()


@pytest.mark.parametrize("name_map", NAME_MAPS.values(), ids=NAME_MAPS)
@pytest.mark.parametrize("depthwise", [ours, pytorchs])
@pytest.mark.parametrize(("ema", "which"), [(True, "average"), (False, "own")])
def test_a_checkpoint_goes_into_a_module_of_other_names(folder, name_map, depthwise, ema, which):
    module = Net(depthwise)
    report = load_tf_weights(module, folder / "net.ckpt", name_map, ema=ema)
    check(module, folder, which)
    assert report.complete
    assert report.ema is ema
    assert len(report.matched) == 14
    assert set(report.by.values()) == {"name map"}


@pytest.mark.parametrize("source", ["net_v1.ckpt", "mapping", "arrays"])
def test_other_sources_load_the_same(folder, source):
    module = Net(ours)
    checkpoint = folder / source
    if source != "net_v1.ckpt":
        checkpoint = dict(open_checkpoint(folder / "net.ckpt"))
    if source == "arrays":
        checkpoint = {name: tensor.numpy() for name, tensor in checkpoint.items()}
    load_tf_weights(module, checkpoint, SCOPES, ema=True)
    check(module, folder, "average")


# ---- moving averages -----------------------------------------------------------------------------


def test_moving_averages_must_be_chosen(folder):
    module = Net(ours)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=r"say ema=True .* or ema=False"):
        load_tf_weights(module, folder / "net.ckpt", SCOPES)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


def test_without_moving_averages_there_is_nothing_to_choose(folder):
    report = load_tf_weights(Net(ours), folder / "plain.ckpt", SCOPES)
    assert report.ema is None
    load_tf_weights(Net(ours), folder / "plain.ckpt", SCOPES, ema=False)
    with pytest.raises(ValueError, match="has no moving averages"):
        load_tf_weights(Net(ours), folder / "plain.ckpt", SCOPES, ema=True)


def test_averages_of_another_ending_and_without_their_variables():
    module = nn.Linear(2, 2)
    kernel, bias = torch.ones(2, 2), torch.ones(2)
    file = {"kernel": kernel, "kernel/shadow": kernel * 2, "bias/shadow": bias * 3}
    load_tf_weights(module, file, {"weight": "kernel", "bias": "bias"}, ema="shadow")
    assert module.weight.unique().item() == 2
    assert module.bias.unique().item() == 3
    file = {"weight": kernel, "bias/ExponentialMovingAverage": bias}
    with pytest.raises(ValueError, match="1 missing"):
        load_tf_weights(module, file, {"weight": "weight", "bias": "bias"}, ema=False)


# ---- the report ----------------------------------------------------------------------------------


def test_optimizers_and_steps_are_told_from_what_is_left_over(folder):
    scopes = {key: value for key, value in SCOPES.items() if key != "head"}
    module = Net(ours)
    report = load_tf_weights(module, folder / "net.ckpt", scopes, ema=True, strict=False)
    assert report.missing == ["head.weight", "head.bias"]
    logits = "Net/Logits/Conv2d_1c_1x1"
    assert report.left_over == [f"{logits}/biases", f"{logits}/weights"]
    assert len(report.optimizer) == 2 * 10 + 3
    assert {"global_step", "beta1_power", "Net/Conv2d_0/weights/Adam_1"} <= set(report.optimizer)
    text = str(report)
    assert "12 weights loaded, 2 missing" in text
    assert f"left over: {logits}/weights" in text


def test_strict_loads_everything_or_nothing(folder):
    module = Net(ours)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=r"(?s)2 missing.*missing: head.weight"):
        load_tf_weights(module, folder / "plain.ckpt", {**SCOPES, "head": "Net/Logits"})
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


def test_other_shapes_are_listed_with_both():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    file = {"conv/kernel": torch.zeros(3, 3, 4, 3), "conv/bias": torch.ones(4)}
    report = load_tf_weights(module, file, {"0": "conv"}, strict=False)
    (wrong,) = report.wrong_shapes
    assert (wrong.weight, wrong.variable) == ("0.weight", "conv/kernel")
    assert (wrong.expected, wrong.shape) == ((3, 3, 3, 4), (3, 3, 4, 3))
    assert report.missing == ["1.weight", "1.bias", "1.running_mean", "1.running_var"]
    assert report.matched == {"0.bias": "conv/bias"}


def test_a_module_without_weights_is_no_module_to_load():
    with pytest.raises(ValueError, match="no weights"):
        load_tf_weights(nn.ReLU(), {})
    with pytest.raises(TypeError, match="name_map"):
        load_tf_weights(nn.Linear(1, 1), {}, "dense")


# ---- without a map -------------------------------------------------------------------------------


def linear_pair():
    return nn.ModuleDict({"first": nn.Linear(2, 3), "second": nn.Linear(3, 2)})


def variables(*scopes):
    """Kernel and bias in each scope, of the pair's shapes."""
    found = {}
    for number, scope in enumerate(scopes):
        inputs, units = [(2, 3), (3, 2)][number % 2]
        found[f"{scope}/kernel"] = torch.full((inputs, units), 1.0 + number)
        found[f"{scope}/bias"] = torch.full((units,), 1.0 + number)
    return found


@pytest.mark.parametrize(
    ("scopes", "by"),
    [
        (("first", "second"), "name"),
        (("First", "SECOND"), "name"),
        (("first/first", "second/second"), "name"),
        (("model/first", "model/second"), "end of name"),
        (("a", "b"), "shape"),
    ],
)
def test_names_and_shapes_that_leave_no_choice_are_matched(scopes, by):
    module = linear_pair()
    report = load_tf_weights(module, variables(*scopes))
    assert set(report.by.values()) == {by}
    assert module["first"].weight.unique().item() == 1
    assert module["second"].bias.unique().item() == 2
    assert ("by" in str(report)) == (by != "name")


def test_what_leaves_a_choice_is_listed_and_not_loaded():
    module = linear_pair()
    before = copy.deepcopy(module.state_dict())
    file = variables("a/first", "a/second", "b/first", "b/second")
    report = load_tf_weights(module, file, strict=False)
    assert report.ambiguous["first.weight"] == ["a/first/kernel", "b/first/kernel"]
    assert not report.matched
    assert "ambiguous: first.weight: a/first/kernel, b/first/kernel" in str(report)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    with pytest.raises(ValueError, match="4 ambiguous"):
        load_tf_weights(module, file)


def test_two_weights_of_one_shape_do_not_share_a_variable():
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    report = load_tf_weights(module, {"x/kernel": torch.ones(2, 2)}, strict=False)
    assert not report.matched
    assert report.left_over == ["x/kernel"]


def test_what_a_map_says_of_nothing_is_told():
    names = {"first": "a", "seconds": "b", "second": "c"}
    report = load_tf_weights(linear_pair(), variables("a", "b"), names, strict=False)
    assert report.name_map == [
        "no variable 'c' for second.weight",
        "no variable 'c' for second.bias",
        "'seconds' was used for no weight",
    ]
    assert "  name map: 'seconds' was used for no weight" in str(report)
    names = {"first": "a", "second": "b"}
    assert load_tf_weights(linear_pair(), variables("a", "b"), names).name_map == []


def test_with_a_map_shapes_alone_never_match():
    report = load_tf_weights(linear_pair(), variables("a", "b"), {"first": "a"}, strict=False)
    assert set(report.matched) == {"first.weight", "first.bias"}


# ---- layouts -------------------------------------------------------------------------------------


def numbered(*shape):
    return torch.arange(float(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Linear(2, 3), (2, 3), lambda a: a.T),
        (nn.Linear(2, 3), (1, 1, 2, 3), lambda a: a[0, 0].T),
        (nn.Conv2d(2, 3, 1), (2, 3), lambda a: a.T[:, :, None, None]),
        (nn.Conv1d(2, 3, 5), (5, 2, 3), lambda a: a.permute(2, 1, 0)),
        (nn.Conv2d(2, 3, (4, 5)), (4, 5, 2, 3), lambda a: a.permute(3, 2, 0, 1)),
        (nn.Conv2d(4, 6, 3, groups=2), (3, 3, 2, 6), lambda a: a.permute(3, 2, 0, 1)),
        (nn.Conv3d(2, 3, (2, 4, 5)), (2, 4, 5, 2, 3), lambda a: a.permute(4, 3, 0, 1, 2)),
        (nn.ConvTranspose2d(2, 3, (4, 5)), (4, 5, 3, 2), lambda a: a.permute(3, 2, 0, 1)),
        (nn.Conv2d(4, 8, 3, groups=4), (3, 3, 4, 2),
         lambda a: torch.stack([a[:, :, c, m] for c in range(4) for m in range(2)])[:, None]),
        (nn.Conv2d(4, 8, 3, groups=4), (3, 3, 1, 8), lambda a: a.permute(3, 2, 0, 1)),
        (nn.Embedding(5, 2), (5, 2), lambda a: a),
        (tfcompat_dw.DepthwiseConv2D(4, 3, depth_multiplier=2), (3, 3, 4, 2), lambda a: a),
        (tfcompat_dw.DepthwiseConv1D(4, 3), (3, 4, 1), lambda a: a),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_layouts_are_converted(module, shape, expected):
    array = numbered(*shape)
    module = copy.deepcopy(module)
    load_tf_weights(module, {"scope/weights": array}, {"weight": "scope/weights"}, strict=False)
    assert torch.equal(module.weight.detach(), expected(array))


def test_channels_last_memory_and_other_dtypes_are_kept():
    module = nn.Conv2d(4, 8, 3, groups=4, dtype=torch.float64).to(memory_format=torch.channels_last)
    array = numbered(3, 3, 4, 2)
    load_tf_weights(module, {"w": array}, {"weight": "w"}, strict=False)
    assert module.weight.dtype is torch.float64
    assert torch.equal(module.weight[5, 0], array[:, :, 2, 1].double())


def test_normalizations_take_scale_center_and_statistics():
    module = nn.ModuleDict({"bn": nn.BatchNorm2d(2), "ln": nn.LayerNorm(2)})
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    file = {f"bn/{name}": numbered(2) + 10 * place for place, name in enumerate(names)}
    file |= {f"ln/{name}": numbered(2) - 10 * place for place, name in enumerate(names[:2])}
    load_tf_weights(module, file)
    assert module["bn"].running_var.tolist() == [30, 31]
    assert module["bn"].bias.tolist() == [10, 11]
    assert module["ln"].bias.tolist() == [-10, -9]


# ---- files of Keras ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ["mixed", "deep", "mobilenet_v2"])
def test_a_ported_model_takes_its_own_file(networks, library, name, ending):  # noqa: F811
    file = networks.file(library, name, ending)
    expected, model = port_model(file), port_model(file)
    for tensor in model.state_dict().values():
        tensor.zero_()
    report = load_tf_weights(model, file)
    assert set(report.by.values()) == {"name"}
    assert not report.left_over
    for key, value in model.state_dict().items():
        if "num_batches" not in key:
            assert torch.equal(value, expected.state_dict()[key]), key


def test_a_file_of_keras_goes_into_a_module_with_its_layers_names(networks):  # noqa: F811
    module = nn.ModuleDict(
        {
            "stem": nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4)}),
            "conv": nn.Conv2d(4, 4, 3, groups=4),
        }
    )
    for ending in ("h5", "keras"):
        file = open_checkpoint(networks.file("keras", "chain", ending))
        report = load_tf_weights(module, file)
        assert sorted(report.left_over) == ["dense/bias", "dense/kernel"]
        assert report.matched["conv.weight"] == "conv/kernel"
