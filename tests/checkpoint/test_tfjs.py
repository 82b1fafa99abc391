"""TensorFlow.js' weights: every form that its documentation names, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tfcompat_dw.checkpoint import CheckpointError, open_checkpoint

GENERATOR = np.random.default_rng(0)
KERNEL = GENERATOR.normal(size=(3, 3, 4, 2)).astype("<f4")
BIAS = GENERATOR.normal(size=8).astype("<f4")
COUNTS = GENERATOR.integers(-9, 9, (2, 3)).astype("<i4")
FLAGS = np.array([True, False, True])
COMPLEX = (GENERATOR.normal(size=3) + 1j * GENERATOR.normal(size=3)).astype("<c8")
BYTES = np.arange(7, dtype="u1")
HALVES = GENERATOR.normal(size=(2, 2)).astype("<f2")
CODES = GENERATOR.integers(0, 256, (3, 3), dtype="u1")
WIDE_CODES = GENERATOR.integers(0, 65536, 5).astype("<u2")
TEXTS = [b"", "größe".encode(), b"x" * 300]
TEXT_BYTES = b"".join(len(text).to_bytes(4, "little") + text for text in TEXTS)

PLAIN = {"kernel": KERNEL, "bias": BIAS, "counts": COUNTS, "flags": FLAGS, "c": COMPLEX, "b": BYTES}


def weight(name: str, array: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "dtype": array.dtype.name, **more}


def manifest() -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Two groups, the first of which is cut into files in the middle of a number."""
    first = [weight(name, array) for name, array in PLAIN.items()]
    first.insert(1, {"name": "texts", "shape": [3], "dtype": "string"})
    plain = {"kernel": KERNEL.tobytes(), "texts": TEXT_BYTES} | {
        name: array.tobytes() for name, array in PLAIN.items() if name != "kernel"
    }
    second = [
        weight("half", HALVES.astype("f4"), quantization={"dtype": "float16"}),
        weight(
            "code",
            CODES.astype("f4"),
            quantization={"dtype": "uint8", "scale": 0.031, "min": -4.2},
        ),
        weight(
            "wide",
            WIDE_CODES.astype("i4"),
            quantization={"dtype": "uint16", "scale": 1.5, "min": -7},
        ),
    ]
    data = b"".join(plain.values())
    quantized = HALVES.tobytes() + CODES.tobytes() + WIDE_CODES.tobytes()
    groups = [
        {"paths": ["a.bin", "deep/b.bin"], "weights": first},
        {"paths": ["c.bin"], "weights": second},
    ]
    return groups, data, quantized


def write(folder: Path, groups: Any, data: bytes, quantized: bytes) -> Path:
    (folder / "deep").mkdir(exist_ok=True)
    cut = KERNEL.nbytes - 6
    (folder / "a.bin").write_bytes(data[:cut])
    (folder / "deep" / "b.bin").write_bytes(data[cut:])
    (folder / "c.bin").write_bytes(quantized)
    topology = {"keras_version": "2.4.0", "model_config": {"class_name": "Sequential"}}
    model = {"format": "layers-model", "modelTopology": topology, "weightsManifest": groups}
    (folder / "model.json").write_text(json.dumps(model))
    (folder / "weights_manifest.json").write_text(json.dumps(groups))
    return folder / "model.json"


def test_every_kind_of_weight_comes_as_what_it_stands_for(tmp_path: Path) -> None:
    path = write(tmp_path, *manifest())
    for file in (path, tmp_path, tmp_path / "weights_manifest.json"):
        checkpoint = open_checkpoint(file)
        assert list(checkpoint) == ["kernel", "texts", *list(PLAIN)[1:], "half", "code", "wide"]
        for name, array in PLAIN.items():
            assert np.array_equal(checkpoint[name].numpy(), array), name
            assert checkpoint.info(name).dtype == array.dtype.name
        assert checkpoint.strings("texts") == TEXTS
        assert bytes(checkpoint["texts"].numpy()) == b"".join(TEXTS)
        assert torch.equal(checkpoint["half"], torch.from_numpy(HALVES.astype("f4")))
        # JavaScript computes in 64 bits and rounds once
        code = (CODES.astype("f8") * 0.031 + -4.2).astype("f4")
        assert np.array_equal(checkpoint["code"].numpy(), code)
        assert np.array_equal(checkpoint["wide"], np.floor(WIDE_CODES * 1.5 - 7 + 0.5))
        assert checkpoint["wide"].dtype is torch.int32


def test_a_layers_model_has_the_description_of_keras(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write(tmp_path, *manifest()))
    assert checkpoint.model_config() == {"class_name": "Sequential"}
    assert checkpoint.keras_version() == "2.4.0"
    assert open_checkpoint(tmp_path / "weights_manifest.json").model_config() is None


def changed(**changes: Any) -> Any:
    """The manifest with changes to the weight ``kernel``."""
    groups, *data = manifest()
    groups[0]["weights"][0] |= changes
    return groups, *data


def with_paths(*paths: Any) -> Any:
    groups, *data = manifest()
    groups[0]["paths"] = list(paths)
    return groups, *data


def shorter() -> Any:
    """The last weight has four numbers; there are five."""
    groups, *data = manifest()
    groups[1]["weights"][-1]["shape"] = [4]
    return groups, *data


LIES: dict[str, tuple[Any, str]] = {
    "an absolute path": (with_paths("/etc/hostname"), "is no file beside the manifest"),
    "a path upwards": (with_paths("../a.bin", "deep/b.bin"), "is no file beside the manifest"),
    "a path with a zero": (with_paths("a\0.bin"), "is no file beside the manifest"),
    "a number for a path": (with_paths(3), "is no file beside the manifest"),
    "a missing file": (with_paths("a.bin", "none.bin"), "'none.bin' is missing"),
    "a file left out": (with_paths("a.bin"), "kernel: bytes 0 to 288"),
    "an enormous shape": (changed(shape=[2**40, 2**20]), "of files that have"),
    "a negative shape": (changed(shape=[-1, 2]), "shape [-1, 2]"),
    "a shape of text": (changed(shape="3"), "shape '3'"),
    "a shape of flags": (changed(shape=[True]), "shape [True]"),
    "an unknown type": (changed(dtype="resource"), "data of type 'resource'"),
    "a list for a type": (changed(dtype=["float32"]), "data of type ['float32']"),
    "no name": (changed(name=None), "a weight without a name"),
    "a name twice": (changed(name="bias"), "two weights are named 'bias'"),
    "an unknown quantization": (changed(quantization={"dtype": "int4"}), "which is not known"),
    "a quantization of text": (changed(quantization="uint8"), "which is not known"),
    "a scale of text": (
        changed(quantization={"dtype": "uint8", "scale": "1", "min": 0}),
        "which is not known",
    ),
    "a scale that is no number": (
        changed(quantization={"dtype": "uint8", "scale": 10**400, "min": 0}),
        "numbers that are not finite",
    ),
    "an infinite minimum": (
        changed(quantization={"dtype": "uint8", "scale": 1, "min": float("inf")}),
        "numbers that are not finite",
    ),
    "a file listed twice": (with_paths("a.bin", "./a.bin", "deep/b.bin"), "is listed twice"),
    "half of a character": (with_paths("\ud800"), "is no file beside the manifest"),
    "a name of half of a character": (changed(name="\ud800"), "a name that is no text"),
    "a very long path": (with_paths("a" * 5000), "is no file beside the manifest"),
    "bytes that are nobody's": (shorter(), "its files have 27 bytes, its weights 25"),
    "very many dimensions": (changed(shape=[1] * 100), "shape [1, 1, 1"),
    "many strings": (
        (
            [{"paths": ["a.bin"], "weights": [{"name": "s", "shape": [2**50], "dtype": "string"}]}],
            *manifest()[1:],
        ),
        "strings are not in the files",
    ),
    "no weights": (([{"paths": []}], b"", b""), "no lists 'paths' and 'weights'"),
    "a number for a group": (([5], b"", b""), "no lists 'paths' and 'weights'"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    content, reason = LIES[lie]
    path = write(tmp_path, *content)
    with pytest.raises(CheckpointError, match=r"model\.json") as error:
        open_checkpoint(path)
    assert reason in str(error.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write(inside, *manifest())
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    (inside / "a.bin").unlink()
    (inside / "a.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(CheckpointError, match="leads out of the manifest's folder"):
        open_checkpoint(path)


def test_quantized_numbers_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    groups, *data = manifest()
    groups[1]["weights"][2]["quantization"]["scale"] = 1e9
    checkpoint = open_checkpoint(write(tmp_path, groups, *data))
    with pytest.raises(CheckpointError, match="wide: quantized numbers that stand for none"):
        checkpoint["wide"]


def test_an_empty_weight_of_enormous_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"")
    weights = [{"name": "w", "shape": [0, 2**70], "dtype": "float32"}]
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"weightsManifest": [{"paths": ["a.bin"], "weights": weights}]}))
    with pytest.raises(CheckpointError, match="w: shape"):
        open_checkpoint(path)["w"]


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, '{"a": 1}', "[1e999999]", '{"weightsManifest": {}}', "\x00"]
)
def test_other_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "model.json")
