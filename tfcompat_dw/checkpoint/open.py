"""One function for every kind of file: what it is, is read off the file."""

from __future__ import annotations

import importlib
import os
import zipfile
from pathlib import Path

from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The last eight bytes of a table (``tensorflow/tsl/lib/io/format.h``)."""
TFLITE_MAGIC = b"TFL3"
"""After the first four bytes."""
GRAPH_SUFFIXES = (".pb", ".pbtxt", ".meta")
_GRAPH_STARTS = b"\x08\x0a\x12\x1a\x22"
"""Tags of the fields that protocol buffers with graphs begin with."""
_TEXT_STARTS = (b"node", b"versions", b"library", b"#")

_KINDS = (
    "a TF checkpoint (its prefix, its .index or .meta, or a folder with a file 'checkpoint'), a "
    "SavedModel folder, a TF graph (.pb or .pbtxt), .tflite, Keras .h5, .hdf5, .weights.h5, "
    ".weights.json or .keras, TensorFlow.js model.json or weights manifest"
)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The tensors of a TensorFlow or Keras file, read without TensorFlow.

    Args:
        path: what TensorFlow's own loaders take: the prefix of a checkpoint (``model.ckpt-100``),
            a folder whose file ``checkpoint`` names the latest one, a SavedModel folder, a Keras
            file (``.h5``, ``.hdf5``, ``.weights.h5``, ``.weights.json``, ``.keras``), a checkpoint
            of TF 1's first format, the ``model.json`` or weights manifest of TensorFlow.js, a graph
            (``.pb``, ``.pbtxt``), one beside its checkpoint (``model.ckpt.meta``), or ``.tflite``.

    Returns:
        A mapping from the file's own names to tensors; each is read when it is asked for.  Files
        that are mapped into memory must not be cut short while their tensors are in use.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
        ImportError: a package that reads this kind is missing; the message names it.
    """
    path = Path(path)
    module, name = _reader(path)
    try:
        reader = importlib.import_module(f"tfcompat_dw.checkpoint.{module}")
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs the package {error.name}: pip install 'tfcompat_dw[port]'",
            name=error.name,
        ) from error
    checkpoint: Checkpoint = getattr(reader, name)(path)
    return checkpoint


def _reader(path: Path) -> tuple[str, str]:
    """The module that reads it, and the name of its class."""
    try:
        if path.is_dir():
            return _reader_of_folder(path)
        if path.is_file():
            return _reader_of_file(path)
    except OSError as error:
        raise CheckpointError(path, "", error.strerror or str(error)) from error
    if path.with_name(path.name + ".index").is_file():
        return "bundle", "Bundle"
    if "-?????-of-" in path.name:  # the files of a sharded checkpoint of format V1
        return "table_checkpoint", "TableCheckpoint"
    raise CheckpointError(path, "", f"no such file; expected {_KINDS}")


def _reader_of_folder(path: Path) -> tuple[str, str]:
    if (path / "saved_model.pb").is_file() or (path / "variables").is_dir():
        return "saved_model", "SavedModelVariables"
    if (path / "checkpoint").is_file():
        return "bundle", "latest_checkpoint"
    if (path / "model.json").is_file():
        return "tfjs", "TensorFlowJs"
    if (path / "metadata.json").is_file() and (path / "config.json").is_file():
        return "keras_archive", "KerasArchive"
    raise CheckpointError(path, "", f"a folder of no known kind; expected {_KINDS}")


def _reader_of_file(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(max(0, file.seek(0, 2) - len(TABLE_MAGIC)))
        end = file.read()
    if path.suffix == ".index" and end == TABLE_MAGIC:
        return "bundle", "Bundle"
    if end == TABLE_MAGIC:
        return "table_checkpoint", "TableCheckpoint"
    if start[4:8] == TFLITE_MAGIC:  # MediaPipe puts a zip archive behind it
        return "tflite", "TFLite"
    if start.startswith(HDF5_MAGIC):
        return "keras_hdf5", "KerasHdf5"
    if start[:4] == b"PK\x03\x04" or zipfile.is_zipfile(path):
        return "keras_archive", "KerasArchive"
    if path.name.endswith(".weights.json"):
        return "keras_archive", "KerasShards"
    if start.lstrip()[:1] in (b"{", b"["):
        return "tfjs", "TensorFlowJs"
    if not start:
        raise CheckpointError(path, "", "the file is empty")
    if path.suffix in GRAPH_SUFFIXES or start[0] in _GRAPH_STARTS or start.startswith(_TEXT_STARTS):
        return "graph_def", "open_graph"
    raise unknown_kind(path, start)


def unknown_kind(path: Path, start: bytes) -> CheckpointError:
    """The error for a file that is none of those that are read."""
    reason = f"of no known kind (it starts with {start[:8]!r}); expected {_KINDS}"
    return CheckpointError(path, "", reason)
