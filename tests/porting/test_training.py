"""A ported network trains like the original: gradients, ten steps, moving statistics.

In float64, where a wrong formula cannot hide behind rounding.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tfcompat_dw import port_model
from tfcompat_dw.porting.layer import HasTfWeights
from tfcompat_dw.porting.port import modules_with_weights

HERE = Path(__file__).resolve().parent
STEPS, MOMENTUM = 10, 0.9
RATE, RATES = 0.02, {"ConvNeXtTiny": 1e-4}  # which has no batch norms to keep activations small
NETWORKS = ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny", "Xception"]
IN_SHORT = 1
GRADIENT_BOUND, STEP_BOUND = 1e-9, 1e-7
ROUNDED = {"ConvNeXtTiny": 1e3}
"""Of the largest value of each variable, and how many times that for some networks.

A gradient is a chain of some 200 sums of up to 10^4 terms, each off by 2^-53 * sqrt(10^4) = 1e-14
of its size if errors mostly cancel; that is 2e-12, and cancellation within the sums takes two or
three digits more.  In ten steps errors grow with the curvature, another factor of 100.

TF's gelu divides by a square root of 2 that it rounds to float32 even in float64 networks: an error
of 2^-25 in each of ConvNeXt's 18 blocks, 5e-7 in all.
"""


@pytest.mark.parametrize(
    "name",
    [
        *NETWORKS[:IN_SHORT],
        *(pytest.param(name, marks=pytest.mark.full) for name in NETWORKS[IN_SHORT:]),
    ],
)
def test_gradients_and_ten_steps_are_those_of_keras(name: str, tmp_path: Path) -> None:
    rate = RATES.get(name, RATE)
    subprocess.run(
        [sys.executable, HERE / "train_original.py", name, tmp_path, str(rate)],
        check=True,
        capture_output=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    factor = ROUNDED.get(name, 1)
    model = port_model(tmp_path / "before.keras", dtype=torch.float64).train()
    with np.load(tmp_path / "data.npz") as data:
        x, y = (torch.from_numpy(data[key]) for key in ("x", "y"))
    optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM)
    for step in range(STEPS):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        if step == 0:
            compare_gradients(model, tmp_path / "gradients.npz", GRADIENT_BOUND * factor)
        optimizer.step()
    expected = port_model(tmp_path / "after.keras", dtype=torch.float64).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value.is_floating_point():
            assert_close(found[key], value, STEP_BOUND * factor, key)


def compare_gradients(model: torch.nn.Module, path: Path, bound: float) -> None:
    """Of every trainable variable, in TF's layout."""
    with np.load(path) as arrays:
        expected = {name: torch.from_numpy(array) for name, array in arrays.items()}
    largest = max(array.abs().max().item() for array in expected.values())
    for names, module in modules_with_weights(model):
        for weight in module.tf_weights() if isinstance(module, HasTfWeights) else []:
            if not weight.trainable:
                continue
            gradient = replace(weight, tensor=weight.tensor.grad).to_tf()
            of_layer = [key for key in expected if key.split("/")[-2] == names[-1]]
            # LayerScale gives its only variable no name
            (key,) = [key for key in of_layer if key.endswith(f"/{weight.name}")] or of_layer
            wanted = expected.pop(key)
            # a bias before a batch normalization has a gradient of zero but for rounding
            scale = max(wanted.abs().max().item(), 1e-6 * largest)
            assert (gradient - wanted).abs().max() <= bound * scale, names
    assert not expected


def assert_close(found: torch.Tensor, expected: torch.Tensor, bound: float, what: str) -> None:
    largest = expected.abs().max()
    assert (found - expected).abs().max() <= bound * largest, what
