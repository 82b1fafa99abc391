"""Small TensorFlow.js graphs, written by hand: their ends, their fused nodes, their mistakes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tfcompat_dw import port_model
from tfcompat_dw.porting import PortError

GENERATOR = np.random.default_rng(0)
SIZES = {"int32": "DT_INT32", "float32": "DT_FLOAT"}


def node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "input": list(inputs), "attr": {"T": FLOAT, **attributes}}


def shape_of(*sizes: int) -> dict[str, Any]:
    return {"shape": {"dim": [{"size": str(size)} for size in sizes]}}


FLOAT = {"type": "DT_FLOAT"}
IMAGE = {"name": "image", "op": "Placeholder",
         "attr": {"dtype": FLOAT, "shape": shape_of(-1, 8, 8, 3)}}  # fmt: skip


def write(
    folder: Path, nodes: list[dict[str, Any]], constants: dict[str, np.ndarray], **more: Any
) -> Path:
    """A model with an input ``image`` of ``[?, 8, 8, 3]``."""
    entries, data = [], b""
    for name, value in constants.items():
        dtype = {"type": SIZES[value.dtype.name]}
        nodes = [{"name": name, "op": "Const", "attr": {"dtype": dtype}}, *nodes]
        entries.append({"name": name, "shape": value.shape, "dtype": value.dtype.name})
        data += value.tobytes()
    model = {
        "format": "graph-model",
        "modelTopology": {"node": [IMAGE, *nodes], "versions": {"producer": 1}},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": entries}],
        **more,
    }
    (folder / "weights.bin").write_bytes(data)
    path = folder / "model.json"
    path.write_text(json.dumps(model))
    return path


NAMED = {"outputs": {"half": {"name": "middle:0"}}}
"""A signature as some converters wrote it: of outputs alone."""


@pytest.mark.parametrize(
    "more", [{"signature": NAMED}, {"userDefinedMetadata": {"signature": NAMED}}]
)
def test_where_a_signature_names_outputs_alone_placeholders_are_the_inputs(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    nodes = [node("middle", "Mul", "image", "half"), node("end", "Relu", "middle")]
    model = port_model(write(tmp_path, nodes, {"half": np.array([0.5], "f4")}, **more))
    assert [(one.name, one.shape) for one in model.inputs] == [("image", (None, 8, 8, 3))]
    x = torch.randn(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), x * 0.5)


def test_a_constant_that_is_taken_from_a_place_beyond_another_is_refused(tmp_path: Path) -> None:
    nodes = [
        node("taken", "GatherV2", "table", "place", "axis", Tindices={"type": "DT_INT32"}),
        node("end", "Mul", "image", "taken"),
    ]
    numbers = {
        "table": np.zeros(3, "f4"), "place": np.full((20, 1), 7, "i4"), "axis": np.array(0, "i4")
    }  # fmt: skip
    with pytest.raises(PortError, match=r"GatherV2 'taken': .*out of range"):
        port_model(write(tmp_path, nodes, numbers))


def words(*values: str) -> dict[str, Any]:
    return {"list": {"s": [base64.b64encode(one.encode()).decode() for one in values]}}


WINDOW = {
    "strides": {"list": {"i": ["1", "1", "1", "1"]}},
    "padding": {"s": base64.b64encode(b"SAME").decode()},
    "data_format": {"s": base64.b64encode(b"NHWC").decode()},
}
VALUES = {
    name: GENERATOR.normal(size=size).astype("f4")
    for name, size in {
        "dense": (3, 3, 3, 4), "bias": (4,), "alpha": (1, 1, 4), "depthwise": (3, 3, 4, 1),
        "offset": (4,), "slope": (1, 1, 4), "matrix": (256, 5), "shift": (5,),
    }.items()
}  # fmt: skip
FUSED = [
    node("first", "_FusedConv2D", "image", "dense", "bias", "alpha",
         fused_ops=words("BiasAdd", "Prelu"), num_args={"i": "2"}, **WINDOW),
    node("second", "FusedDepthwiseConv2dNative", "first", "depthwise", "offset",
         fused_ops=words("BiasAdd", "Relu6"), num_args={"i": "1"}, **WINDOW),
    node("third", "Prelu", "second", "slope"),
    node("flat", "Reshape", "third", "sizes", Tshape={"type": "DT_INT32"}),
    node("scores", "_FusedMatMul", "flat", "matrix", "shift", fused_ops=words("BiasAdd")),
]  # fmt: skip
SHAPE = {"sizes": np.array([-1, 256], "i4")}


def test_fused_nodes_are_convolutions_biases_and_activations(tmp_path: Path) -> None:
    model = port_model(write(tmp_path, FUSED, VALUES | SHAPE)).double()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = {name: torch.from_numpy(value).double() for name, value in VALUES.items()}
    y = F.conv2d(x, given["dense"].permute(3, 2, 0, 1), given["bias"], padding=1)
    y = F.prelu(y, given["alpha"].reshape(-1))
    y = F.conv2d(y, given["depthwise"].permute(2, 3, 0, 1), given["offset"], padding=1, groups=4)
    y = F.prelu(F.relu6(y), given["slope"].reshape(-1)).permute(0, 2, 3, 1)
    expected = y.reshape(2, 256) @ given["matrix"] + given["shift"]
    torch.testing.assert_close(model(x.permute(0, 2, 3, 1)), expected, rtol=1e-12, atol=1e-11)


def test_compare_runs_fused_nodes_in_tensorflow(tmp_path: Path) -> None:
    """TensorFlow has no kernels for three of the four: they are written out for it."""
    command = [Path(sys.executable).with_name("tfcompat-dw"), "compare", "--json"]
    path = write(tmp_path, FUSED, VALUES | SHAPE)
    run = subprocess.run([*command, path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    layers = {one["name"]: one["relative"] for one in json.loads(run.stdout)["layers"]}
    assert {"first", "second", "third", "flat", "scores"} <= layers.keys()
    assert max(layers.values()) < 1e-5


def test_a_refusal_says_which_outputs_can_be_had_without_what_is_refused(tmp_path: Path) -> None:
    nodes = [
        node("middle", "Mul", "image", "half"),
        node("sum", "AddV2", "middle", "long"),
        node("end", "Relu", "sum"),
    ]
    constants = {"half": np.array([0.5], "f4"), "long": np.zeros(7, "f4")}
    ends = {"half": {"name": "middle:0"}, "relu": {"name": "end:0"}}
    path = write(tmp_path, nodes, constants, signature={"outputs": ends})
    with pytest.raises(PortError) as error:
        port_model(path)
    assert "AddV2 'sum'" in str(error.value)
    assert str(error.value).endswith("outputs that need none of these: outputs=['middle']")
    assert list(port_model(path, outputs=["middle"])._modules) == ["middle"]
