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
        self._groups = set(self._hdf5.groups)
        self._root = "model_weights" if "model_weights" in self._groups else ""

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
        return self._has(self._root, "layer_names")

    def layers(self) -> dict[str, list[str]]:
        """Keys by layer, in the layer's order.

        Legacy files: by the layer's name, as ``weight_names`` lists them.  Keras 3: by the path of
        the object that holds them (``layers/conv2d_1``; empty for the model itself), as numbered.
        """
        if not self.is_legacy:
            return self._numbered()
        return {layer: [key for _, key in named] for layer, named in self._by_layer().items()}

    def layer_names(self) -> dict[str, str]:
        """Names of layers by the paths of ``layers()``, where the file has them (new Keras 3)."""
        if self.is_legacy:
            return {layer: layer for layer in self.layers()}
        names = {}
        for holder in self._numbered():
            name = self._text(_path(holder, "vars"), "name")
            if name is not None:
                names[holder] = name
        return names

    def variable_names(self) -> dict[str, str]:
        """In legacy files, TensorFlow's names (``conv1/kernel:0``), the optimizer's included."""
        if not self.is_legacy:
            return {}
        names = {key: name for named in self._by_layer().values() for name, key in named}
        for group in (_path(self._root, "top_level_model_weights"), "optimizer_weights"):
            if group in self._groups and self._has(group, "weight_names"):
                names |= {key: name for name, key in self._weights(group)}
        return names

    # ---- legacy files ------------------------------------------------------------------------

    def _by_layer(self) -> dict[str, list[tuple[str, str]]]:
        """(variable's name, key) of each layer's variables."""
        found: dict[str, list[tuple[str, str]]] = {}
        groups = set()
        for layer in self._list(self._root, "layer_names"):
            group = _path(self._root, layer)
            if group not in self._groups:
                raise CheckpointError(self.path, group, "the layer is listed, but not there")
            if group in groups:
                raise CheckpointError(self.path, group, "the layer is listed twice")
            groups.add(group)
            found[layer] = self._weights(group)
        return found

    def _weights(self, group: str) -> list[tuple[str, str]]:
        """(variable's name, key) of a group's."""
        if not self._has(group, "weight_names"):
            raise CheckpointError(self.path, group, "it does not list its variables (weight_names)")
        found = {_path(group, name): name for name in self._list(group, "weight_names")}
        for key in found:
            if key not in self._hdf5:
                raise CheckpointError(self.path, key, "the variable is listed, but not there")
        return [(name, key) for key, name in found.items()]

    # ---- Keras 3 -----------------------------------------------------------------------------

    def _numbered(self) -> dict[str, list[str]]:
        found: dict[str, dict[int, str]] = {}
        for key in self._hdf5:
            holder, _, number = f"/{key}".rpartition("/vars/")
            if number.isascii() and number.isdigit() and len(number) < 6:
                found.setdefault(holder.strip("/"), {})[int(number)] = key
        return {
            holder: [numbered[number] for number in sorted(numbered)]
            for holder, numbered in found.items()
        }

    # ---- attributes --------------------------------------------------------------------------

    def _has(self, group: str, name: str) -> bool:
        attributes = self._hdf5.attributes(group)
        return name in attributes or f"{name}0" in attributes

    def _text(self, group: str, name: str) -> str | None:
        value = self._hdf5.attributes(group).get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        return self._decoded(value, group, name) if isinstance(value, bytes) else None

    def _list(self, group: str, name: str) -> list[str]:
        """An attribute of strings; long ones are written in pieces, ``name0``, ``name1``."""
        attributes = self._hdf5.attributes(group)
        pieces = [attributes[name]] if name in attributes else []
        while name not in attributes and f"{name}{len(pieces)}" in attributes:
            pieces.append(attributes[f"{name}{len(pieces)}"])
        values = [
            value for piece in pieces for value in (piece if isinstance(piece, list) else [piece])
        ]
        return [self._decoded(value, group, name) for value in values]

    def _decoded(self, value: Any, group: str, name: str) -> str:
        place = f"{group or 'the file'}, attribute {name}"
        if not isinstance(value, bytes):
            raise CheckpointError(self.path, place, f"{type(value).__name__} instead of text")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(self.path, place, "no UTF-8 text") from error


def number_of(key: str) -> int:
    """Of a variable of Keras 3: 2 of ``layers/dense/vars/2``."""
    return int(key.rpartition("/")[2])


def _path(*parts: str) -> str:
    """As HDF5 takes it: slashes at the ends, and several in a row, mean nothing."""
    return "/".join(name for part in parts for name in part.split("/") if name)
