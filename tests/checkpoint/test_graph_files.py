"""Graphs that TensorFlow wrote: nodes, constants, variables and ends are those that it reads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tfcompat_dw import port_model
from tfcompat_dw.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from tfcompat_dw.checkpoint.graph import Graph, GraphNode, Output

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OF_TF_1 = ("v2.ckpt.meta", "v1.ckpt.meta", "sharded.ckpt.meta", "renamed.ckpt.meta", "of_tf_1")
WRITTEN_OUT = (("functions", "serving_default"), ("keras", "serving_default"))
SIGNED = (
    *(("constants_only", name) for name in ("serving_default", "another")),
    *WRITTEN_OUT,
    ("functions", "chosen"),
    ("no_signatures", "serve"),
    ("no_signatures", "chosen"),
)
TFLITE = (
    *((f"{name}.tflite", "serving_default") for name in
      ("float32", "float16", "dynamic", "int8", "per_tensor", "sparse", "int4")),
    ("several.tflite", "twice"),
    ("several.tflite", "word"),
    ("uint8.tflite", "main"),
)  # fmt: skip
PLAIN = ("plain.pb", "plain.pbtxt", "small.pb", "small.pbtxt")
WITHOUT = (*PLAIN, "tfjs/model.json")
HANDED_ON = ("Const", "Placeholder", "Identity", "ReadVariableOp", "NoOp", "Variable")

Expected = dict[tuple[str, str | None], dict[str, Any]]


def run(script: Path, *arguments: object) -> str:
    """Its output; what it says is shown where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that TensorFlow wrote."""
    folder = tmp_path_factory.mktemp("graphs")
    run(HERE / "graph_write.py", folder)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> Expected:
    """What TensorFlow says, by path and signature."""
    found = json.loads((folder / "expected.json").read_text())
    return {(one["path"], one.get("signature")): one for one in found}


def test_every_graph_that_was_written_is_compared(expected: Expected) -> None:
    alone = [(path, None) for path in (*WITHOUT, *OF_TF_1)]
    assert set(expected) == {*alone, *SIGNED, *TFLITE}


def encoded(tensor: torch.Tensor) -> list[Any]:
    data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), data.hex()]


def ends(graph: Graph) -> tuple[list[list[Any]], list[str]]:
    inputs = [[one.name, one.dtype, listed(one.shape)] for one in graph.inputs]
    return inputs, list(graph.outputs)


def listed(value: Any) -> Any:
    """Shapes are lists in JSON."""
    return [listed(one) for one in value] if isinstance(value, (list, tuple)) else value


def as_told(node: GraphNode) -> list[Any]:
    """A node as TensorFlow tells it."""
    attributes = {name: listed(value) for name, value in node.attributes.items()}
    return [node.op, [str(one) for one in node.inputs], attributes]


def needed(nodes: dict[str, Any], outputs: list[str]) -> set[str]:
    """Names of the nodes that some results need."""
    queue = [name.partition(":")[0] for name in outputs]
    for name in queue:  # which grows meanwhile
        queue += [one.partition(":")[0] for one in nodes[name][1]]
    return set(queue)


def check_nodes(graph: Graph, about: dict[str, Any], outputs: list[str]) -> None:
    told = about["nodes"]
    assert set(graph.nodes) == needed(told, outputs)
    for name, node in graph.nodes.items():
        if node.op == "Placeholder":  # what is said of it, a caller may know better
            assert told[name][0] == "Placeholder"
        else:
            assert (name, as_told(node)) == (name, told[name])
    order = list(graph.nodes)
    for place, node in enumerate(graph.nodes.values()):
        assert all(order.index(one.node) < place for one in node.inputs)


# ---- frozen graphs -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PLAIN)
def test_constants_of_a_graph_are_its_tensors(folder: Path, expected: Expected, path: str) -> None:
    told = expected[path, None]["constants"]
    checkpoint = open_checkpoint(folder / path)
    assert set(checkpoint) == set(told)
    for name, about in told.items():
        info = checkpoint.info(name)
        assert (name, info.dtype, list(info.shape)) == (name, *about[:2])
        if info.dtype == "string":
            assert [text.hex() for text in checkpoint.strings(name)] == about[2]
            assert bytes(checkpoint[name].numpy()).hex() == "".join(about[2])
        else:
            assert (name, encoded(checkpoint[name])) == (name, about)


@pytest.mark.parametrize("path", PLAIN)
def test_nodes_of_a_graph_are_tensorflows(folder: Path, expected: Expected, path: str) -> None:
    """Every kind of attribute; results by numbers; without edges that only order."""
    about = expected[path, None]
    checkpoint = open_checkpoint(folder / path)
    assert checkpoint.signatures() == ()
    graph = checkpoint.graph(outputs=about["outputs"])
    assert graph is not None
    assert ends(graph) == (about["inputs"], about["outputs"])
    check_nodes(graph, about, about["outputs"])
    for name, value in graph.constants.items():
        told = about["constants"][name]
        assert told[0] == "string" or encoded(value) == told


def test_graphs_have_every_kind_of_constant_and_attribute(folder: Path, expected: Expected) -> None:
    """What the tests above are worth: each of these was among what they compared."""
    assert {about[0] for about in expected["plain.pb", None]["constants"].values()} == {
        "float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int8", "int16",
        "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string",
    }  # fmt: skip
    graph = open_checkpoint(folder / "plain.pb").graph()
    assert graph is not None
    kinds = {type(one) for node in graph.nodes.values() for one in node.attributes.values()}
    assert kinds >= {int, float, bool, str, list, tuple}
    assert graph.nodes["relu6"].inputs == (Output("split", 1),)


def test_outputs_of_a_graph_are_results_that_nobody_takes(folder: Path) -> None:
    """Of an operation whose results are not known in number it is the first."""
    graph = open_checkpoint(folder / "plain.pb").graph()
    assert graph is not None
    assert ends(graph)[1] == ["both", "both:1", "end", "parsed"]


def test_names_that_are_not_there_are_refused_with_those_that_are(folder: Path) -> None:
    checkpoint = open_checkpoint(folder / "plain.pb")
    with pytest.raises(
        ValueError, match=r"no node 'rellu6'.*similar names: relu6.*outputs are both"
    ):
        checkpoint.graph(outputs=["rellu6"])
    with pytest.raises(ValueError, match="'relu6:x' is not the name of a node"):
        checkpoint.graph(outputs=["relu6:x"])
    with pytest.raises(ValueError, match="no signatures; 'a' is asked for"):
        checkpoint.graph("a")
    with pytest.raises(ValueError, match="no signature 'a'; it has serving_default, another"):
        open_checkpoint(folder / "constants_only").graph("a")
    for path in ("int8.tflite", "several.tflite"):
        with pytest.raises(ValueError, match="no signature 'a'; there are"):
            open_checkpoint(folder / path).graph("a")
        with pytest.raises(ValueError, match="no node 'a'; there are"):
            open_checkpoint(folder / path).graph(outputs=["a"])
    with pytest.raises(ValueError, match=r"TensorFlow\.js names no signatures"):
        open_checkpoint(folder / "tfjs" / "model.json").graph("a")


# ---- variables of TF 1 ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", OF_TF_1)
def test_variables_of_tf_1_are_found_where_the_graph_restores_them(
    folder: Path, expected: Expected, path: str
) -> None:
    """Both formats, one file or several, other names; parts of variables; a switch that is gone."""
    about = expected[path, None]
    graph = open_checkpoint(folder / path).graph(outputs=about.get("wanted"))
    assert graph is not None
    assert ends(graph) == (about["inputs"], about["outputs"])
    values = {graph.variable_names[name]: name for name in graph.variable_names}
    assert set(values) == set(about["variables"]) - {"unused"}
    assert {"rows/part_0", "rows/part_2", "columns/part_1"} <= set(values)
    for name, node in values.items():
        assert graph.nodes[node].op == "Variable"
        assert (name, encoded(graph.constants[node])) == (name, about["variables"][name])
    trained = {name for name, node in values.items() if node in graph.trainable}
    assert trained == set(about["trained"]) - {"unused"}
    ops = {node.op for node in graph.nodes.values()}
    assert not ops & set(about["lost"])
    assert any(name.endswith("of_inference") for name in graph.nodes)
    assert {"Mul", "GatherV2"} <= ops


def test_variables_without_their_checkpoint_are_refused_where_they_are_needed(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "v2.ckpt.meta", tmp_path / "alone.meta")
    checkpoint = open_checkpoint(tmp_path / "alone.meta")
    with pytest.raises(CheckpointError, match=r"alone\.meta: rows.*a variable, whose value is not"):
        checkpoint.graph(outputs=["y"])
    graph = checkpoint.graph(outputs=["chosen"])
    assert graph is not None
    assert set(graph.nodes) == {"index", "table", "chosen", "chosen/axis"}


def test_a_variable_that_is_restored_under_a_name_that_is_not_there_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "renamed.ckpt.meta", tmp_path / "other.meta")
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(folder / f"v2.ckpt{suffix}", tmp_path / f"other{suffix}")
    with pytest.raises(CheckpointError, match="the checkpoint has no value of this variable"):
        open_checkpoint(tmp_path / "other.meta").graph(outputs=["y"])


# ---- SavedModels ---------------------------------------------------------------------------------


def graph_of(checkpoint: Checkpoint, signature: str) -> Graph:
    graph = checkpoint.graph(signature)
    assert graph is not None
    return graph


@pytest.mark.parametrize(("path", "signature"), SIGNED)
def test_signatures_have_tensorflows_inputs_outputs_and_values(
    folder: Path, expected: Expected, path: str, signature: str
) -> None:
    about = expected[path, signature]
    checkpoint = open_checkpoint(folder / path)
    assert about["signatures"] in (None, list(checkpoint.signatures()))
    graph = graph_of(checkpoint, signature)
    inputs, outputs = ends(graph)
    assert (inputs, about["outputs"] or outputs) == (about["inputs"], outputs)
    variables = {
        name: encoded(graph.constants[name])
        for name, node in graph.nodes.items()
        if node.op == "Variable"
    }
    told = about.get("values", {})
    assert Counter(map(str, variables.values())) == Counter(map(str, told.values()))
    if "trained" in about:
        names = [graph.variable_names[name] for name in variables if name in graph.trainable]
        assert len(names) == len(about["trained"])
        alone = {name for name in about["trained"] if about["trained"].count(name) == 1}
        assert alone <= set(names)
        for name in set(variables) - graph.trainable:
            assert graph.variable_names[name] in told
    assert not {node.op for node in graph.nodes.values()} & set(about.get("lost", ()))


@pytest.mark.parametrize(("path", "signature"), WRITTEN_OUT)
def test_functions_are_written_out_as_by_tensorflows_optimizer(
    folder: Path, expected: Expected, path: str, signature: str
) -> None:
    """The same operations as often; a function that is called four times, too."""
    graph = graph_of(open_checkpoint(folder / path), signature)
    ops = Counter(node.op for node in graph.nodes.values() if node.op not in HANDED_ON)
    assert ops == expected[path, signature]["ops"]


@pytest.mark.parametrize("signature", ["serving_default", "another"])
def test_nodes_of_a_saved_model_of_constants_are_tensorflows(
    folder: Path, expected: Expected, signature: str
) -> None:
    about = expected["constants_only", signature]
    graph = graph_of(open_checkpoint(folder / "constants_only"), signature)
    check_nodes(graph, about, [str(one) for one in graph.outputs.values()])
    assert {name: encoded(value) for name, value in graph.constants.items()} == about["constants"]


def test_variables_of_one_name_are_told_apart(folder: Path) -> None:
    """Two are called ``v``, and another one ``v_1``, which is what the second would be called."""
    checkpoint = open_checkpoint(folder / "no_signatures")
    serve, chosen = graph_of(checkpoint, "serve"), graph_of(checkpoint, "chosen")
    names = {"vs/0", "vs/1", "w"}
    assert {one.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for one in serve.trainable} == names
    assert "v_1" in chosen.variable_names.values()
    again = {
        name: encoded(graph_of(checkpoint, "serve").constants[name]) for name in serve.trainable
    }
    assert again == {name: encoded(serve.constants[name]) for name in serve.trainable}


def test_a_saved_model_of_keras_has_a_graph_beside_its_description(folder: Path) -> None:
    checkpoint = open_checkpoint(folder / "keras")
    config = checkpoint.model_config()
    assert config is not None
    assert config["class_name"] == "Sequential"
    graph = graph_of(checkpoint, "serving_default")
    moving = {"bn/moving_mean", "bn/moving_variance"}
    names = {graph.variable_names[name] for name in graph.variable_names}
    assert names == {"dense/kernel", "dense/bias", "bn/gamma", "bn/beta", *moving}
    assert {graph.variable_names[name] for name in graph.trainable} == names - moving


def test_maps_take_what_other_maps_give_and_elements_of_maps_around_them(folder: Path) -> None:
    graph = graph_of(open_checkpoint(folder / "maps"), "serving_default")
    outer = [node for node in graph.nodes.values() if node.op == "MapFn"]
    assert [node.attributes["mapped"] for node in outer] == [1, 1]
    nodes = {
        name: [node.op, [str(one) for one in node.inputs]] for name, node in graph.nodes.items()
    }
    assert outer[0].name in needed(nodes, [str(one) for one in outer[1].inputs])
    body = outer[1].attributes["body"]
    assert [node.op for node in body.nodes.values()].count("MapFn") == 1
    with np.load(folder / "maps.npz") as arrays:
        result = port_model(folder / "maps")(torch.from_numpy(arrays["x"]))
        # three numbers added in another order, and multiplied
        np.testing.assert_allclose(result.numpy(), arrays["y"], rtol=4 * 2**-24, atol=2**-22)


@pytest.mark.parametrize("name", ["wide_map", *(f"wide_map_{seed}.pb" for seed in range(4))])
def test_a_map_of_many_results_gives_each_in_its_place(folder: Path, name: str) -> None:
    """As a function and between ``Enter`` and ``Exit``, whatever the order of the nodes."""
    with np.load(folder / "wide_map.npz") as arrays:
        result = port_model(folder / name)(torch.from_numpy(arrays["x"]))
        np.testing.assert_array_equal(result.numpy(), arrays["y"])  # one product each


# ---- TFLite --------------------------------------------------------------------------------------


def camel(name: str) -> str:
    """``strideH`` of ``stride_h``."""
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


def real(about: list[Any]) -> np.ndarray:
    """What a stored constant stands for: ``scale * (q - zero_point)`` in float32."""
    kind, shape, data, steps = about
    stored = np.frombuffer(bytes.fromhex(data), kind).reshape(shape)
    if steps is None:
        return stored
    scales, zeros, axis = steps
    along = [1] * len(shape)
    along[axis] = -1
    exact = stored.astype("i8") - np.array(zeros).reshape(along if len(zeros) > 1 else ())
    return exact.astype("f4") * np.array(scales, "f4").reshape(along if len(scales) > 1 else ())


@pytest.mark.parametrize(("path", "signature"), TFLITE)
def test_operators_of_tflite_are_those_of_the_interpreter(
    folder: Path, expected: Expected, path: str, signature: str
) -> None:
    about = expected[path, signature]
    checkpoint = open_checkpoint(folder / path)
    assert list(checkpoint.signatures()) == about["signatures"]
    graph = graph_of(checkpoint, signature)
    assert graph.is_tflite
    assert ends(graph) == (about["inputs"], about["outputs"])
    made = [node for node in graph.nodes.values() if node.op not in ("Const", "Placeholder")]
    names = {"": "", **{name: name for name in graph.nodes}}
    for node, (_, _, results, _) in zip(made, about["operators"], strict=True):
        names |= {str(Output(node.name, place)): name for place, name in enumerate(results)}
    for node, (op, inputs, results, options) in zip(made, about["operators"], strict=True):
        assert node.op == op
        assert node.name == (results[0] or "tensor")
        found = [re.sub("^k_1$", "k", names[str(one)]) for one in node.inputs]
        assert found == inputs
        for name, value in node.attributes.items():
            if not options:  # the file has none: these are the schema's
                assert value in ([], 0, "NONE")
            else:
                assert (name, value) == (name, as_schema_has_it(value, options[camel(name)]))


def as_schema_has_it(found: Any, told: Any) -> Any:
    """Types have small letters here."""
    return told.lower() if isinstance(told, str) and told.lower() == found else told


@pytest.mark.parametrize(("path", "signature"), TFLITE)
def test_constants_of_tflite_are_the_numbers_that_they_stand_for(
    folder: Path, expected: Expected, path: str, signature: str
) -> None:
    about = expected[path, signature]
    checkpoint = open_checkpoint(folder / path)
    graph = graph_of(checkpoint, signature)
    assert set(graph.constants) == set(about["constants"])
    for name, value in about["constants"].items():
        tensor = graph.constants[name]
        if value[0] == "string":
            assert bytes(tensor.numpy()).hex() == "".join(value[2])
            continue
        wanted = real(value)
        assert encoded(tensor) == [wanted.dtype.name, list(wanted.shape), wanted.tobytes().hex()]


def test_files_of_tflite_have_every_kind_of_constant(folder: Path, expected: Expected) -> None:
    """What the test above is worth: each of these was among what it compared."""
    kinds = set()
    for path, _ in TFLITE:
        checkpoint: Any = open_checkpoint(folder / path)
        for stored in checkpoint._constants.values():
            steps = stored.quantization
            scales = "" if steps is None else " of channels" if len(steps.scale) > 1 else " whole"
            kinds.add(stored.dtype + scales + (" sparse" if stored.sparsity else ""))
    assert kinds >= {
        "float32", "float16", "float32 sparse", "int8 of channels", "int8 whole", "uint8 whole",
        "int32 of channels", "int32 whole", "int32", "int4 of channels",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "signature"), TFLITE)
def test_steps_of_results_of_tflite_are_the_interpreters(
    folder: Path, expected: Expected, path: str, signature: str
) -> None:
    graph = graph_of(open_checkpoint(folder / path), signature)
    told = dict(expected[path, signature]["quantization"])
    told |= {"tensor": told.pop("")} if "" in told else {}
    found = {
        one.node: [list(steps.scale), list(steps.zero_point), steps.axis]
        for one, steps in graph.quantization.items()
        if one.index == 0 and graph.nodes[one.node].op != "Const"
    }
    assert found == told


def test_tensors_of_one_name_and_of_none_are_told_apart(folder: Path) -> None:
    checkpoint = open_checkpoint(folder / "uint8.tflite")
    assert list(checkpoint) == ["k", "k_1"]
    first, second = checkpoint["k"], checkpoint["k_1"]
    assert torch.equal(first.flatten(), (torch.arange(6) - 3) * 0.5)
    assert torch.equal(second.flatten(), (torch.arange(250, 256) - 3) * 0.5)
    graph = graph_of(checkpoint, "main")
    assert list(graph.nodes) == ["x", "k", "tensor", "k_1", "y"]
    assert checkpoint.info("k").dtype == "float32"


def test_strings_of_a_later_subgraph_are_its_own(folder: Path) -> None:
    checkpoint = open_checkpoint(folder / "several.tflite")
    graph = graph_of(checkpoint, "word")
    (text,) = graph.constants.values()
    assert bytes(text.numpy()) == b"conv" + "größe".encode() + b"\0x"
    graph = graph_of(checkpoint, "twice")
    (scale,) = graph.constants.values()
    assert scale.dtype == torch.float32


def test_a_graph_may_be_asked_for_many_times(folder: Path) -> None:
    """What reading may cost is counted for the file, not for each time."""
    checkpoint = open_checkpoint(folder / "several.tflite")
    for _ in range(20_000):
        graph_of(checkpoint, "word")
    assert len(graph_of(checkpoint, "twice").nodes) == 4


# ---- TensorFlow.js -------------------------------------------------------------------------------


def test_a_graph_model_of_tensorflow_js_is_the_graph_that_it_was(
    folder: Path, expected: Expected
) -> None:
    about = expected["tfjs/model.json", None]
    checkpoint = open_checkpoint(folder / "tfjs" / "model.json")
    assert checkpoint.signatures() == ()
    assert checkpoint.model_config() is None
    graph = checkpoint.graph()
    assert graph is not None
    assert ends(graph) == (about["inputs"], about["outputs"])
    check_nodes(graph, about, ["y"])
    assert graph.outputs == {"result": Output("y")}
    constants = {name: encoded(value) for name, value in graph.constants.items()}
    assert constants == {name: about["constants"][name] for name in constants}
    assert {"dw/filter", "dw/bias", "matrix", "Pad/paddings"} <= set(constants)


def test_a_graph_model_without_a_signature_begins_and_ends_where_its_nodes_do(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "tfjs", tmp_path, dirs_exist_ok=True)
    model = json.loads((tmp_path / "model.json").read_text())
    for holder in ("userDefinedMetadata", None):
        about = model.pop("signature", None)
        if holder is not None:
            model[holder] = {"signature": about}
        (tmp_path / "model.json").write_text(json.dumps(model))
        graph = open_checkpoint(tmp_path).graph()
        assert graph is not None
        names = ["image", "result"] if holder else ["x", "y"]
        assert [graph.inputs[0].name, *graph.outputs] == names
        model.pop(holder or "", None)


def test_a_layers_model_of_tensorflow_js_has_no_graph(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "tfjs", tmp_path, dirs_exist_ok=True)
    model = json.loads((tmp_path / "model.json").read_text())
    config = {"class_name": "Sequential", "config": {"layers": []}}
    model |= {"format": "layers-model", "modelTopology": {"model_config": config}}
    (tmp_path / "model.json").write_text(json.dumps(model))
    checkpoint = open_checkpoint(tmp_path / "model.json")
    assert checkpoint.model_config() == config
    assert checkpoint.graph() is None
    assert checkpoint.signatures() == ()


# ---- the fuzz driver -----------------------------------------------------------------------------


def damaged(folder: Path, count: int, seeds: str, *options: object) -> str:
    """What the fuzz driver says of so many damaged files."""
    script = ROOT / "tools" / "fuzz_checkpoints.py"
    paths = [folder / seed for seed in seeds.split()]
    return run(script, "--count", count, "--memory", 512, *options, *paths)


def test_fuzz_driver_finds_nothing_in_240_damaged_graphs(folder: Path) -> None:
    output = damaged(
        folder, 240, "plain.pb small.pbtxt v2.ckpt.meta of_tf_1 functions maps int8.tflite "
        "sparse.tflite several.tflite tfjs/model.json",
    )  # fmt: skip
    assert output.startswith("240 damaged files")
    assert "reported" not in output


def test_fuzz_driver_finds_nothing_in_60_damaged_graphs_that_are_ported(folder: Path) -> None:
    output = damaged(folder, 60, "small.pbtxt tfjs/model.json float32.tflite", "--port")
    assert output.startswith("60 damaged files")
    assert "reported" not in output


@pytest.mark.full
def test_fuzz_driver_finds_nothing_in_thousands_of_damaged_graphs(folder: Path) -> None:
    everything = (
        "plain.pb plain.pbtxt small.pb small.pbtxt v2.ckpt.meta v1.ckpt.meta sharded.ckpt.meta "
        "renamed.ckpt.meta of_tf_1 functions no_signatures constants_only maps keras "
        "float32.tflite float16.tflite int8.tflite sparse.tflite int4.tflite uint8.tflite "
        "several.tflite tfjs/model.json"
    )
    assert "reported" not in damaged(folder, 6600, everything, "--seed", 10_000)
    ported = "small.pb small.pbtxt tfjs/model.json float32.tflite int8.tflite uint8.tflite"
    assert "reported" not in damaged(folder, 1200, ported, "--seed", 20_000, "--port")
