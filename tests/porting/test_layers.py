"""Every layer alone computes, and is trained, as by Keras on TensorFlow in float32."""

from __future__ import annotations

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
from tfcompat_dw.porting.layer import HasTfWeights, LayerSpec
from tfcompat_dw.porting.layers import BUILDERS
from tfcompat_dw.porting.variables import variables_of

PROGRAM = Path(__file__).with_name("layers_keras.py")
# Of the largest value.  The longest sums here have about 400 terms (gradients of a bias over two
# images) and Keras' elementary functions are a few units in the last place off: 2**-24 * 400 at the
# worst is 2.4e-5, by chance its root, 1.2e-6.
BOUND = 1e-5
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


def called(module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Merges take a list, other layers a tensor."""
    output: Tensor = module(list(inputs)) if len(inputs) > 1 else module(inputs[0])
    return output


def assert_close(ours: Tensor, theirs: np.ndarray, what: str) -> None:
    assert tuple(ours.shape) == theirs.shape, what
    mine, their = ours.detach().numpy().astype(np.float64), theirs.astype(np.float64)
    largest = np.abs(their).max(initial=0)
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
    output = called(module, inputs)
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
        assert original.has(key) and weight.tensor.grad is not None
        assert_close(replace(weight, tensor=weight.tensor.grad).to_tf(), original.array(key), key)


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
    expected = called(module, original.inputs())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for twin in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert torch.equal(called(twin, original.inputs()), expected)
    assert "\n" not in repr(module)


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_a_layer_is_exported_and_compiled_for_any_batch(case: Case, originals: Originals) -> None:
    torch.compiler.reset()
    original = originals.of(case)
    module = built(original).eval()
    inputs = original.inputs()
    batch = torch.export.Dim("batch")
    shapes: Any = [{0: batch}] * len(inputs)
    arguments: Any = (inputs,) if len(inputs) > 1 else (inputs[0],)
    program = torch.export.export(
        module, arguments, dynamic_shapes=(shapes,) if len(inputs) > 1 else (shapes[0],)
    ).module()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for times in (1, 3):
        larger = [torch.cat([x] * times) for x in inputs]
        expected = called(module, larger)
        for other in (program, compiled):
            assert_close(called(other, larger), expected.detach().numpy(), "output")
