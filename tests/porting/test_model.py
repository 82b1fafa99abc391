"""`port_model`: Keras' numbers in every layer, and a module like any other of PyTorch's."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from graph_files import BOUND, LIBRARIES, NAMES, distance, networks, run  # noqa: F401
from torch import nn

import tfcompat_dw
from tfcompat_dw.porting import PortedModel, PortError, port_model
from tfcompat_dw.porting.config import parse_network
from tfcompat_dw.porting.layer import TfWeight
from tfcompat_dw.porting.model import attribute_names

FOLDED = {
    "paddings": {"pad_conv", "pad_dw", "pad_separable"},
    "mobilenet_v2": {f"block_{number}_pad" for number in (1, 3, 6, 13)},
}


# ---- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_layer_and_output_is_keras(networks, library, name, ending):  # noqa: F811
    model = port_model(networks.file(library, name, ending))
    inputs = networks.inputs(library, name)
    with torch.no_grad():
        layers = model.layer_outputs(*inputs)
    expected = networks.values(library, name, "layer")
    assert set(expected) - set(layers) == FOLDED.get(name, set())
    assert set(layers) <= set(expected)
    for key, value in layers.items():
        assert distance(value, expected[key]) <= BOUND, key
    outputs = networks.values(library, name, "output").values()
    for actual, value in zip(run(model, inputs), outputs, strict=True):
        assert distance(actual, value) <= BOUND


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", NAMES)
def test_both_formats_give_the_same_bits(networks, library, name):  # noqa: F811
    one, other = (port_model(networks.file(library, name, end)) for end in ("keras", "h5"))
    assert str(one) == str(other)
    state = other.state_dict()
    assert {key: torch.equal(value, state.pop(key)) for key, value in one.state_dict().items()} == (
        dict.fromkeys(one.state_dict(), True)
    )
    assert not state


@pytest.mark.parametrize("library", LIBRARIES)
def test_channels_first_changes_nothing_but_the_axes_of_images(networks, library):  # noqa: F811
    file, inputs = networks.file(library, "paddings", "keras"), networks.inputs(library, "paddings")
    last, first = port_model(file), port_model(file, data_format="channels_first")
    images = [image.permute(0, 3, 1, 2).contiguous() for image in inputs]
    for actual, expected in zip(run(first, images), run(last, inputs), strict=True):
        # PyTorch's kernels for the two memory orders add in different orders
        assert distance(actual.permute(0, 2, 3, 1), expected) <= BOUND


# ---- calls -------------------------------------------------------------------------------------


def test_it_returns_the_structure_that_keras_returns(networks):  # noqa: F811
    model = port_model(networks.file("keras", "mixed", "keras"))
    outputs = model(*networks.inputs("keras", "mixed"))
    assert list(outputs) == ["scores", "features"]
    assert isinstance(outputs["features"], list)
    assert isinstance(port_model(networks.file("keras", "paddings", "keras"))(
        *networks.inputs("keras", "paddings")), list)  # fmt: skip


def test_inputs_go_in_by_position_by_name_in_a_list_and_in_a_dict(networks):  # noqa: F811
    model = port_model(networks.file("tf_keras", "mixed", "h5"))
    first, second = networks.inputs("tf_keras", "mixed")
    assert [one.name for one in model.inputs] == ["image_a", "image_b"]  # sorted, as Keras does
    assert model.inputs[0].shape == (None, 9, 8, 3)
    expected = run(model, [first, second])
    for outputs in (
        model(image_b=second, image_a=first),
        model([first, second]),
        model({"image_b": second, "image_a": first}),
        model(first, image_b=second),
    ):
        assert torch.equal(outputs["scores"], expected[-1])


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1,), {}, r"inputs \['image_b'\] are missing"),
        ((1, 2, 3), {}, "takes 2 inputs"),
        ((1,), {"image_a": 1}, "'image_a' is given twice"),
        ((1, 2), {"image": 1}, "'image' is unknown"),
    ],
)
def test_wrong_inputs_are_named(networks, args, kwargs, message):  # noqa: F811
    model = port_model(networks.file("keras", "mixed", "keras"))
    with pytest.raises(TypeError, match=message):
        model(*args, **kwargs)


def test_integers_become_the_numbers_that_the_network_computes_with(networks):  # noqa: F811
    model = port_model(networks.file("keras", "frozen", "keras"))
    image = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(1, 8, 8, 3)
    assert torch.equal(model(image), model(image.float()))
    double = port_model(networks.file("keras", "frozen", "keras"), dtype=torch.float64)
    assert double(image).dtype is torch.float64


# ---- a module like any other ---------------------------------------------------------------------


@pytest.fixture
def mixed(networks):  # noqa: F811
    model = port_model(networks.file("keras", "mixed", "keras"))
    return model, networks.inputs("keras", "mixed")


def test_copies_and_pickles_compute_the_same(mixed):
    model, inputs = mixed
    expected = run(model, inputs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(map(torch.equal, run(other, inputs), expected))
        assert str(other) == str(model)


def test_it_exports_with_any_batch(mixed):
    model, inputs = mixed
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        model, tuple(inputs), dynamic_shapes=(tuple({0: batch} for _ in inputs),)
    )
    larger = [torch.cat([image, -image, image]) for image in inputs]
    assert all(map(torch.equal, run(program.module(), larger), run(model, larger)))


def test_it_compiles_in_one_graph_for_any_batch(mixed, fresh_compiler):
    model, inputs = mixed
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for images in (inputs, [torch.cat([image, image]) for image in inputs]):
        assert all(map(torch.equal, run(compiled, images), run(model, images)))


def test_state_dict_has_the_layers_names(networks):  # noqa: F811
    state = port_model(networks.file("keras", "mobilenet_v2", "keras")).state_dict()
    assert state["block_1_depthwise.weight"].shape == (3, 3, 48, 1)
    assert {"Conv1.weight", "bn_Conv1.running_var"} <= set(state)
    nested = port_model(networks.file("keras", "mixed", "h5")).state_dict()
    assert {"inner.dw.weight", "inner.bn.running_mean", "branch.separable.bias"} <= set(nested)


def test_print_has_one_line_per_layer(networks):  # noqa: F811
    text = str(port_model(networks.file("keras", "paddings", "keras")))
    lines = {line.split()[0]: line for line in text.splitlines()[1:]}
    assert len(lines) == 10
    assert "kernel 3x3, stride 2x2, padding ((1, 1), (1, 1)), multiplier 1" in lines["dw"]
    assert "<- pad_twice" in lines["b"]
    assert "<-" not in lines["dw"]  # it follows the line above
    nested = str(port_model(networks.file("keras", "mixed", "keras"))).splitlines()
    assert any(line.startswith("    dw ") and "multiplier 2" in line for line in nested)
    assert any("the same again" in line for line in nested)


def test_values_are_dropped_after_their_last_use(networks):  # noqa: F811
    model = port_model(networks.file("keras", "mobilenet_v2", "keras"))
    alive = most = 0
    for step in model.steps:
        alive += 1 - len(step.spent)
        most = max(most, alive)
    assert most <= 2  # a block's input, and what the block computes


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_frozen_layers_stay_frozen_and_keep_their_statistics(networks, library):  # noqa: F811
    model = port_model(networks.file(library, "frozen", "keras"))
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {
        "backbone.conv.weight", "backbone.conv.bias", "backbone.bn.weight", "backbone.bn.bias",
        "bn_frozen.weight", "bn_frozen.bias",
    }  # fmt: skip
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    model(*networks.inputs(library, "frozen")).sum().backward()
    changed = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert {name.rpartition(".")[0] for name in changed} == {"bn"}


def test_keras_2_fixes_the_mode_of_what_is_called_with_training_false(networks, tmp_path):  # noqa: F811
    config = networks.file("tf_keras", "frozen", "keras")
    model = port_model(config).train()
    assert model.training
    assert model.bn.training
    assert not model.backbone.training
    assert not model.backbone.bn.training
    assert not model.eval().bn.training


# ---- layers that are not there -------------------------------------------------------------------


class Doubled(nn.Module):
    def __init__(self, spec):
        super().__init__()
        assert spec.config["factor"] == 2.5
        self.gain = nn.Parameter(torch.empty(spec.weights["0"]))

    def forward(self, x):
        return x * self.gain

    def tf_weights(self):
        return [TfWeight("gain", self.gain)]


CUSTOM = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["CUDA_VISIBLE_DEVICES"] = "3", ""
import keras, numpy as np

@keras.saving.register_keras_serializable("my package")
class Doubled(keras.layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), name="gain", initializer="random_normal")
    def call(self, x):
        return x * self.gain
    def get_config(self):
        return {**super().get_config(), "factor": self.factor}

x = image = keras.Input((5, 5, 2))
for number in range(25):
    x = keras.layers.Lambda(lambda x: x + 1, name=f"python_{number}")(x)
keras.Model(image, x).save(sys.argv[1] + "/lambdas.h5")
inner = keras.Sequential([keras.Input((5, 5, 2)), Doubled(2.5, name="one")], name="inner")
model = keras.Model(image, Doubled(2.5, name="two")(inner(image)))
model.save(sys.argv[1] + "/custom.keras")
x = np.random.default_rng(0).normal(size=(2, 5, 5, 2)).astype("f4")
np.savez(sys.argv[1] + "/custom.npz", x=x, y=model(x))
"""


@pytest.fixture(scope="module")
def custom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("custom")
    subprocess.run([sys.executable, "-c", CUSTOM, folder], check=True, capture_output=True)
    return folder


def test_all_unsupported_layers_are_listed_with_class_place_and_remedy(custom):
    with pytest.raises(PortError) as caught:
        port_model(custom / "custom.keras")
    message = str(caught.value)
    assert str(custom / "custom.keras") in message
    for place in ("'inner/one'", "'two'"):
        assert f"layer {place} ('Doubled')" in message
    assert "layers={'Doubled': builder}" in message


def test_a_builder_can_be_given_for_a_class_of_ones_own(custom):
    arrays = np.load(custom / "custom.npz")
    model = port_model(custom / "custom.keras", layers={"Doubled": Doubled})
    with torch.no_grad():
        # two products, each rounded once, in the same order: the same bits
        assert np.array_equal(model(torch.from_numpy(arrays["x"])), arrays["y"])


def test_a_builder_sees_shapes_and_its_module_has_to_name_the_variables(custom):
    shapes = []

    def remember(spec):
        shapes.append(list(spec.weights.values()))
        return Doubled(spec)

    port_model(custom / "custom.keras", layers={"Doubled": remember})
    assert shapes == [[(2,)], [(2,)]]
    with pytest.raises(PortError, match=r"a Dropout, has no tf_weights\(\); that of a builder"):
        port_model(custom / "custom.keras", layers={"Doubled": lambda spec: nn.Dropout()})


@pytest.mark.parametrize(
    ("data_format", "shape", "says"),
    [
        ("channels_last", (1, 2, 5, 5), "[n, 5, 5, 2], with channels last"),
        ("channels_last", (5, 5, 2), None),  # rows for batch: this network takes it
        ("channels_first", (1, 5, 5, 2), "[n, 2, 5, 5], with channels first"),
        ("channels_first", (1, 2, 5, 5), None),
    ],
)
def test_an_image_that_a_layer_cannot_take_is_told_in_the_callers_terms(
    custom, data_format, shape, says
):
    layers = {"Doubled": Doubled}
    model = port_model(custom / "custom.keras", data_format=data_format, layers=layers)
    image = torch.zeros(shape)
    if says is None:
        assert model(image).shape == shape
        return
    expected = f"input {model.inputs[0].name!r} is {list(shape)}, and the file says {says}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        model(image)
    with pytest.raises(TypeError, match=r"must be a tensor; got <class 'numpy\.ndarray'>"):
        model(image.numpy())


def test_python_in_a_file_is_not_run_and_a_long_list_is_cut(custom):
    with pytest.raises(PortError) as caught:
        port_model(custom / "lambdas.h5")
    message = str(caught.value)
    assert message.count("python_") == 20
    assert "and 5 more" in message
    assert "never run" in message
    model = port_model(custom / "lambdas.h5", layers={"Lambda": lambda spec: nn.Identity()})
    x = torch.rand(1, 5, 5, 2)
    assert torch.equal(model(x), x)


def test_weights_without_a_network_are_refused_with_a_remedy(networks, tmp_path):  # noqa: F811
    with zipfile.ZipFile(networks.file("keras", "chain", "keras")) as archive:
        archive.extract("model.weights.h5", tmp_path)
    with pytest.raises(PortError, match="load_tf_weights"):
        port_model(tmp_path / "model.weights.h5")
    with pytest.raises(PortError, match=r"Python code .* load_tf_weights"):
        parse_network({"class_name": "MyModel", "config": {"units": 3}}, 3)


def test_a_wrong_data_format_is_refused(networks):  # noqa: F811
    with pytest.raises(ValueError, match="data_format must be"):
        port_model(networks.file("keras", "chain", "keras"), data_format="NHWC")


# ---- names ---------------------------------------------------------------------------------------


def test_attributes_are_identifiers_unique_and_hide_nothing():
    names = [
        "conv", "conv!", "conv?", "1x1", "class", "match", "forward", "training", "weight", "",
        "__class__", "_modules", "steps", 'a"b', "../x", "é", "tf.math.add", "x" * 10_000,
        "x" * 10_000 + "y", "inputs", "T_destination", "half", "layer_outputs",
    ]  # fmt: skip
    found = attribute_names(names)
    assert list(found) == names
    attributes = list(found.values())
    assert len(set(attributes)) == len(names)
    module = PortedModel("", [], {}, {}, [], None)
    for attribute in attributes:
        assert attribute.isascii()
        assert attribute.isidentifier()
        assert len(attribute) < 120
        assert not hasattr(module, attribute)
        module.add_module(attribute, nn.Identity())
    assert found["conv"] == "conv"


def test_hostile_names_become_harmless_ones(networks, tmp_path):  # noqa: F811
    with zipfile.ZipFile(networks.file("keras", "chain", "keras")) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    names = ["__class__", "forward", 'a"b\n', "../../x", "y" * 10_000]
    text = parts["config.json"].decode()
    config = json.loads(text)
    old = [layer["config"]["name"] for layer in config["config"]["layers"][-5:]]
    for layer, name in zip(config["config"]["layers"][-5:], names, strict=True):
        layer["config"]["name"] = name
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "hostile.keras", "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    model = port_model(tmp_path / "hostile.keras")
    assert list(model.tf_names.values())[-5:] == names
    assert max(map(len, str(model).splitlines())) < 300
    assert type(model) is PortedModel
    inputs = networks.inputs("keras", "chain")
    original = port_model(networks.file("keras", "chain", "keras"))
    assert torch.equal(model(*inputs), original(*inputs))
    assert set(names) < set(model.layer_outputs(*inputs))
    assert list(original.tf_names.values())[-5:] == old


# ---- without TensorFlow --------------------------------------------------------------------------

WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "tf_keras", "h5py"):
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Refuse())
import torch
from tfcompat_dw.porting import port_model
for file in sys.argv[1:]:
    model = port_model(file)
    shapes = [[2 if size is None else size for size in one.shape] for one in model.inputs]
    model(*map(torch.ones, shapes))
print("ported")
"""


def test_it_needs_neither_tensorflow_nor_keras_nor_h5py(networks):  # noqa: F811
    files = [networks.file("keras", "mixed", "keras"), networks.file("tf_keras", "mixed", "h5")]
    program = [sys.executable, "-c", WITHOUT, *files]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.stdout == "ported\n", done.stderr


def test_the_package_exports_it():
    assert tfcompat_dw.port_model is port_model
