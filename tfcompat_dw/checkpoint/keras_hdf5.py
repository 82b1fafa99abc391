"""Keras' HDF5 files: whole models and weights, of Keras 1 to 3.

Keras 1 and 2 write a group per layer, which lists its variables in the attribute ``weight_names``
(``keras/src/legacy/saving/legacy_h5_format.py``); a whole model has these groups under
``model_weights`` and its description in the attribute ``model_config``.  Keras 3's ``.weights.h5``
has paths of attribute and class names, ``layers/conv2d_1/vars/0``
(``keras/src/saving/saving_lib.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tfcompat_dw.checkpoint.base import Checkpoint, CheckpointError, TensorInfo, parsed_json
from tfcompat_dw.checkpoint.hdf5 import Hdf5File
from tfcompat_dw.checkpoint.mapped import MappedFile


class KerasHdf5(Checkpoint):
    """``.h5``, ``.hdf5`` and ``.weights.h5``; keys are the datasets' paths."""

    format = "Keras HDF5 file"

    def __init__(self, path: Path, file: MappedFile | None = None) -> None:
        super().__init__(path)
        self._hdf5 = Hdf5File(file or MappedFile(path))
        groups = set(self._hdf5.groups)
        self._root = "model_weights" if "model_weights" in groups else ""

    def info(self, name: str) -> TensorInfo:
        """Data type and shape."""
        return self._hdf5.info(name)

    def __getitem__(self, name: str) -> Tensor:
        return self._hdf5.tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hdf5)

    def __len__(self) -> int:
        return len(self._hdf5)

    def __contains__(self, name: object) -> bool:
        return name in self._hdf5

    def strings(self, name: str) -> list[bytes]:
        """The elements of a string dataset."""
        return self._hdf5.strings(name)

    def model_config(self) -> dict[str, Any] | None:
        """The attribute ``model_config``."""
        text = self._text("", "model_config")
        if text is None:
            return None
        config = parsed_json(text, self.path, "model_config")
        if not isinstance(config, dict):
            raise CheckpointError(self.path, "model_config", "no JSON object")
        return config

    def keras_version(self) -> str | None:
        """The attribute ``keras_version``, of the file or of its weights."""
        return self._text("", "keras_version") or self._text(self._root, "keras_version")

    @property
    def is_legacy(self) -> bool:
        """Whether layers have groups of their own, as Keras 1 and 2 write them."""
        return "layer_names" in self._names(self._root) or "layer_names0" in self._names(self._root)

    def layers(self) -> dict[str, list[str]]:
        """Keys by layer, in the layer's order.

        Legacy files: by the layer's name, as ``weight_names`` lists them.  Keras 3: by the path of
        the object that holds them (``layers/conv2d_1``), as numbered.
        """
        return self._legacy_layers() if self.is_legacy else self._numbered()

    def variable_names(self) -> dict[str, str]:
        """In legacy files, TensorFlow's names: ``conv1/kernel:0``."""
        if not self.is_legacy:
            return {}
        return {
            key: name
            for layer in self._list(self._root, "layer_names")
            for name, key in self._weights(layer)
        }

    def _legacy_layers(self) -> dict[str, list[str]]:
        layers = self._list(self._root, "layer_names")
        return {layer: [key for _, key in self._weights(layer)] for layer in layers}

    def _weights(self, layer: str) -> list[tuple[str, str]]:
        """(variable's name, key) of a legacy layer."""
        group = self._path(self._root, layer)
        if group not in self._hdf5.groups:
            raise CheckpointError(self.path, group, "the layer is listed, but not there")
        found = [(name, self._path(group, name)) for name in self._list(group, "weight_names")]
        for _, key in found:
            if key not in self._hdf5:
                raise CheckpointError(self.path, key, "the variable is listed, but not there")
        return found

    def _numbered(self) -> dict[str, list[str]]:
        found: dict[str, dict[int, str]] = {}
        for key in self._hdf5:
            holder, _, number = key.rpartition("/vars/")
            if number.isascii() and number.isdigit() and len(number) < 6:
                found.setdefault(holder, {})[int(number)] = key
        return {
            holder: [numbered[number] for number in sorted(numbered)]
            for holder, numbered in found.items()
        }

    @staticmethod
    def _path(*parts: str) -> str:
        return "/".join(part.strip("/") for part in parts if part)

    def _names(self, group: str) -> dict[str, Any]:
        return self._hdf5.attributes(group)

    def _text(self, group: str, name: str) -> str | None:
        value = self._names(group).get(name)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        if isinstance(value, str):
            return value
        return self._decoded(value, group, name) if isinstance(value, bytes) else None

    def _list(self, group: str, name: str) -> list[str]:
        """An attribute of strings; long ones are written in pieces, ``name0``, ``name1``."""
        attributes = self._names(group)
        pieces = [attributes[name]] if name in attributes else []
        while f"{name}{len(pieces)}" in attributes and name not in attributes:
            pieces.append(attributes[f"{name}{len(pieces)}"])
        values = [value for piece in pieces for value in np.ravel(piece).tolist()]
        return [
            value if isinstance(value, str) else self._decoded(value, group, name)
            for value in values
        ]

    def _decoded(self, value: Any, group: str, name: str) -> str:
        place = f"{group or 'the file'}, attribute {name}"
        if not isinstance(value, bytes):
            raise CheckpointError(self.path, place, f"{type(value).__name__} instead of text")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(self.path, place, "no UTF-8 text") from error
