"""Graphs that TensorFlow wrote compute in PyTorch what TensorFlow computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_files import BOUND, distance
from roundings import RARELY, deviations
from torch import nn

from tfcompat_dw import port_model
from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.porting import PortError
from tfcompat_dw.porting.layers.convolution import DepthwiseConv2D
from tfcompat_dw.porting.layers.normalization import BatchNormalization
from tfcompat_dw.porting.map_fn import MapFn
from tfcompat_dw.porting.model import PortedModel, flat
from tfcompat_dw.porting.operations import Operation
from tfcompat_dw.porting.original_graph import integers_of
from tfcompat_dw.porting.write import write_port

PROGRAM = Path(__file__).with_name("tfgraph_write.py")
QUICK = (
    "frozen:MobileNetV3Small",
    "saved:MobileNetV3Small",
    "frozen:dilated",
    "text:dilated",
    "saved:dilated",
    "frozen:slim",
    "saved:slim",
    "meta:slim",
    "tfjs:dilated",
    "frozen:mapped",
    "saved:mapped",
    "tf1:mapped",
    "tfjs:mapped",
    "frozen:looped",
    "tflite_float32:MobileNet",
    "tflite_float16:MobileNet",
    "tflite_int8:MobileNet",
    "tflite_float32:dilated",
)
NETWORKS = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "NASNetMobile", "Xception")
FORMATS = ("frozen", "saved", "tfjs", "tflite_float32", "tflite_float16", "tflite_int8")
ENDINGS = {
    "frozen": ".pb",
    "tf1": ".pb",
    "text": ".pbtxt",
    "saved": "",
    "meta": ".meta",
    "tfjs": "",
}


def write(folder: Path, *cases: str) -> None:
    done = subprocess.run([sys.executable, PROGRAM, folder, *cases], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the quick cases, all by one process."""
    found = tmp_path_factory.mktemp("graphs")
    write(found, *QUICK)
    return found


def file_of(folder: Path, case: str) -> Path:
    kind, _, name = case.partition(":")
    return folder / f"{kind}_{name}{ENDINGS.get(kind, '.tflite')}"


def arrays_of(folder: Path, case: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{case.replace(':', '_')}.npz") as arrays:
        return dict(arrays)


def check(folder: Path, case: str) -> PortedModel:
    """Ports a file and compares its outputs with the original's."""
    arrays = arrays_of(folder, case)
    model = port_model(file_of(folder, case))
    if case.startswith("tflite_int8"):
        check_integers(folder, case, model)
        return model
    with torch.inference_mode():
        outputs = [one.numpy() for one in flat(model(torch.from_numpy(arrays["image"])))]
    expected = {key: value for key, value in arrays.items() if key.startswith("output ")}
    assert len(outputs) == len(expected)
    for value in expected.values():
        found = next(one for one in outputs if one.shape == value.shape)
        if value.dtype.kind == "f":
            assert distance(torch.from_numpy(found), value) <= BOUND, case
        else:
            assert np.array_equal(found, value), case
    return model


DEVIATIONS = 4.5
"""By which a result is further off once in 150,000 times; there are 20 of each network."""


def check_integers(folder: Path, case: str, model: PortedModel) -> None:
    """In real numbers outputs are off by what the original's roundings add up to; where these are
    simulated, each layer gives the original's integers if it gets them.

    TFLite's hard-swish has tables of its own: of 16 bits on the way, it is a step off now and then.
    """
    file, arrays = file_of(folder, case), arrays_of(folder, case)
    image = torch.from_numpy(arrays["image"])
    graph = open_checkpoint(file).graph()
    assert graph is not None
    results = model.layer_outputs(image.requires_grad_())
    (expected,) = (value for key, value in arrays.items() if key.startswith("output "))
    (name,) = (one.node for one in graph.outputs.values())
    most = DEVIATIONS * deviations(graph, results, results[name])
    assert ((results[name] - torch.from_numpy(expected)).abs() <= most).all(), case

    with np.load(file.with_suffix(".nodes.npz")) as nodes:
        given = {key: torch.from_numpy(value) for key, value in nodes.items()}
    simulated = port_model(file, simulate_quantization=True)
    with torch.inference_mode():
        layers = simulated.outputs_of_each_layer(given, image)
    integers = integers_of(graph)
    compared = [key for key in layers if key in given and graph.nodes[key].op != "Const"]
    assert len(compared) > 20
    for key in compared:
        off = (layers[key] - given[key]).abs() / integers[key].step
        assert off.max() < 1.5, (case, key)
        if graph.nodes[key].op != "HARD_SWISH":
            assert (off > 0.5).sum() <= 1 + RARELY * off.numel(), (case, key)


REFUSED = ("frozen:looped",)


@pytest.mark.parametrize("case", [case for case in QUICK if case not in REFUSED])
def test_a_graph_computes_what_its_original_computes(folder: Path, case: str) -> None:
    check(folder, case)


@pytest.mark.full
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", FORMATS)
def test_five_networks_compute_in_every_format_what_their_originals_compute(
    tmp_path: Path, network: str, kind: str
) -> None:
    write(tmp_path, f"{kind}:{network}")
    check(tmp_path, f"{kind}:{network}")


def layers(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in model.children() if isinstance(layer, kind)]


@pytest.mark.parametrize("case", ["frozen:MobileNetV3Small", "saved:MobileNetV3Small"])
def test_layers_are_recognised_in_a_graph(folder: Path, case: str) -> None:
    """Keras' network has 34 batch normalizations, 11 depthwise layers, 4 padded with stride 2."""
    model = port_model(file_of(folder, case))
    assert len(layers(model, BatchNormalization)) == 34
    depthwise = layers(model, DepthwiseConv2D)
    assert len(depthwise) == 11
    assert sum(not isinstance(layer.padding, str) for layer in depthwise) == 4
    functions = [layer.function for layer in layers(model, Operation)]
    assert "hard_silu" in functions
    assert not {"pad", "rsqrt", "convolution", "depthwise_convolution"} & set(functions)


@pytest.mark.parametrize("case", ["frozen:dilated", "text:dilated", "saved:dilated"])
def test_a_batch_of_pieces_is_a_dilation(folder: Path, case: str) -> None:
    model = port_model(file_of(folder, case))
    dilations = [layer.dilation_rate for layer in layers(model, DepthwiseConv2D)]
    assert dilations == [(2, 2), (4, 4), (3, 3)]
    functions = {layer.function for layer in layers(model, Operation)}
    assert not {"space_to_batch", "batch_to_space"} & functions


def test_rows_and_columns_that_a_graph_leaves_open_stay_open(folder: Path) -> None:
    model = port_model(file_of(folder, "frozen:dilated"))
    large = torch.randn(1, 41, 37, 8, generator=torch.Generator().manual_seed(0))
    outputs = model(large)
    assert {tuple(one.shape) for one in flat(outputs)} == {(1, 41, 37, 8), (1, 41, 37)}


@pytest.mark.parametrize("case", ["frozen:slim", "saved:slim", "meta:slim"])
def test_both_kinds_of_batch_normalization_and_a_prelu_of_tf_1_are_layers(
    folder: Path, case: str
) -> None:
    model = port_model(file_of(folder, case))
    assert len(layers(model, BatchNormalization)) == 2
    kinds = [type(layer).__name__ for layer in model.children()]
    assert kinds.count("PReLU") == 1
    assert kinds.count("DepthwiseConv2D") == 1
    assert kinds.count("Dense") == 1


@pytest.mark.parametrize("case", ["frozen:MobileNetV3Small", "tflite_float16:MobileNet"])
def test_every_weight_of_a_ported_graph_gets_a_gradient(folder: Path, case: str) -> None:
    model = port_model(file_of(folder, case)).train()
    image = torch.from_numpy(arrays_of(folder, case)["image"])
    (output,) = flat(model(image))
    output.square().sum().backward()
    parameters = dict(model.named_parameters())
    assert parameters
    assert all(one.grad is not None and bool(one.grad.any()) for one in parameters.values())


@pytest.mark.parametrize("case", ["frozen:dilated", "tflite_float32:MobileNet"])
def test_what_port_writes_of_a_graph_computes_the_same(
    folder: Path, tmp_path: Path, case: str
) -> None:
    model = port_model(file_of(folder, case))
    image = torch.from_numpy(arrays_of(folder, case)["image"])
    with torch.no_grad():
        expected = flat(model(image))
    for kind in ("safetensors", "py", "pt2"):
        write_port(model, tmp_path / "network", kind)
    namespace: dict[str, object] = {"__file__": str(tmp_path / "network.py")}
    exec((tmp_path / "network.py").read_text(), namespace)
    written = namespace["load"]()  # type: ignore[operator]
    program = torch.export.load(tmp_path / "network.pt2").module()
    with torch.no_grad():
        outputs = zip(expected, flat(written(image)), flat(program(image)), strict=True)
    for value, of_code, of_program in outputs:
        assert torch.equal(of_code, value)
        # export writes a mean over rows and columns as another sum
        assert distance(of_program, value.numpy()) <= BOUND


def test_the_batch_that_tflite_fixes_to_one_is_free(folder: Path) -> None:
    arrays = arrays_of(folder, "tflite_float32:MobileNet")
    model = port_model(file_of(folder, "tflite_float32:MobileNet"))
    image = torch.from_numpy(arrays["image"])
    assert len(image) == 2
    with torch.no_grad():
        separate = torch.cat([flat(model(one[None]))[0] for one in image])
        assert distance(flat(model(image))[0], separate.numpy()) <= BOUND


@pytest.mark.parametrize("case", ["frozen:mapped", "saved:mapped", "tf1:mapped", "tfjs:mapped"])
def test_a_loop_over_elements_is_one_layer_however_it_is_written(folder: Path, case: str) -> None:
    """As a function, between ``Enter`` and ``Exit``, with TF 1's arrays; of any number of them."""
    model = port_model(file_of(folder, case))
    assert [type(layer) for layer in model.children()].count(MapFn) == 2
    image = torch.from_numpy(arrays_of(folder, case)["image"])
    with torch.no_grad():
        several = flat(model(image.repeat(2, 1, 1, 1)))
        assert {tuple(one.shape) for one in several} == {(6,), (6, 6)}


def test_a_loop_that_is_no_map_is_refused_by_its_name(folder: Path) -> None:
    with pytest.raises(PortError, match=r"While, 1 times: 'while'"):
        port_model(file_of(folder, "frozen:looped"))


def test_a_part_of_a_graph_ends_at_the_nodes_that_are_asked_for(folder: Path) -> None:
    file = file_of(folder, "frozen:dilated")
    part = port_model(file, outputs=["Relu6"])
    image = torch.from_numpy(arrays_of(folder, "frozen:dilated")["image"])
    whole = port_model(file).layer_outputs(image)
    assert torch.equal(part(image), whole["Relu6"])
    with pytest.raises(ValueError, match="Relu66"):
        port_model(file, outputs=["Relu66"])


def test_operations_that_are_not_there_are_all_listed_with_a_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfcompat_dw.porting import graph_port

    handlers = {op: one for op, one in graph_port.HANDLERS.items() if op not in ("Relu6", "ArgMax")}
    monkeypatch.setattr(graph_port, "HANDLERS", handlers)
    with pytest.raises(PortError) as error:
        port_model(file_of(folder, "frozen:dilated"))
    message = str(error.value)
    for part in ("Relu6, 3 times: 'Relu6', 'Relu6_1', 'Relu6_2'", "ArgMax, 1 times", "layers="):
        assert part in message
    model = port_model(
        file_of(folder, "frozen:dilated"),
        layers={"Relu6": lambda spec: nn.ReLU6(), "ArgMax": lambda spec: ArgMax()},
    )
    image = torch.from_numpy(arrays_of(folder, "frozen:dilated")["image"])
    assert len(flat(model(image))) == 2


class ArgMax(nn.Module):
    """Gets the axis, too: every input of the operation."""

    def forward(self, x: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
        return x.argmax(int(axis))


# ---- compare -------------------------------------------------------------------------------------

COMPARED = {
    "frozen:dilated": (),
    "text:dilated": (),
    "saved:MobileNetV3Small": ("--range", "0", "255"),
    "meta:slim": (),
    "tflite_float16:MobileNet": (),
    "tflite_int8:MobileNet": (),
}


def compared(*several: list[str | Path]) -> list[tuple[int, str]]:
    """Exit codes and what was printed, of several command lines."""
    joined = [one for arguments in several for one in ("--", *map(str, arguments))]
    command = [sys.executable, PROGRAM.with_name("compare_files.py"), *joined]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def test_compare_runs_the_original_of_every_format_and_names_layers_with_other_weights(
    folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    runs: list[list[str | Path]] = [
        [file_of(folder, case), *options] for case, options in COMPARED.items()
    ]
    changed = {}
    for case in ("frozen:dilated", "tflite_int8:MobileNet"):
        model = port_model(file_of(folder, case))
        attribute, layer = [
            (name, one) for name, one in model.named_children() if isinstance(one, DepthwiseConv2D)
        ][1]
        with torch.no_grad():
            layer.weight.mul_(2)
        name = next(one.name for one in model.steps if one.module == attribute)
        changed[case] = name.removesuffix("/BiasAdd")  # TFLite has what is behind the bias only
        weights = tmp_path / f"{len(changed)}.safetensors"
        save_file({key: one.contiguous() for key, one in model.state_dict().items()}, weights)
        runs.append([file_of(folder, case), "--weights", weights])
    results = compared(*runs)
    for case, (code, text) in zip(COMPARED, results, strict=False):
        assert code == 0, (case, text)
        found = json.loads(text)
        assert found["agrees"]
        assert len(found["layers"]) > 5
    for name, (code, text) in zip(changed.values(), results[len(COMPARED) :], strict=True):
        assert code == 3, text
        assert json.loads(text)["first"] == name


def test_layers_take_what_is_given_for_those_before_them(folder: Path) -> None:
    model = port_model(file_of(folder, "frozen:dilated"))
    image = torch.from_numpy(arrays_of(folder, "frozen:dilated")["image"])
    with torch.no_grad():
        own = model.layer_outputs(image)
        first, second = list(own)[:2]
        given = {first: torch.zeros_like(own[first])}
        found = model.outputs_of_each_layer(given, image)
    assert torch.equal(found[first], own[first])
    assert not torch.equal(found[second], own[second])
