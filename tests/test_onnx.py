"""Models with the operator, exported to ONNX, in ONNX Runtime: exact, on whole numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from problems import whole_numbers, with_whole_numbers
from torch import Tensor, nn

import tfcompat_dw
from tfcompat_dw.onnx import onnx_translation_table


def exported(
    model: nn.Module, x: Tensor, path: Path, dynamic: bool
) -> onnxruntime.InferenceSession:
    """For any batch and image size if ``dynamic``; axes 1 and 2 or 2 and 3 are image axes."""
    shapes = None
    if dynamic:
        image = (1, 2) if x.shape[-1] == 3 else (2, 3)
        axes = {axis: torch.export.Dim(f"size{axis}", min=8, max=64) for axis in image}
        shapes = ({0: torch.export.Dim("batch", min=2, max=64), **axes},)
    torch.onnx.export(
        *(model, (x,), path),
        dynamo=True,
        dynamic_shapes=shapes,
        custom_translation_table=onnx_translation_table(),
        verbose=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def assert_runs_alike(session: onnxruntime.InferenceSession, model: nn.Module, x: Tensor) -> None:
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    expected = model(x).detach().numpy()
    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["same", "valid", ((2, 1), (0, 3))], ids=str)
@pytest.mark.parametrize(("strides", "dilation_rate"), [(1, 1), (2, 1), (1, 2)])
def test_layers_compute_the_same(
    strides: int, dilation_rate: int, padding: Any, data_format: Any, dynamic: bool, tmp_path: Path
) -> None:
    layer = tfcompat_dw.DepthwiseConv2D(
        *(3, (5, 4), strides, padding, 2, data_format, dilation_rate), use_bias=strides == 1
    )
    shape = (13, 14, 3) if data_format == "channels_last" else (3, 13, 14)
    with_whole_numbers(layer)
    session = exported(layer, whole_numbers(2, *shape), tmp_path / "layer.onnx", dynamic)
    assert_runs_alike(session, layer, whole_numbers(2, *shape))
    if dynamic:
        shape = (20, 17, 3) if data_format == "channels_last" else (3, 20, 17)
        assert_runs_alike(session, layer, whole_numbers(5, *shape))


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_swapped_network_computes_the_same(dynamic: bool, tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False),
        nn.BatchNorm2d(8, eps=0.0),  # the variance is 1: no rounding
        nn.Conv2d(8, 16, 3, padding="same", groups=8),
    ).eval()
    with_whole_numbers(network)
    tfcompat_dw.replace_depthwise(network)
    session = exported(network, whole_numbers(2, 3, 32, 40), tmp_path / "network.onnx", dynamic)
    assert_runs_alike(session, network, whole_numbers(2, 3, 32, 40))
    if dynamic:
        assert_runs_alike(session, network, whole_numbers(3, 3, 41, 30))


def test_without_onnxscript_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'tfcompat_dw\[onnx\]'"):
        onnx_translation_table()
