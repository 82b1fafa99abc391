"""Keras' files: everything that h5py finds in them, and nothing of what damaged ones pretend."""

from __future__ import annotations

import json
import os
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
from tfcompat_dw.checkpoint.hdf5 import Hdf5File
from tfcompat_dw.checkpoint.keras_hdf5 import KerasHdf5
from tfcompat_dw.checkpoint.mapped import MappedFile

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import keras_lies  # noqa: E402
import real_files  # noqa: E402


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of Keras 3 or 2 in all of its formats."""
    folder = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, HERE / "keras_write.py", folder, request.param]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def keras_3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What only Keras 3 writes."""
    folder = tmp_path_factory.mktemp("more")
    subprocess.run(
        [sys.executable, HERE / "keras_write.py", folder, "keras"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder / "more"


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
        optimizer = [str(name) for name in file["optimizer_weights"].attrs["weight_names"]]
        assert [variables[f"optimizer_weights/{name}"] for name in optimizer] == optimizer
        assert set(variables) == set(checkpoint)


def test_variables_of_keras_3_come_in_the_order_of_their_numbers(keras_3: Path) -> None:
    path = keras_3 / "own.weights.h5"
    checkpoint = open_checkpoint(path)
    layers = checkpoint.layers()  # type: ignore[attr-defined]
    assert {holder: len(keys) for holder, keys in layers.items()} == {"": 1, "layers/many": 12}
    assert layers[""] == ["vars/0"]
    assert layers["layers/many"] == [f"layers/many/vars/{number}" for number in range(12)]
    names = checkpoint.layer_names()  # type: ignore[attr-defined]
    with h5py.File(path) as file:
        assert names == {holder: file[f"{holder}/vars"].attrs["name"] for holder in layers}


def test_every_type_that_keras_3_writes_is_read_bit_by_bit(keras_3: Path) -> None:
    checkpoint = open_checkpoint(keras_3 / "own.weights.h5")
    types = set()
    with h5py.File(keras_3 / "own.weights.h5") as file:
        for name, array in datasets(file).items():
            tensor = checkpoint[name]
            types.add(str(tensor.dtype))
            assert tensor.shape == array.shape
            assert bytes(tensor.view(torch.uint8).numpy()) == array.tobytes()
    assert types == {"torch.float16", "torch.bfloat16", "torch.float32", "torch.float64"}


def test_weights_that_keras_3_wrote_to_several_files_are_those_of_one_file(keras_3: Path) -> None:
    several = open_checkpoint(keras_3 / "several.weights.json")
    whole = open_checkpoint(keras_3 / "whole.weights.h5")
    assert len(list(keras_3.glob("several_*.weights.h5"))) > 2
    assert set(several) == set(whole)
    assert all(torch.equal(several[name], whole[name]) for name in whole)
    assert several.layers() == whole.layers()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [("emotion_model.hdf5", "2.0.5", "Model"), ("visual_wake_words.h5", "2.4.0", "Functional")],
)
def test_real_files_of_keras_2_hold_what_h5py_finds(name: str, version: str, kind: str) -> None:
    path = real_files.path(name)
    checkpoint = open_checkpoint(path)
    with h5py.File(path) as file:
        assert_same(checkpoint, datasets(file))
    assert checkpoint.keras_version() == version
    config = checkpoint.model_config()
    assert config is not None
    assert config["class_name"] == kind


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
    file["complex"] = np.array([1 - 2j, 3j], "c8")
    file["wide complex"] = np.array([[1 - 2j]], "c16")
    file["words"] = np.array([2**16 - 1, 1], "u2")
    file["halves in the wrong order"] = np.arange(6, dtype=">f2").reshape(2, 3)
    file.create_dataset(
        "packed strings", data=np.array([b"ab", b"c"] * 20), chunks=(7,), compression=9
    )
    file.create_dataset("packed flags", data=np.arange(40) % 3 == 0, chunks=(16,), compression=1)
    file.create_dataset("checked", data=np.arange(33, dtype="i1"), chunks=(33,), fletcher32=True)
    write_within_its_header(file, np.arange(5, dtype="f4"))


def write_within_its_header(file: h5py.File, array: np.ndarray) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    kind, space = h5py.h5t.py_create(array.dtype), h5py.h5s.create_simple(array.shape)
    h5py.h5d.create(file.id, b"compact", kind, space, properties).write(
        h5py.h5s.ALL, h5py.h5s.ALL, array
    )


@pytest.mark.parametrize(
    "versions", [("earliest", "v110"), ("v108", "v110"), ("latest", "latest")], ids="-".join
)
def test_every_kind_of_storage_is_read(versions: tuple[str, str], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "kinds.h5", "w", libver=versions) as file:
        if versions[0] == "earliest":
            write_kinds(file)
        else:  # groups and attributes have other forms, which depend on how many there are
            for number in range(300):
                file[f"large/d{number}"] = np.arange(number % 7)
                file[f"small{number // 6}/d{number}"] = number
                file.attrs[f"a{number}"] = number
            file.create_group("ordered", track_order=True)["b"] = np.complex64(1j)
            file["ordered/a"] = np.array([True, False])
        expected, attributes = datasets(file), dict(file.attrs)
    checkpoint = open_checkpoint(tmp_path / "kinds.h5")
    assert_same(checkpoint, expected)
    assert Hdf5File(MappedFile(tmp_path / "kinds.h5")).attributes("") == attributes
    assert [name for name in checkpoint if name.startswith("ordered")] == (
        [] if versions[0] == "earliest" else ["ordered/b", "ordered/a"]
    )


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110"])
def test_attributes_have_the_values_that_h5py_gives(libver: str, tmp_path: Path) -> None:
    values = {
        "text": "größe",
        "bytes": b"abc",
        "list": ["a", "", "größe"],
        "fixed": np.array([b"ab", b"c"]),
        "number": -3,
        "numbers": [1, 2],
        "float": 0.1,
        "floats": np.array([[1.5], [2.5]], "f2"),
        "none": np.array([]),
        "big-endian": np.array([258], ">i2"),
        "with/slash": 1,
    }
    if libver != "earliest":
        values["long"] = np.arange(50_000)  # HDF5 then keeps it outside of the header
    with h5py.File(tmp_path / "a.h5", "w", libver=(libver, "v110")) as file:
        for name, value in values.items():
            file.attrs[name] = value
        file.attrs["empty"] = h5py.Empty("f4")
        file.attrs["compound"] = np.zeros(1, [("a", "i4"), ("b", "f4")])
    found = Hdf5File(MappedFile(tmp_path / "a.h5")).attributes("")
    expected = {
        name.replace("/", "_"): [part.encode() if isinstance(part, str) else part for part in flat]
        for name, value in values.items()
        for flat in [np.ravel(value).tolist()]
    }
    scalars = {"text", "bytes", "number", "float", "with_slash"}
    assert found == {
        name: value[0] if name in scalars else value for name, value in expected.items()
    }


def test_what_is_not_read_does_not_keep_others_from_being_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "new.h5", "w", libver="latest") as file:
        file.create_dataset("chunks", data=NUMBERS, chunks=(8, 8))
        file["plain"] = NUMBERS
    checkpoint = open_checkpoint(tmp_path / "new.h5")
    assert np.array_equal(checkpoint["plain"], NUMBERS)
    with pytest.raises(CheckpointError, match=r"chunks: chunks as HDF5 1\.10 lists them; h5repack"):
        checkpoint["chunks"]


@pytest.mark.parametrize("flip", [0, 7, 100, -5])
def test_a_chunk_that_its_checksum_does_not_fit_is_refused(flip: int, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", data=NUMBERS, chunks=(40, 30), fletcher32=True)
        where = dataset.id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[where.byte_offset + flip % where.size] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="a: a chunk whose checksum is wrong"):
        open_checkpoint(path)["a"]


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


def zeros(file: h5py.File) -> None:
    file.create_dataset("a", data=np.zeros(2**24, "f4"), chunks=(2**20,), compression="gzip")


def lzf(file: h5py.File) -> None:
    file.create_dataset("a", data=NUMBERS, compression="lzf")


def compound(file: h5py.File) -> None:
    file["a"] = np.zeros(3, dtype=[("x", "f4"), ("y", "i4")])


HOSTILE: dict[Callable[[h5py.File], None], str] = {
    external_link: "an external link",
    soft_link: "a soft link",
    external_storage: "external storage",
    virtual: "a virtual dataset",
    cycle: "a group within itself",
    nothing_written: "0 of its 1048576 chunks are in the file",
    nothing_written_in_one_piece: "no data was ever written",
    some_chunks: "1 of its 1048576 chunks are in the file",
    bomb: "unpacks to more than its",
    zeros: "unpacks to more than 128 times the file's",
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
import torch, numpy
from tfcompat_dw.checkpoint import CheckpointError, open_checkpoint
torch.zeros(2**16).sum()  # threads start
for line in open("/proc/self/status"):
    if line.startswith("VmSize"):
        used = int(line.split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for path in sys.argv[1:]:
    try:
        checkpoint = open_checkpoint(path)
        checkpoint.layers()
        for name in checkpoint:
            checkpoint[name]
        print("read")
    except CheckpointError:
        print("refused")
"""


ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""Every further thread would take address space of its own, which the limit counts."""


def test_lies_about_sizes_take_no_memory(tmp_path: Path) -> None:
    paths = []
    for make in (nothing_written, some_chunks, bomb):
        paths.append(tmp_path / f"{make.__name__}.h5")
        with h5py.File(paths[-1], "w") as file:
            make(file)
    run = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, env=ALONE
    )
    assert run.stdout.split() == ["refused"] * 3, run.stderr


def test_structures_in_circles_end_soon_and_take_no_memory(tmp_path: Path) -> None:
    """All together within 20 seconds of the processor, each within 64 MiB: the files have one."""
    paths = []
    for make in keras_lies.LIES:
        paths.append(tmp_path / f"{make.__name__}.h5")
        paths[-1].write_bytes(make())
    run = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, env=ALONE
    )
    assert run.stdout.split() == ["refused"] * len(paths), run.stderr


def test_a_file_cut_anywhere_is_refused(folder: Path, tmp_path: Path) -> None:
    data = (folder / "model.h5").read_bytes()
    path = tmp_path / "cut.h5"
    for size in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            KerasHdf5(path)


def test_a_layer_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    """Else a small file could list a long one thousands of times."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"a", b"/a/"]
        file.create_group("a").attrs["weight_names"] = [b"w"]
        file["a/w"] = 1.0
    with pytest.raises(CheckpointError, match="a: the layer is listed twice"):
        open_checkpoint(tmp_path / "a.h5").layers()  # type: ignore[attr-defined]


@pytest.mark.parametrize("missing", ["weight_names", "group", "variable"])
def test_a_layer_that_is_not_all_there_is_refused(missing: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        if missing != "group":
            group = file.create_group("a")
            if missing != "weight_names":
                group.attrs["weight_names"] = [b"w"]
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "a.h5").layers()  # type: ignore[attr-defined]


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
    if name == "model.h5":
        assert 5 < sum(read) < 145  # both do happen
    else:
        assert sum(read) < 5  # archives have checksums of everything


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
    "networks of another kind": (
        {"face.tflite": b"", "x": b""},
        zipfile.ZIP_STORED,
        "a zip archive with 'face.tflite': unpack it and open that",
    ),
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
        "no HDF5 file, or cut short",
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


def damaged_archive(tmp_path: Path, damage: Callable[[bytearray], None]) -> Path:
    members = {"config.json": b"{}", "model.weights.h5": small_weights(tmp_path)}
    path = archive_with(tmp_path / "a.keras", members)
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    return path


def flip_a_number(data: bytearray) -> None:
    data[data.index(NUMBERS.tobytes()) + 100] ^= 1


def encrypt(data: bytearray) -> None:
    at = data.rindex(b"PK\1\2")
    data[at + 8] |= 1


def lie_about_the_size(data: bytearray) -> None:
    at = data.rindex(b"PK\1\2") + 24
    data[at : at + 4] = (10**6).to_bytes(4, "little")


def point_to_another_member(data: bytearray) -> None:
    at = data.rindex(b"PK\1\2") + 42
    data[at : at + 4] = bytes(4)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_number, "its checksum is wrong"),
        (encrypt, "encrypted"),
        (lie_about_the_size, "of two sizes, though it is not compressed"),
        (point_to_another_member, "its header is another member's"),
    ],
)
def test_a_member_that_is_not_what_the_archive_says_is_refused(
    damage: Callable[[bytearray], None], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"a\.keras: model\.weights\.h5: ") as error:
        open_checkpoint(damaged_archive(tmp_path, damage))
    assert reason in str(error.value)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive_with(tmp_path / "a.keras", {"config.json": b"{}"})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("config.json", b"{}")
    with pytest.raises(CheckpointError, match="two members of one name"):
        open_checkpoint(path)


def test_a_stored_member_is_read_through_the_map(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(damaged_archive(tmp_path, lambda data: None))
    first, second = (checkpoint["layers/conv2d/vars/0"] for _ in range(2))
    # unless zip and HDF5 together put it at an odd address, where it has to be copied
    if (tmp_path / "a.keras").read_bytes().index(NUMBERS.tobytes()) % 4 == 0:
        assert first.data_ptr() == second.data_ptr()
    assert np.array_equal(first, NUMBERS)


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
    members["config.json"] = b'{"a":' * 300 + b"1" + b"}" * 300
    checkpoint = open_checkpoint(archive_with(tmp_path / "b.keras", members))
    with pytest.raises(CheckpointError, match=r"config\.json: JSON of more than 200 levels"):
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


def test_a_variable_in_two_files_is_refused(tmp_path: Path) -> None:
    shards = {f"model_{number:05d}.weights.h5": small_weights(tmp_path) for number in range(2)}
    index = {"weight_map": {"a": list(shards)}}
    members = {"config.json": b"{}", "model.weights.json": json.dumps(index).encode(), **shards}
    with pytest.raises(CheckpointError, match="layers/conv2d/vars/0 is in another file, too"):
        open_checkpoint(archive_with(tmp_path / "a.keras", members))


WITHOUT = """
import sys
for name in ("tensorflow", "keras", "tf_keras", "h5py", "pyfive"):
    sys.modules[name] = None
"""


def test_reading_works_where_importing_tensorflow_keras_and_h5py_raises(folder: Path) -> None:
    paths = [*h5_files(folder), folder / "model.keras"]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT + READ, *paths], capture_output=True, text=True, env=ALONE
    )
    assert run.stdout.split() == ["read"] * 3, run.stderr
