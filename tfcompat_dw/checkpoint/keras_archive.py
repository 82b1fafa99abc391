"""Keras 3's ``.keras``: a zip archive of ``config.json``, ``metadata.json`` and the weights.

And ``.weights.json``, which lists the files that large weights are written to.

The layout is that of ``keras/src/saving/saving_lib.py``.  Nothing is unpacked to disk.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError, TensorInfo, parsed_json
from tfcompat_dw.checkpoint.keras_hdf5 import KerasHdf5, number_of
from tfcompat_dw.checkpoint.mapped import MappedFile

RATIO = 100
"""How much more than its stored bytes a member may unpack to; weights shrink by less than 10."""
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
SHARDS = "model.weights.json"
GRAPHS = (".tflite", ".pb", "model.json", ".h5", ".hdf5", ".keras")
"""Other files of networks, which archives of other kinds have in them."""


class KerasShards(Checkpoint):
    """Weights in several files, which ``NAME.weights.json`` lists, as one mapping."""

    format = "Keras weights in several files"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._read: _Folder | _Zip = _Folder(path.parent)
        self._open(self._listed(path.name))

    def _open(self, names: list[str]) -> None:
        self._files = [KerasHdf5(self.path, self._read.mapped(name)) for name in names]
        self._file_of: dict[str, KerasHdf5] = {}
        for name, file in zip(names, self._files, strict=True):
            for key in file:
                if self._file_of.setdefault(key, file) is not file:
                    raise CheckpointError(self.path, name, f"{key} is in another file, too")

    def _listed(self, index_name: str) -> list[str]:
        """The files that an index lists, each once."""
        index = parsed_json(self._read.bytes(index_name), self.path, index_name)
        parts = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(parts, dict):
            raise CheckpointError(self.path, index_name, "no weight_map")
        names: dict[str, None] = {}
        for value in parts.values():
            for name in value if isinstance(value, list) else [value]:
                if not isinstance(name, str) or "/" in name or not self._read.has(name):
                    raise CheckpointError(self.path, index_name, f"no file {name!r} beside it")
                names[name] = None
        return list(names)

    def info(self, name: str) -> TensorInfo:
        """Data type and shape."""
        return self._file_of[name].info(name)

    def __getitem__(self, name: str) -> Tensor:
        return self._file_of[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def __contains__(self, name: object) -> bool:
        return name in self._file_of

    def strings(self, name: str) -> list[bytes]:
        """The elements of a string dataset."""
        return self._file_of[name].strings(name)

    def layers(self) -> dict[str, list[str]]:
        """Keys by the path of the object that holds them (``layers/conv2d_1``), as numbered."""
        found: dict[str, list[str]] = {}
        for file in self._files:  # a layer's variables may be in several of them
            for holder, keys in file.layers().items():
                found.setdefault(holder, []).extend(keys)
        return {holder: sorted(keys, key=number_of) for holder, keys in found.items()}

    def layer_names(self) -> dict[str, str]:
        """Names of layers by the paths of ``layers()``, where the file has them."""
        return {path: name for file in self._files for path, name in file.layer_names().items()}


class KerasArchive(KerasShards):
    """``.keras``, or a folder with its contents; keys are those of its ``model.weights.h5``.

    Weights in several files (``model.weights.json`` lists them) are one mapping.
    """

    format = "Keras archive"

    def __init__(self, path: Path) -> None:
        Checkpoint.__init__(self, path)
        self._read = _Folder(path) if path.is_dir() else _Zip(path)
        if not self._read.has(CONFIG):
            raise CheckpointError(path, CONFIG, f"missing: {self._read.other_kind()}")
        self._open(self._weight_files())

    def _weight_files(self) -> list[str]:
        if self._read.has(WEIGHTS):
            return [WEIGHTS]
        if not self._read.has(SHARDS):
            raise CheckpointError(self.path, WEIGHTS, "missing: the file holds no weights")
        return self._listed(SHARDS)

    def model_config(self) -> dict[str, Any]:
        """``config.json``."""
        config = parsed_json(self._read.bytes(CONFIG), self.path, CONFIG)
        if not isinstance(config, dict):
            raise CheckpointError(self.path, CONFIG, "no JSON object")
        return config

    def keras_version(self) -> str | None:
        """From ``metadata.json``."""
        if not self._read.has(METADATA):
            return None
        metadata = parsed_json(self._read.bytes(METADATA), self.path, METADATA)
        version = metadata.get("keras_version") if isinstance(metadata, dict) else None
        return version if isinstance(version, str) else None


class _Folder:
    """The contents of an archive that somebody unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def other_kind(self) -> str:
        return "this is no folder of a Keras model"

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def mapped(self, name: str) -> MappedFile:
        return MappedFile(self.path / name)

    def bytes(self, name: str) -> bytes:
        file = self.mapped(name)
        return bytes(file.view(0, file.size, name))


class _Zip:
    """The archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except Exception as error:  # BadZipFile is not all that zipfile raises
            raise CheckpointError(path, "", f"no zip archive ({error})") from error
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise CheckpointError(path, "", "two members of one name")

    def has(self, name: str) -> bool:
        return name in self._entries

    def other_kind(self) -> str:
        """What this may be if it is no Keras archive, such as MediaPipe's ``.task``."""
        networks = [repr(name) for name in self._entries if name.endswith(GRAPHS)][:3]
        if not networks:
            return "this is no .keras file"
        return f"a zip archive with {', '.join(networks)}: unpack it and open that"

    def mapped(self, name: str) -> MappedFile:
        """A member that is stored as it is comes as a part of the map."""
        entry = self._checked(name)
        if entry.compress_type == STORED:
            part = self._file.part(self._start(entry), entry.file_size, name)
            if zlib.crc32(part.view(0, part.size, name)) != entry.CRC:
                raise CheckpointError(self.path, name, "damaged: its checksum is wrong")
            return part
        return MappedFile.of_bytes(self.path, self.bytes(name))

    def bytes(self, name: str) -> bytes:
        entry = self._checked(name)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(entry) as member:
                data = member.read(entry.file_size + 1)
        except Exception as error:  # zlib, struct and zipfile each have their own
            raise CheckpointError(self.path, name, f"damaged ({error})") from error
        if len(data) != entry.file_size:
            raise CheckpointError(self.path, name, "of another size than the archive says")
        return data

    def _checked(self, name: str) -> zipfile.ZipInfo:
        entry = self._entries[name]
        if entry.flag_bits & 1:
            raise CheckpointError(self.path, name, "encrypted")
        if entry.compress_type not in (STORED, DEFLATED):
            raise CheckpointError(self.path, name, f"compressed by method {entry.compress_type}")
        if entry.compress_type == STORED and entry.compress_size != entry.file_size:
            raise CheckpointError(self.path, name, "of two sizes, though it is not compressed")
        most = min(entry.compress_size, self._file.size) * RATIO + 2**20
        if entry.file_size > most:
            raise CheckpointError(
                self.path,
                name,
                f"{entry.file_size} bytes out of {entry.compress_size}: more than {RATIO} times "
                f"as many",
            )
        return entry

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Behind the member's own header, whose names may have other lengths."""
        header = bytes(self._file.view(entry.header_offset, 30, entry.filename))
        if header[:4] != b"PK\x03\x04":
            raise CheckpointError(self.path, entry.filename, "its header is not where it should be")
        lengths = [int.from_bytes(header[at : at + 2], "little") for at in (26, 28)]
        start = entry.header_offset + len(header)
        if self._file.view(start, lengths[0], entry.filename) != entry.orig_filename.encode():
            raise CheckpointError(self.path, entry.filename, "its header is another member's")
        return start + sum(lengths)
