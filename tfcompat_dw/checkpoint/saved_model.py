"""The variables of a SavedModel, and what it says of the Keras model that it was.

The variables are a checkpoint, ``variables/variables``; ``saved_model.pb`` describes the saved
objects, and Keras 2 adds JSON of each layer: in ``keras_metadata.pb``, before TF 2.5 in
``saved_model.pb`` itself (``keras/src/legacy/saving``, ``keras/protobuf/saved_metadata.proto``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tfcompat_dw.checkpoint.base import CheckpointError, parsed_json
from tfcompat_dw.checkpoint.bundle import OBJECT_GRAPH, Bundle
from tfcompat_dw.checkpoint.mapped import MappedFile
from tfcompat_dw.checkpoint.schemas import MESSAGES, parse, text

SAVED_MODEL, KERAS_METADATA = "saved_model.pb", "keras_metadata.pb"
LONGEST_NAME = 4096
"""Characters of the layers around a layer."""


class SavedModelVariables(Bundle):
    """The variables of a SavedModel folder; keys as those of its checkpoint.

    Args:
        path: the folder that ``saved_model.pb`` and ``variables`` are in.

    Raises:
        CheckpointError: there are no variables, or their index is damaged.
    """

    format = "SavedModel"

    def __init__(self, path: Path) -> None:
        super().__init__(path / "variables" / "variables")
        self.path = path

    def variable_names(self) -> dict[str, str]:
        """The full name of each variable.

        Where the object graph has none, or the same for several, it is made of the names of the
        Keras layers that the variable is in: ``block/conv/kernel``.
        """
        names = super().variable_names()
        counts = Counter(names.values())
        for key, name in self._names_by_layer().items():
            if counts[names.get(key, "")] != 1:
                names[key] = name
        return names

    def model_config(self) -> dict[str, Any] | None:
        """Keras 2's description of the network, if Keras 2 wrote it and the network has one."""
        config = self._root.get("model_config")
        return config if isinstance(config, dict) and config.get("config") else None

    def keras_version(self) -> str | None:
        """The version of Keras 2 that wrote it."""
        version = self._root.get("keras_version")
        return version if isinstance(version, str) else None

    # ---- what Keras says of its objects --------------------------------------------------------

    @cached_property
    def _root(self) -> dict[str, Any]:
        """Keras' JSON of the model itself."""
        return self._json(0)

    def _json(self, node: int) -> dict[str, Any]:
        """Keras' JSON of an object; empty if it has none."""
        if not (written := self._metadata.get(node)):
            return {}
        parsed = parsed_json(written, self.path, f"metadata of object {node}")
        return parsed if isinstance(parsed, dict) else {}

    @cached_property
    def _metadata(self) -> dict[int, bytes]:
        """By the number of an object."""
        path = self.path / KERAS_METADATA
        if path.is_file():
            file = MappedFile(path)
            data = file.view(0, file.size, "")
            nodes = parse(MESSAGES["SavedMetadata"], data, path, "").nodes
            return {node.node_id: node.metadata for node in nodes}
        return {
            number: node.user_object.metadata
            for number, node in enumerate(self._saved_objects)
            if node.user_object.metadata
        }

    @cached_property
    def _saved_objects(self) -> list[Any]:
        """The objects of ``saved_model.pb``."""
        path = self.path / SAVED_MODEL
        if not path.is_file():
            return []
        file = MappedFile(path)
        model = parse(MESSAGES["SavedModel"], file.view(0, file.size, ""), path, "")
        return list(model.meta_graphs[0].object_graph_def.nodes) if model.meta_graphs else []

    # ---- names by layer ------------------------------------------------------------------------

    def _names_by_layer(self) -> dict[str, str]:
        """For the key of every variable that a layer has as an attribute: both their names."""
        room = 16 * sum(map(len, self._metadata.values())) + 2**20
        names: dict[str, str] = {}
        for layers, attribute, number in self._layer_attributes():
            for key, _ in self._attributes(self._object_graph[number]):
                name = f"{layers}/{text(attribute, self.path, OBJECT_GRAPH)}"
                room -= len(name)
                if room < 0:
                    raise CheckpointError(self.path, OBJECT_GRAPH, "layers nested without end")
                names.setdefault(key, name)
        return names

    def _layer_attributes(self) -> Iterator[tuple[str, bytes, int]]:
        """Names of the layers around it, its attribute and its number, for every part of a layer.

        The graph may have cycles: each object is visited once, those nearest to the root first.
        Beside each goes the object of ``saved_model.pb`` that the same attributes lead to: the
        layers' metadata has that one's number.
        """
        graph, objects = self._object_graph, self._saved_objects
        twin_children = cache(lambda twin: _children(objects, twin))
        layer_name = cache(self._layer_name)
        queue: list[tuple[int, int | None, str, bool]] = [(0, 0, "", False)]
        seen = {0}
        for number, twin, layers, is_layer in queue:  # which grows meanwhile
            twins = {} if twin is None else twin_children(twin)
            for attribute, child in _children(graph, number).items():
                if is_layer:
                    yield layers, attribute, child
                if child in seen:
                    continue
                seen.add(child)
                name = layer_name(twins.get(attribute))
                path = "/".join(filter(None, (layers, name)))
                if len(path) > LONGEST_NAME:
                    raise CheckpointError(self.path, OBJECT_GRAPH, "layers nested without end")
                queue.append((child, twins.get(attribute), path if name else layers, bool(name)))

    def _layer_name(self, number: int | None) -> str:
        """What Keras calls an object; empty if that is nothing."""
        name = None if number is None else self._json(number).get("name")
        return name if isinstance(name, str) else ""


def _children(nodes: list[Any], number: int) -> dict[bytes, int]:
    """The attributes of an object that are objects, too."""
    if not 0 <= number < len(nodes):
        return {}
    children = {child.local_name: child.node_id for child in nodes[number].children}
    return {name: child for name, child in children.items() if 0 <= child < len(nodes)}
