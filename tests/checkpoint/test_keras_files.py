"""Keras' files: everything that h5py finds in them, and nothing of what damaged ones pretend."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tfcompat_dw.checkpoint import Checkpoint, CheckpointError, open_checkpoint

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import real_files  # noqa: E402


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of Keras 3 or 2 in all of its formats."""
    folder = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, HERE / "keras_write.py", folder, request.param]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


def datasets(file: h5py.File) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def visit(name: str, thing: object) -> None:
        if isinstance(thing, h5py.Dataset):
            found[name] = thing[()]

    file.visititems(visit)
    return found


def assert_same(checkpoint: Checkpoint, expected: dict[str, np.ndarray]) -> None:
    """All names, shapes, types and values."""
    assert set(checkpoint) == set(expected)
    assert len(checkpoint) == len(expected)
    for name, array in expected.items():
        info = checkpoint.info(name)
        assert name in checkpoint
        assert info.shape == np.shape(array)
        if info.dtype == "string":
            assert checkpoint.strings(name) == [bytes(text) for text in np.ravel(array)]
            continue
        tensor = checkpoint[name]
        assert info.dtype == array.dtype.newbyteorder("=").name
        assert tensor.shape == array.shape
        assert np.array_equal(tensor.numpy(), array, equal_nan=True), name


def h5_files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*.h5"))


def test_hdf5_files_hold_what_h5py_finds(folder: Path) -> None:
    files = list(h5_files(folder))
    assert len(files) == 2
    for path in files:
        with h5py.File(path) as file:
            assert_same(open_checkpoint(path), datasets(file))


def test_a_keras_archive_holds_what_h5py_finds_in_it(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
        description = json.loads(archive.read("config.json"))
    with h5py.File(tmp_path / "unpacked" / "model.weights.h5") as file:
        expected = datasets(file)
    for kind in (path, tmp_path / "unpacked"):
        checkpoint = open_checkpoint(kind)
        assert_same(checkpoint, expected)
        assert checkpoint.model_config() == description
        assert (checkpoint.keras_version() or "")[:1] == (
            "3" if folder.name.startswith("keras") else "2"
        )


def test_a_compressed_archive_is_read_too(folder: Path, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(folder / "model.keras") as archive,
        zipfile.ZipFile(tmp_path / "small.keras", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in archive.namelist():
            small.writestr(name, archive.read(name))
    one, other = (
        open_checkpoint(path) for path in (folder / "model.keras", tmp_path / "small.keras")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert list(one) == list(other)


def test_a_legacy_file_says_which_variables_belong_to_which_layer(folder: Path) -> None:
    checkpoint = open_checkpoint(folder / "model.h5")
    with h5py.File(folder / "model.h5") as file:
        groups = file["model_weights"]
        names = {
            layer: [str(name) for name in groups[layer].attrs["weight_names"]]
            for layer in groups.attrs["layer_names"]
        }
        layers = checkpoint.layers()
        assert {layer: len(keys) for layer, keys in layers.items()} == {
            layer: len(entries) for layer, entries in names.items()
        }
        variables = checkpoint.variable_names()
        for layer, keys in layers.items():
            assert [variables[key] for key in keys] == names[layer]
            for key, name in zip(keys, names[layer], strict=True):
                assert np.array_equal(checkpoint[key], groups[layer][name][()])


def test_the_real_file_of_keras_2_0_holds_what_h5py_finds() -> None:
    path = real_files.path("emotion_model.hdf5")
    checkpoint = open_checkpoint(path)
    with h5py.File(path) as file:
        assert_same(checkpoint, datasets(file))
    assert checkpoint.keras_version() == "2.0.5"
    config = checkpoint.model_config()
    assert config is not None
    assert config["class_name"] == "Model"


def test_long_lists_of_layers_are_written_in_pieces_and_read_whole(tmp_path: Path) -> None:
    """HDF5 takes no attribute of more than 64 KiB; Keras then writes several."""
    layers = [f"layer_with_a_rather_long_name_{number:05d}" for number in range(3000)]
    with h5py.File(tmp_path / "long.h5", "w") as file:
        for piece in range(3):
            part = [name.encode() for name in layers[piece * 1000 : (piece + 1) * 1000]]
            file.attrs[f"layer_names{piece}"] = part
        for layer in layers:
            group = file.create_group(layer)
            group.attrs["weight_names"] = [b"w:0"] if layer == layers[-1] else []
        file[layers[-1]]["w:0"] = np.arange(3.0)
    found = open_checkpoint(tmp_path / "long.h5").layers()
    assert list(found) == layers
    assert found[layers[-1]] == [f"{layers[-1]}/w:0"]


# ---- storage -------------------------------------------------------------------------------------

NUMBERS = np.random.default_rng(0).normal(size=(40, 30)).astype("f4")


def write_kinds(file: h5py.File) -> None:
    """Every storage that is read."""
    file.create_dataset(
        "gzip", data=NUMBERS, chunks=(16, 8), compression="gzip", shuffle=True, fletcher32=True
    )
    file.create_dataset("chunks", data=np.arange(100), chunks=(30,))
    file["strings"] = np.array([b"abc", b"", b"de"], dtype=object)
    file["fixed"] = np.array([b"abc", b"de"])
    file["empty"] = np.zeros((0, 3), "f2")
    file["scalar"] = np.float16(3)
    file["big-endian"] = np.arange(5, dtype=">f8")
    file["flags"] = np.array([True, False])
    file["nan"] = np.array([np.nan, -np.inf], "f8")


@pytest.mark.parametrize("version", ["earliest", "v110"])
def test_every_kind_of_storage_is_read(version: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "kinds.h5", "w", libver=(version, "v110")) as file:
        if version == "v110":  # pyfive does not read the newest kinds of chunks
            for number in range(20):
                file[f"group/d{number}"] = np.arange(number + 1)
        else:
            write_kinds(file)
        expected = datasets(file)
    assert_same(open_checkpoint(tmp_path / "kinds.h5"), expected)


def test_numbers_in_one_piece_are_views_of_the_file_that_leave_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = NUMBERS
    before = path.read_bytes()
    checkpoint = open_checkpoint(path)
    first, second = checkpoint["a"], checkpoint["a"]
    first.zero_()
    assert first.data_ptr() == second.data_ptr()
    assert path.read_bytes() == before
    assert np.array_equal(open_checkpoint(path)["a"], NUMBERS)


# ---- hostile files -------------------------------------------------------------------------------


def external_link(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("other.h5", "/secret")


def soft_link(file: h5py.File) -> None:
    file["b"] = NUMBERS
    file["a"] = h5py.SoftLink("/b")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("a", (10,), "f4", external=[("/etc/passwd", 0, 40)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (10,))
    file.create_virtual_dataset("a", layout)


def cycle(file: h5py.File) -> None:
    group = file.create_group("a/b")
    group["c"] = file["a"]


def nothing_written(file: h5py.File) -> None:
    file.create_dataset("a", (2**40,), "f4", chunks=(2**20,))


def nothing_written_in_one_piece(file: h5py.File) -> None:
    file.create_dataset("a", (10,), "f4")


def some_chunks(file: h5py.File) -> None:
    file.create_dataset("a", (2**30,), "f4", chunks=(2**10,))[:4] = 1


def bomb(file: h5py.File) -> None:
    """A chunk that unpacks to more than its numbers."""
    import zlib

    dataset = file.create_dataset("a", (4, 4), "f4", chunks=(4, 4), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**26)))


def lzf(file: h5py.File) -> None:
    file.create_dataset("a", data=NUMBERS, compression="lzf")


def compound(file: h5py.File) -> None:
    file["a"] = np.zeros(3, dtype=[("x", "f4"), ("y", "i4")])


HOSTILE: dict[Callable[[h5py.File], None], str] = {
    external_link: "",
    soft_link: "a soft link",
    external_storage: "",
    virtual: "",
    cycle: "a group within itself",
    nothing_written: "0 of its 1048576 chunks are in the file",
    nothing_written_in_one_piece: "no data was ever written",
    some_chunks: "1 of its 1048576 chunks are in the file",
    bomb: "unpacks to more than its",
    lzf: "compressed by filter 32000",
    compound: "which no tensor holds",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_what_is_not_in_the_file_or_leads_out_of_it_is_refused(
    make: Callable[[h5py.File], None], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "hostile.h5", "w") as file:
        make(file)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(tmp_path / "hostile.h5")["a"]
    assert HOSTILE[make] in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "hostile.h5"))


READ = """
import resource, sys
import torch, numpy, pyfive
from tfcompat_dw.checkpoint import CheckpointError, open_checkpoint
for line in open("/proc/self/status"):
    if line.startswith("VmSize"):
        used = int(line.split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for path in sys.argv[1:]:
    try:
        checkpoint = open_checkpoint(path)
        for name in checkpoint:
            checkpoint[name]
        print("read")
    except CheckpointError:
        print("refused")
"""


def test_lies_about_sizes_take_no_memory(tmp_path: Path) -> None:
    paths = []
    for make in (nothing_written, some_chunks, bomb):
        paths.append(tmp_path / f"{make.__name__}.h5")
        with h5py.File(paths[-1], "w") as file:
            make(file)
    run = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True)
    assert run.stdout.split() == ["refused"] * 3, run.stderr


def read_all(path: Path) -> bool:
    """Whether it was read; every other exception than CheckpointError fails the test."""
    try:
        checkpoint = open_checkpoint(path)
        checkpoint.model_config()
        checkpoint.keras_version()
        checkpoint.layers()  # type: ignore[attr-defined]
        for name in checkpoint:
            checkpoint.info(name)
            checkpoint[name]
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_cut_files_and_flipped_bits_give_checkpoint_errors_or_are_read(
    name: str, folder: Path, tmp_path: Path
) -> None:
    data = (folder / name).read_bytes()
    path = tmp_path / name
    read = []
    dice = random.Random(0)
    for number in range(150):
        damaged = bytearray(data)
        if number % 3 == 0:
            del damaged[dice.randrange(len(data)) :]
        for _ in range(dice.choice((1, 4, 30)) if damaged else 0):
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        read.append(read_all(path))
    assert 5 < sum(read) < 145  # both do happen


# ---- hostile archives ----------------------------------------------------------------------------


def archive_with(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def small_weights(tmp_path: Path) -> bytes:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers/conv2d/vars/0"] = NUMBERS
    return (tmp_path / "w.h5").read_bytes()


ARCHIVES: dict[str, tuple[dict[str, bytes], int, str]] = {
    "no config": ({"x": b""}, zipfile.ZIP_STORED, "config.json: missing"),
    "no weights": ({"config.json": b"{}"}, zipfile.ZIP_STORED, "model.weights.h5: missing"),
    "a bomb": (
        {"config.json": b"{}", "model.weights.h5": bytes(2**28)},
        zipfile.ZIP_DEFLATED,
        "more than 100 times as many",
    ),
    "an unusual compression": (
        {"config.json": b"{}", "model.weights.h5": bytes(100)},
        zipfile.ZIP_LZMA,
        "compressed by method 14",
    ),
    "other weights": (
        {"config.json": b"{}", "model.weights.h5": b"no HDF5"},
        zipfile.ZIP_STORED,
        "damaged, or not understood",
    ),
    "paths in the list of weights": (
        {"config.json": b"{}", "model.weights.json": b'{"weight_map": {"a": "../x.h5"}}'},
        zipfile.ZIP_STORED,
        "no file '../x.h5' beside it",
    ),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    members, method, reason = ARCHIVES[kind]
    path = archive_with(tmp_path / "a.keras", members, method)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(path)
    assert reason in str(error.value)


def test_nothing_is_unpacked_to_disk(tmp_path: Path) -> None:
    members = {"config.json": b"{}", "model.weights.h5": small_weights(tmp_path)}
    (tmp_path / "in").mkdir()
    path = archive_with(tmp_path / "in" / "a.keras", members | {"../evil": b"x", "/tmp_evil": b"y"})
    assert np.array_equal(open_checkpoint(path)["layers/conv2d/vars/0"], NUMBERS)
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["a.keras"]


def test_a_deeply_nested_description_is_refused(tmp_path: Path) -> None:
    members = {"config.json": b"[" * 200_000, "model.weights.h5": small_weights(tmp_path)}
    checkpoint = open_checkpoint(archive_with(tmp_path / "a.keras", members))
    with pytest.raises(CheckpointError, match=r"config\.json: no valid JSON"):
        checkpoint.model_config()


def test_weights_in_several_files_are_one_mapping(tmp_path: Path) -> None:
    shards = {}
    for number in range(2):
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file[f"layers/dense_{number}/vars/0"] = NUMBERS + number
        shards[f"model_{number:05d}.weights.h5"] = (tmp_path / "s.h5").read_bytes()
    index = {"weight_map": {f"/layers/dense_{n}/vars": name for n, name in enumerate(shards)}}
    members = {"config.json": b"{}", "model.weights.json": json.dumps(index).encode(), **shards}
    checkpoint = open_checkpoint(archive_with(tmp_path / "a.keras", members))
    assert list(checkpoint) == ["layers/dense_0/vars/0", "layers/dense_1/vars/0"]
    assert np.array_equal(checkpoint["layers/dense_1/vars/0"], NUMBERS + 1)


WITHOUT = """
import sys
for name in ("tensorflow", "keras", "tf_keras", "h5py"):
    sys.modules[name] = None
"""


def test_reading_works_where_importing_tensorflow_keras_and_h5py_raises(folder: Path) -> None:
    paths = [*h5_files(folder), folder / "model.keras"]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT + READ, *paths], capture_output=True, text=True
    )
    assert run.stdout.split() == ["read"] * 3, run.stderr
