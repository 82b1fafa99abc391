"""A SavedModel: its variables, its graphs, and what it says of the Keras model that it was.

The variables are a checkpoint, ``variables/variables``; ``saved_model.pb`` has the graphs and
describes the saved objects, and Keras 2 adds JSON of each layer: in ``keras_metadata.pb``, before
TF 2.5 in ``saved_model.pb`` itself (``keras/src/legacy/saving``,
``keras/protobuf/saved_metadata.proto``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcompat_dw.checkpoint.base import CheckpointError, parsed_json
from tfcompat_dw.checkpoint.bundle import OBJECT_GRAPH, Bundle
from tfcompat_dw.checkpoint.mapped import MappedFile
from tfcompat_dw.checkpoint.schemas import MESSAGES, parse, parse_text, text

if TYPE_CHECKING:
    from tfcompat_dw.checkpoint.graph import Graph
    from tfcompat_dw.checkpoint.saved_graphs import SavedGraphs

SAVED_MODEL, SAVED_MODEL_TEXT = "saved_model.pb", "saved_model.pbtxt"
KERAS_METADATA = "keras_metadata.pb"
VARIABLES = (b"VarHandleOp", b"VariableV2", b"Variable")
LONGEST_NAME = 4096
"""Characters of the layers around a layer."""


class SavedModelVariables(Bundle):
    """The variables and graphs of a SavedModel folder; keys as those of its checkpoint.

    Args:
        path: the folder that ``saved_model.pb`` and ``variables`` are in; the latter may be missing
            where ``saved_model.pb`` has a graph, which is then of constants only.

    Raises:
        CheckpointError: there are no variables, or their index is damaged.
    """

    format = "SavedModel"

    def __init__(self, path: Path) -> None:
        files = (path / name for name in (SAVED_MODEL, SAVED_MODEL_TEXT))
        self._graph_file = next((file for file in files if file.is_file()), None)
        super().__init__(path / "variables" / "variables")
        self.path = path

    def _read_index(self) -> dict[bytes, Any]:
        """A graph of constants only has no variables."""
        if self._index.is_file() or not self._has_only_constants():
            return super()._read_index()
        self._shards = 0
        return {}

    def _has_only_constants(self) -> bool:
        nodes = () if self._meta is None else self._meta.graph_def.node
        return bool(nodes) and not any(node.op in VARIABLES for node in nodes)

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
        return [] if self._meta is None else list(self._meta.object_graph_def.nodes)

    @cached_property
    def _meta(self) -> Any:
        """The ``MetaGraphDef`` for inference, or the only one; None if there is none."""
        if self._graph_file is None:
            return None
        file = MappedFile(self._graph_file)
        data = bytes(file.view(0, file.size, ""))
        if self._graph_file.suffix == ".pbtxt":
            model = parse_text("SavedModel", data, self._graph_file, "")
        else:
            model = parse(MESSAGES["SavedModel"], data, self._graph_file, "")
        served = [one for one in model.meta_graphs if b"serve" in one.meta_info_def.tags]
        return next(iter([*served, *model.meta_graphs]), None)

    # ---- graphs --------------------------------------------------------------------------------

    def signatures(self) -> tuple[str, ...]:
        """``serving_default`` first; without signatures the names of the object's functions."""
        return () if self._graphs is None else self._graphs.signatures()

    def graph(
        self, signature: str | None = None, outputs: Sequence[str] | None = None
    ) -> Graph | None:
        """The graph of a signature, functions written out, or of one of the object's functions.

        Inputs are sorted by the signature's names, as TensorFlow sorts them; those that nothing
        needs are there, too, unless ``outputs`` are given.
        """
        return None if self._graphs is None else self._graphs.graph(signature, outputs)

    @cached_property
    def _graphs(self) -> SavedGraphs | None:
        from tfcompat_dw.checkpoint.saved_graphs import SavedGraphs

        if self._meta is None or not self._meta.graph_def.node:
            return None
        return SavedGraphs(self, self._meta, self._keys_of_objects)

    def _keys_of_objects(self) -> dict[int, str]:
        """From the numbers of saved objects to the keys of the variables that they are.

        Both descriptions of the objects are walked at once, from the root along the same names.
        """
        graph, objects = self._object_graph, self._saved_objects
        queue, seen, keys = [(0, 0)], {0}, dict[int, str]()
        twin_children = cache(lambda twin: _children(objects, twin))
        for number, twin in queue:  # which grows meanwhile
            for key, _ in self._attributes(graph[number]) if graph else ():
                keys.setdefault(twin, key)
            twins = twin_children(twin)
            for attribute, child in _children(graph, number).items():
                if attribute in twins and child not in seen:
                    seen.add(child)
                    queue.append((child, twins[attribute]))
        return keys

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
