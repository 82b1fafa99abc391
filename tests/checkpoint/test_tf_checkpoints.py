"""TF's own checkpoints, of both formats, and SavedModels: as TF reads them, however damaged."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from tf_lies import BUNDLES, TABLES  # noqa: E402
from tf_tables import bundle_entry, message, string_entry, write_bundle  # noqa: E402

from tfcompat_dw.checkpoint import CheckpointError, open_checkpoint  # noqa: E402
from tfcompat_dw.checkpoint.bundle import Bundle  # noqa: E402
from tfcompat_dw.checkpoint.saved_model import SavedModelVariables  # noqa: E402
from tfcompat_dw.checkpoint.schemas import DATA_TYPES  # noqa: E402
from tfcompat_dw.checkpoint.slices import TensorSlice  # noqa: E402
from tfcompat_dw.checkpoint.table_checkpoint import TableCheckpoint  # noqa: E402

ROOT = HERE.parent.parent
CASES = {
    "objects-1": Bundle,
    "iterator": Bundle,
    "handmade/table": Bundle,
    "weights": Bundle,
    "tf_keras": SavedModelVariables,
    "older": SavedModelVariables,
    "subclassed": SavedModelVariables,
    "exported": SavedModelVariables,
    "saver/V1": TableCheckpoint,
    "saver/V1_sharded-?????-of-00003": TableCheckpoint,
    "saver/V2": Bundle,
    "saver/V2_sharded": Bundle,
}
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def run(script, *arguments):
    """Its output; what it says is shown where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that TensorFlow wrote, and one that it only reads."""
    folder = tmp_path_factory.mktemp("written")
    data = struct.pack("<6f", *range(6))
    entries = {
        b"a": bundle_entry(data[:16], 2, 2),
        b"b": bundle_entry(data[16:], 2, offset=16),
    }
    write_bundle(folder / "handmade" / "table", entries, data)
    run(HERE / "tf_write.py", folder)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """What TensorFlow reads, by path."""
    return json.loads((folder / "expected.json").read_text())


@pytest.fixture
def copied(folder, tmp_path):
    """A copy to damage."""
    return shutil.copytree(folder, tmp_path / "copy")


def tensor_bytes(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def contents(checkpoint):
    """Bytes by name, or the error that reading gives."""
    result = {}
    for name in checkpoint:
        try:
            result[name] = tensor_bytes(checkpoint[name])
        except CheckpointError as error:
            result[name] = error
    return result


# ---- what TensorFlow wrote -----------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_names_types_shapes_and_values_are_those_that_tensorflow_reads(case, folder, expected):
    checkpoint = open_checkpoint(folder / case)
    assert type(checkpoint) is CASES[case]
    told = expected[str(folder / case)]
    assert set(checkpoint) == set(told)
    assert len(checkpoint) == len(told)
    for name, about in told.items():
        info = checkpoint.info(name)
        assert (name, info.dtype, list(info.shape)) == (name, about["dtype"], about["shape"])
        if info.dtype == "variant":
            continue
        tensor = checkpoint[name]
        if info.dtype == "string":
            value = about["value"]
            texts = [bytes.fromhex(text) for text in ([value] if type(value) is str else value)]
            assert checkpoint.strings(name) == texts
            assert tensor_bytes(tensor) == b"".join(texts)
        else:
            assert list(tensor.shape) == about["shape"]
            assert str(tensor.dtype) == f"torch.{info.dtype}"
            assert tensor_bytes(tensor).hex() == about["value"]


def test_files_have_every_kind_of_tensor(expected):
    """What the test above is worth: each of these was among what it compared."""
    tensors = [about for told in expected.values() for about in told.values()]
    kinds = {about["dtype"] for about in tensors}
    unwritten = {"qint8", "quint8", "qint16", "quint16", "qint32", "resource"}
    unwritten |= {"float8_e5m2", "float8_e4m3fn", "int4", "uint4"}
    assert kinds == set(DATA_TYPES.values()) - unwritten
    assert any(about["shape"] == [] for about in tensors)
    assert any(0 in about["shape"] for about in tensors)


def test_keys_of_a_bundle_are_sorted_and_known_without_reading(folder):
    checkpoint = open_checkpoint(folder / "objects-1")
    assert list(checkpoint) == sorted(checkpoint)
    assert f"scalar{VALUE}" in checkpoint
    assert "scalar" not in checkpoint
    with pytest.raises(KeyError):
        checkpoint["scalar"]
    with pytest.raises(TypeError, match="is float32, not string"):
        checkpoint.strings(f"scalar{VALUE}")


def test_path_may_be_the_index_file_and_the_prefix_may_have_dots(folder, tmp_path):
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(folder / f"objects-1{suffix}", tmp_path / f"model.v1.ckpt-7{suffix}")
    whole = contents(open_checkpoint(folder / "objects-1"))
    assert contents(open_checkpoint(tmp_path / "model.v1.ckpt-7.index")) == whole
    assert contents(open_checkpoint(str(tmp_path / "model.v1.ckpt-7"))) == whole


def test_reading_needs_no_tensorflow(folder, expected):
    paths = [str(folder / case) for case in CASES]
    read = json.loads(run(HERE / "tf_read.py", 2048, *paths))
    for path, told in expected.items():
        for name, about in told.items():
            if type(about["value"]) is str:
                value = hashlib.sha256(bytes.fromhex(about["value"])).hexdigest()
                assert read[path][name] == value


def test_a_variant_is_listed_and_refused(folder):
    checkpoint = open_checkpoint(folder / "iterator")
    (name,) = (name for name in checkpoint if checkpoint.info(name).dtype == "variant")
    with pytest.raises(CheckpointError, match="data of type variant"):
        checkpoint[name]


def test_quantized_numbers_are_read_as_the_integers_that_they_are(tmp_path):
    data = struct.pack("<4b", 0, 1, -128, 127)
    path = write_bundle(tmp_path / "q", {b"w": bundle_entry(data, 2, 2, dtype=11)}, data)
    checkpoint = open_checkpoint(path)
    assert checkpoint.info("w").dtype == "qint8"
    assert torch.equal(checkpoint["w"], torch.tensor([[0, 1], [-128, 127]], dtype=torch.int8))


# ---- the mapped file -----------------------------------------------------------------------------


def mapping_of(address):
    """The file that is mapped at an address, and how."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, *_, path = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in span.split("-"))
        if start <= address < end:
            return path, mode
    return None


def test_tensors_are_views_of_the_file(folder):
    checkpoint = open_checkpoint(folder / "saver" / "V2_sharded")
    tensor = checkpoint["whole"]
    path, mode = mapping_of(tensor.data_ptr())
    assert path == str(folder / "saver" / "V2_sharded.data-00001-of-00003")
    assert mode.endswith("p")  # private: writing copies the page


def test_writing_to_a_tensor_changes_neither_the_file_nor_what_is_read_later(copied):
    data = copied / "saver" / "V2_sharded.data-00001-of-00003"
    before = data.read_bytes()
    checkpoint = open_checkpoint(copied / "saver" / "V2_sharded")
    first = checkpoint["whole"]
    values = first.clone()
    first.zero_()
    second = checkpoint["whole"]
    assert torch.equal(second, values)
    second.fill_(3)
    assert torch.equal(checkpoint["whole"], values)
    assert not first.any()
    assert data.read_bytes() == before


# ---- names ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(folder):
    """What Keras says of the model itself: its configuration, and its weights by name."""
    return json.loads((folder / "model.json").read_text())


@pytest.mark.parametrize("case", ["tf_keras", "older"])
def test_variables_of_a_saved_model_have_the_names_of_layers_and_weights(case, folder, model):
    checkpoint = open_checkpoint(folder / case)
    names = checkpoint.variable_names()
    by_name = {name: key for key, name in names.items()}
    for name, value in model["variables"].items():  # "conv" and "block/conv" among them
        assert tensor_bytes(checkpoint[by_name[name]]).hex() == value
    assert len(model["variables"]) == 12
    assert set(names) <= set(checkpoint)
    assert names["optimizer/_iterations" + VALUE] == "iteration"


def test_keras_weights_have_the_full_names_of_the_object_graph(folder):
    names = open_checkpoint(folder / "weights").variable_names()
    assert names["layer_with_weights-0/depthwise_kernel" + VALUE] == "dw/depthwise_kernel"
    assert names["layer_with_weights-3/moving_mean" + VALUE] == "bn/moving_mean"


def test_objects_have_the_full_names_of_their_variables(folder):
    names = open_checkpoint(folder / "objects-1").variable_names()
    assert names["scalar" + VALUE] == "named/scalar"
    assert names["nested/1/a..b.Sc" + VALUE] == "inner"


def test_subclassed_and_exported_models_have_full_names(folder):
    names = open_checkpoint(folder / "subclassed").variable_names()
    assert names["variables/2" + VALUE] == "subclassed/second/kernel"
    names = open_checkpoint(folder / "exported").variable_names()
    assert set(names.values()) == {
        f"sequential/{name}" for name in ("dw/kernel", "dw/bias", "out/kernel", "out/bias")
    }


def test_a_saver_has_no_other_names(folder):
    assert open_checkpoint(folder / "saver" / "V2").variable_names() == {}
    assert open_checkpoint(folder / "saver" / "V1").variable_names() == {}


@pytest.mark.parametrize("case", ["tf_keras", "older"])
def test_model_config_is_kerass(case, folder, model):
    checkpoint = open_checkpoint(folder / case)
    config = checkpoint.model_config()
    assert config["class_name"] == "Functional"
    layers = config["config"]["layers"]
    written = model["config"]["layers"]
    assert [(layer["class_name"], layer["config"]["name"]) for layer in layers] == [
        (layer["class_name"], layer["config"]["name"]) for layer in written
    ]
    assert layers[1]["config"]["padding"] == "same"
    assert checkpoint.keras_version().startswith("2.")


def test_model_config_is_none_where_keras_wrote_none(folder):
    for case in ("exported", "subclassed"):
        assert open_checkpoint(folder / case).model_config() is None
    assert open_checkpoint(folder / "exported").keras_version() is None
    assert open_checkpoint(folder / "objects-1").model_config() is None


# ---- the file "checkpoint" -----------------------------------------------------------------------


def test_latest_checkpoint_is_the_one_that_the_folder_names(folder):
    assert repr(open_checkpoint(folder)) == repr(open_checkpoint(folder / "objects-1"))
    latest = open_checkpoint(folder / "saver")  # TF wrote an absolute or a relative path
    assert latest.path.name == "V2_sharded"


@pytest.mark.parametrize(
    ("named", "opened"),
    [("handmade/table", Bundle), ("../{folder}/iterator", Bundle), ("saver/V1", TableCheckpoint)],
)
def test_latest_checkpoint_may_be_anywhere(named, opened, copied):
    for path in (named.format(folder=copied.name), copied / named.format(folder=copied.name)):
        (copied / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\nunknown: 1')
        assert type(open_checkpoint(copied)) is opened


BAD_STATES = {
    "a file that is no checkpoint": (b'model_checkpoint_path: "secret.txt"', "known kind|no table"),
    "the folder itself": (b'model_checkpoint_path: "."', "no checkpoint"),
    "the root": (b'model_checkpoint_path: "/"', "empty name|no checkpoint"),
    "a file that is not there": (b'model_checkpoint_path: "none"', "no checkpoint .*none"),
    "a pipe": (b'model_checkpoint_path: "pipe"', "no checkpoint"),
    "a pipe of an index": (b'model_checkpoint_path: "piped"', "no checkpoint"),
    "a path with a zero": (b'model_checkpoint_path: "a\\000b"', "names no path"),
    "a very long path": (b'model_checkpoint_path: "%s"' % (b"a" * 5000), "long"),
    "no path": (b"", "names no path"),
    "no text": (b"\xff\xfe\x00", "no list"),
    "another message": (b"a { b: [1, 2] } : : }", "no list"),
    "the path twice": (b'model_checkpoint_path: "a" model_checkpoint_path: "b"', "no list"),
    "deep nesting": (b"a{" * 100_000, "no list"),
    "deep lists": (b"a:" + b"[" * 100_000, "no list"),
    "a long file": (b"#" * 2**21, "no list"),
}


@pytest.mark.parametrize("state", BAD_STATES)
def test_checkpoint_file_that_leads_nowhere_is_refused(state, tmp_path):
    content, message = BAD_STATES[state]
    (tmp_path / "secret.txt").write_text("nobody's business" * 10)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "piped.index")
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        open_checkpoint(tmp_path)
    assert "business" not in str(error.value)


# ---- damage --------------------------------------------------------------------------------------


def assert_right_or_refused(path, sound, *, names=True):
    """What is read is right; how many tensors, or none where the file is refused."""
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError:
        return 0
    read = contents(checkpoint)
    assert not names or set(read) == set(sound)
    right = {name: value for name, value in read.items() if not isinstance(value, CheckpointError)}
    assert all(sound[name] == value for name, value in right.items())
    return len(right)


DAMAGED = {
    "objects-1.index": "objects-1",
    "objects-1.data-00000-of-00001": "objects-1",
    "saver/V2.index": "saver/V2",
    "tf_keras/variables/variables.index": "tf_keras",
    "saver/V1": "saver/V1",
    "saver/V1_sharded-00000-of-00003": "saver/V1_sharded-?????-of-00003",
}


@pytest.mark.parametrize("damaged", DAMAGED)
def test_truncated_at_every_97th_byte_is_right_or_refused(damaged, copied):
    file, path = copied / damaged, copied / DAMAGED[damaged]
    sound = contents(open_checkpoint(path))
    counts = []
    for size in reversed(range(0, file.stat().st_size, 97)):
        os.truncate(file, size)
        counts.append(assert_right_or_refused(path, sound))
    if ".data" in damaged:
        assert counts == sorted(counts, reverse=True)  # what is before the cut is still there
        assert counts[0] > counts[-1] >= 0
    else:
        assert set(counts) == {0}


@pytest.mark.parametrize("damaged", DAMAGED)
def test_flipped_bits_are_noticed_or_of_no_matter(damaged, copied):
    file, path = copied / damaged, copied / DAMAGED[damaged]
    sound = contents(open_checkpoint(path))
    dice, data, noticed = random.Random(0), bytearray(file.read_bytes()), 0
    for _ in range(400):
        at, bit = dice.randrange(len(data)), 1 << dice.randrange(8)
        with file.open("r+b") as stream:
            stream.seek(at)
            stream.write(bytes([data[at] ^ bit]))
        noticed += assert_right_or_refused(path, sound) < len(sound)
        with file.open("r+b") as stream:
            stream.seek(at)
            stream.write(data[at : at + 1])
    assert noticed > 300  # the rest: padding in the footer, the index of nothing


def read_all(opener, path):
    checkpoint = opener(path)
    return [checkpoint[name] for name in checkpoint]


@pytest.mark.parametrize("lie", BUNDLES)
def test_bundle_that_lies_is_refused(lie, tmp_path):
    write, message = BUNDLES[lie]
    path = write(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        read_all(Bundle, path)


@pytest.mark.parametrize("lie", TABLES)
def test_table_checkpoint_that_lies_is_refused(lie, tmp_path):
    write, message = TABLES[lie]
    path = write(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        read_all(open_checkpoint, path)


def test_one_bad_tensor_leaves_the_others_readable(tmp_path):
    data = struct.pack("<4f", 1, 2, 3, 4)
    entries = {
        b"bad": bundle_entry(data[:8], 2, crc32c=1),
        b"good": bundle_entry(data[8:], 2, offset=8),
    }
    checkpoint = open_checkpoint(write_bundle(tmp_path / "two", entries, data))
    assert torch.equal(checkpoint["good"], torch.tensor([3.0, 4.0]))
    with pytest.raises(CheckpointError, match="two: bad: its checksum does not match") as error:
        checkpoint["bad"]
    assert error.value.place == "bad"


def test_lies_take_no_memory(tmp_path):
    """64 MiB are enough to refuse each of them."""
    paths = []
    for number, (write, _) in enumerate([*BUNDLES.values(), *TABLES.values()]):
        (tmp_path / str(number)).mkdir()
        paths.append(str(write(tmp_path / str(number))))
    read = json.loads(run(HERE / "tf_read.py", 64, *paths))
    for path in paths:
        told = [read[path]] if type(read[path]) is str else read[path].values()
        assert any(text.startswith("CheckpointError") for text in told)


def test_a_shard_of_format_v1_that_is_missing_is_refused(copied):
    pattern = copied / "saver" / "V1_sharded-?????-of-?????"
    assert len(open_checkpoint(pattern)) == 21
    (copied / "saver" / "V1_sharded-00001-of-00003").unlink()
    with pytest.raises(CheckpointError, match="2 files of that name"):
        open_checkpoint(pattern)
    with pytest.raises(CheckpointError, match="0 files of that name"):
        open_checkpoint(copied / "none-?????-of-00007")


# ---- object graphs -------------------------------------------------------------------------------


def write_graph(folder, nodes, *, metadata=None, objects=None):
    """A SavedModel with this object graph and one variable, ``v``."""
    text = nodes if isinstance(nodes, bytes) else graph(nodes)
    data, entry = string_entry(text)
    number = struct.pack("<f", 1)
    entries = {
        b"_CHECKPOINTABLE_OBJECT_GRAPH": entry,
        b"v": bundle_entry(number, offset=len(data)),
    }
    write_bundle(folder / "variables" / "variables", entries, data + number)
    twins = [{"children": node.get("children", [])} for node in objects or nodes]
    saved = {"object_graph_def": {"nodes": twins}}
    model = message("SavedModel", meta_graphs=[saved]) if twins else message("SavedModel")
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    about = [{"node_id": node, "metadata": text} for node, text in (metadata or {}).items()]
    about = message("SavedMetadata", nodes=about).SerializeToString()
    (folder / "keras_metadata.pb").write_bytes(about)
    return open_checkpoint(folder)


def graph(nodes):
    return message("TrackableObjectGraph", nodes=nodes).SerializeToString()


def child(node, name):
    return {"node_id": node, "local_name": name}


VARIABLE = {"attributes": [{"checkpoint_key": b"v"}]}


def test_object_graph_with_cycles_is_walked_once(tmp_path):
    nodes = [
        {"children": [child(0, b"self"), child(1, b"layer")]},
        {"children": [child(0, b"parent"), child(1, b"self"), child(2, b"kernel")]},
        {**VARIABLE, "children": [child(1, b"layer")]},
    ]
    checkpoint = write_graph(tmp_path, nodes, metadata={1: b'{"name": "conv"}'})
    assert checkpoint.variable_names() == {"v": "conv/kernel"}
    assert Bundle(tmp_path / "variables" / "variables").variable_names() == {}


def test_object_graph_that_leads_out_of_itself_is_not_followed(tmp_path):
    nodes = [{"children": [child(node, b"x%d" % node) for node in (-1, 7, 2**31 - 1)]}, VARIABLE]
    checkpoint = write_graph(tmp_path, nodes, metadata={0: b"{}", -1: b"{}"})
    assert checkpoint.variable_names() == {}


def test_object_graph_of_100_000_objects_in_a_row_is_walked(tmp_path):
    count = 100_000
    nodes = [{"children": [child(node + 1, b"next")]} for node in range(count)] + [VARIABLE]
    checkpoint = write_graph(tmp_path, nodes, metadata={count - 1: b'{"name": "last"}'})
    assert checkpoint.variable_names() == {"v": "last/next"}


def test_layers_within_layers_without_end_are_refused(tmp_path):
    nodes = [{"children": [child(node + 1, b"next")]} for node in range(300)] + [VARIABLE]
    name = json.dumps({"name": "n" * 100}).encode()
    checkpoint = write_graph(tmp_path, nodes, metadata=dict.fromkeys(range(300), name))
    with pytest.raises(CheckpointError, match="without end"):
        checkpoint.variable_names()


IN_A_LAYER = [{"children": [child(1, b"layer")]}, {"children": [child(2, b"k")]}, VARIABLE]


@pytest.mark.parametrize("about", ["variable_names", "model_config", "keras_version"])
def test_metadata_that_is_no_json_is_refused(about, tmp_path):
    for text in (b"\xff", b"[" * 100_000, b"9" * 5000, b'{"name": '):
        checkpoint = write_graph(tmp_path, IN_A_LAYER, metadata={0: text, 1: text})
        with pytest.raises(CheckpointError, match="no valid JSON"):
            getattr(checkpoint, about)()


@pytest.mark.parametrize("about", ["variable_names", "model_config", "keras_version"])
def test_metadata_of_other_kinds_is_ignored(about, tmp_path):
    for text in (b"[1]", b'{"name": 5, "keras_version": [], "model_config": "x"}', b"null"):
        checkpoint = write_graph(tmp_path, IN_A_LAYER, metadata={0: text, 1: text})
        assert not getattr(checkpoint, about)()


def test_object_graph_of_noise_is_refused(tmp_path):
    for text in (b"\xff\xff", graph([{"attributes": [{"checkpoint_key": b"\xff"}]}])):
        checkpoint = write_graph(tmp_path, text, metadata={0: b"{}"}, objects=[{}])
        assert checkpoint["v"] == 1
        with pytest.raises(CheckpointError, match=r"no valid TrackableObjectGraph|UTF-8"):
            checkpoint.variable_names()


@pytest.mark.parametrize("file", ["saved_model.pb", "keras_metadata.pb"])
def test_description_of_noise_leaves_the_variables_readable(file, copied):
    (copied / "tf_keras" / file).write_bytes(b"\xff" * 20)
    checkpoint = open_checkpoint(copied / "tf_keras")
    assert all(isinstance(value, bytes) for value in contents(checkpoint).values())
    with pytest.raises(CheckpointError, match="no valid Saved"):
        checkpoint.variable_names()


def test_folder_without_variables_is_refused(copied):
    (copied / "tf_keras" / "variables" / "variables.index").unlink()
    with pytest.raises(CheckpointError, match=r"variables\.index: No such file"):
        open_checkpoint(copied / "tf_keras")


# ---- keys of slices ------------------------------------------------------------------------------

NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=2), st.integers(0, 3))
def test_keys_of_slices_sort_as_their_numbers(extents, rank):
    one, other = (((0, -1),) * rank + (extent,) for extent in extents)
    keys = TensorSlice(one).key(b"w"), TensorSlice(other).key(b"w")
    assert (keys[0] < keys[1]) == (one < other)
    assert (keys[0] == keys[1]) == (one == other)


@given(st.lists(st.binary(max_size=6), min_size=2, max_size=2))
def test_keys_of_slices_sort_as_their_names(names):
    keys = [TensorSlice(((5, 7),)).key(name) for name in names]
    assert (keys[0] < keys[1]) == (names[0] < names[1])
    assert (keys[0] == keys[1]) == (names[0] == names[1])


# ---- the fuzz driver -----------------------------------------------------------------------------


def test_fuzz_driver_finds_nothing_in_200_damaged_files(folder):
    seeds = [folder / case for case in ("objects-1", "saver/V1", "saver/V2_sharded", "tf_keras")]
    script = ROOT / "tools" / "fuzz_checkpoints.py"
    output = run(script, "--count", 200, "--checksums", *seeds)
    assert output.startswith("200 damaged files")
    assert "reported" not in output
