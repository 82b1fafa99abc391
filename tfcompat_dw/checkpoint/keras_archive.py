"""Keras 3's ``.keras``: a zip archive of ``config.json``, ``metadata.json`` and the weights.

The layout is that of ``keras/src/saving/saving_lib.py``.  Nothing is unpacked to disk.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError, TensorInfo, parsed_json
from tfcompat_dw.checkpoint.keras_hdf5 import KerasHdf5
from tfcompat_dw.checkpoint.mapped import MappedFile

RATIO = 100
"""How much more than its stored bytes a member may unpack to; weights shrink by less than 10."""
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
SHARDS = "model.weights.json"


class KerasArchive(Checkpoint):
    """``.keras``, or a folder with its contents; keys are those of its ``model.weights.h5``.

    Weights in several files (``model.weights.json`` lists them) are one mapping.
    """

    format = "Keras archive"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._read = _Folder(path) if path.is_dir() else _Zip(path)
        if not self._read.has(CONFIG):
            raise CheckpointError(path, CONFIG, "missing: this is no .keras file")
        names = self._weight_files()
        self._files = [KerasHdf5(path, self._read.mapped(name)) for name in names]
        self._file_of = {key: file for file in self._files for key in file}

    def _weight_files(self) -> list[str]:
        if self._read.has(WEIGHTS):
            return [WEIGHTS]
        if not self._read.has(SHARDS):
            raise CheckpointError(self.path, WEIGHTS, "missing: the file holds no weights")
        index = parsed_json(self._read.bytes(SHARDS), self.path, SHARDS)
        parts = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(parts, dict):
            raise CheckpointError(self.path, SHARDS, "no weight_map")
        names: dict[str, None] = {}
        for value in parts.values():
            for name in value if isinstance(value, list) else [value]:
                if not isinstance(name, str) or "/" in name or not self._read.has(name):
                    raise CheckpointError(self.path, SHARDS, f"no file {name!r} beside it")
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

    def layers(self) -> dict[str, list[str]]:
        """Keys by the path of the object that holds them (``layers/conv2d_1``), as numbered."""
        return {holder: keys for file in self._files for holder, keys in file.layers().items()}


class _Folder:
    """The contents of an archive that somebody unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
            raise CheckpointError(path, "", f"no zip archive ({error})") from error
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise CheckpointError(path, "", "two members of one name")

    def has(self, name: str) -> bool:
        return name in self._entries

    def mapped(self, name: str) -> MappedFile:
        """A member that is stored as it is comes as a part of the map."""
        entry = self._checked(name)
        if entry.compress_type == STORED:
            return self._file.part(self._start(entry), entry.file_size, name)
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
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return entry.header_offset + len(header) + lengths
