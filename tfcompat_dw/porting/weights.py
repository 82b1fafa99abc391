"""Which variable of a file belongs to which layer of the network that the file describes.

Legacy HDF5 files have a group for each layer of the outermost model
(``keras/src/legacy/saving/legacy_h5_format.py``); that of a nested model holds the variables of all
of its layers, trainable ones first.  ``.keras`` files have paths of class names with counters, in
the order of the description (``keras/src/saving/saving_lib.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tfcompat_dw.checkpoint.base import TORCH_DTYPES, Checkpoint
from tfcompat_dw.porting.config import Layer, Network, shown
from tfcompat_dw.porting.layer import HasTfWeights, TfWeight
from tfcompat_dw.porting.variables import Variable, variables_of

Path = tuple[str, ...]
"""A layer's name, after those of the models that it is in."""
LONGEST_DIRECTORY = 12
"""Scopes of a variable's name that are looked at."""
MOST_ALIKE = 256
"""Layers of one name in nested models; of more, names do not tell."""
_NO_WEIGHTS = re.compile(r"(^|/)_?(seed_generator|random_generator)[^/]*(/|$)|seed_generator_state")
"""States of random numbers."""
_OF_OPTIMIZER = re.compile(r"^optimizer/|\.OPTIMIZER_SLOT")
_OPTIONAL = frozenset({"count", "seed_generator_state"})
"""Variables that no output depends on: Normalization counts what it has seen."""


@dataclass(frozen=True)
class FileVariable:
    """One variable in the file."""

    name: str
    """Its short name, Keras 3's where that is known."""
    key: str
    """Of the checkpoint."""
    shape: tuple[int, ...]


def variables_by_layer(
    network: Network, checkpoint: Checkpoint
) -> tuple[dict[Path, list[FileVariable]], list[str]]:
    """The variables of each layer, and what is wrong with the others."""
    layers = getattr(checkpoint, "layers", None)
    if layers is None:
        entries = [_Entry(name, key, checkpoint) for key, name in _all_names(checkpoint)]
        return _Distribution(network, (), has_others=True).of(entries)
    if getattr(checkpoint, "is_legacy", False):
        return _legacy(network, checkpoint, layers())
    return _archive(network, checkpoint, layers())


def leaves(network: Network, path: Path = ()) -> Iterator[tuple[Path, Layer]]:
    """Every layer that is no model itself, nested ones in their models' places."""
    for layer in network.layers:
        here = (*path, layer.name)
        if layer.network is not None:
            yield from leaves(layer.network, here)
        elif layer.class_name != "InputLayer" and layer.operation is None:
            yield here, layer


def _all_names(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """(key, variable's name) of numbers where the file has no layers: SavedModel, TensorFlow.js."""
    names = checkpoint.variable_names()
    return [
        (key, names.get(key, key))
        for key in checkpoint
        if not _OF_OPTIMIZER.search(key) and checkpoint.info(key).dtype in TORCH_DTYPES
    ]


class _Entry:
    """A variable of the file before it has found its layer."""

    def __init__(self, name: str, key: str, checkpoint: Checkpoint) -> None:
        self.parts = re.sub(r":\d+$", "", name).strip("/").split("/")
        self.key = key
        self.shape = checkpoint.info(key).shape

    def after(self, parts: int) -> str:
        """Its name without the first parts."""
        return "/".join(self.parts[parts:])


# ---- legacy HDF5 ---------------------------------------------------------------------------------


def _legacy(
    network: Network, checkpoint: Checkpoint, groups: Mapping[str, list[str]]
) -> tuple[dict[Path, list[FileVariable]], list[str]]:
    names = checkpoint.variable_names()
    found: dict[Path, list[FileVariable]] = {}
    problems: list[str] = []
    known = {layer.name for layer in network.layers}
    for group, keys in groups.items():
        if group not in known:
            problems += [f"the file has variables for {shown(group)}, which is no layer"] * (
                len(keys) > 0
            )
            continue
        entries = [_Entry(names.get(key, key), key, checkpoint) for key in keys]
        layer = network.layer(group)
        if layer.network is not None:
            inner, wrong = _Distribution(layer.network, (group,)).of(entries)
            found.update(inner)
            problems += wrong
        elif entries:
            found[group,] = _named(layer, _short_names(entries))
    return found, problems


def _short_names(entries: Sequence[_Entry]) -> list[FileVariable]:
    """Last parts of names, with as many before them as it takes to tell them apart."""
    length = 1
    while length < LONGEST_DIRECTORY:
        if len({tuple(entry.parts[-length:]) for entry in entries}) == len(entries):
            break
        length += 1
    return [
        FileVariable("/".join(entry.parts[-length:]), entry.key, entry.shape) for entry in entries
    ]


class _Distribution:
    """A nested model's variables, which the file lists together, among its layers."""

    def __init__(self, network: Network, path: Path, has_others: bool = False) -> None:
        self.path, self.has_others = path, has_others
        self.leaves = dict(leaves(network, path))
        self._by_name: dict[str, list[Path]] = {}
        self._expected = {
            leaf: variables_of(layer.class_name, layer.config)
            for leaf, layer in self.leaves.items()
        }
        for leaf in self.leaves:
            self._by_name.setdefault(leaf[-1], []).append(leaf)

    def of(self, entries: Sequence[_Entry]) -> tuple[dict[Path, list[FileVariable]], list[str]]:
        """By the layers' names in the variables' names; where that fails, by Keras' order."""
        by_name = self._by_names(entries)
        found = by_name or self._by_order(entries)
        if found is not None:
            return found, []
        place = f"the nested model {shown('/'.join(self.path))}" if self.path else "the model"
        return {}, [
            f"the file lists {len(entries)} variables for {place}, and neither their names nor "
            f"their order tell which of its {len(self.leaves)} layers they belong to"
        ]

    def _by_names(self, entries: Sequence[_Entry]) -> dict[Path, list[FileVariable]] | None:
        groups: dict[Path, list[_Entry]] = {}
        for entry in entries:
            leaf = self._leaf(entry)
            if leaf is None and self.has_others:
                continue  # a step, a metric
            if leaf is None:
                return None
            groups.setdefault(leaf, []).append(entry)
        found = {}
        for path, layer in self.leaves.items():
            variables = _named(layer, _short_names(groups.get(path, [])))
            expected = self._expected[path]
            if expected is not None and len(expected) != len(variables):
                return None
            if variables:
                found[path] = variables
        return found

    def _leaf(self, entry: _Entry) -> Path | None:
        """The layer whose name, after as many of its models' as possible, is in the variable's."""
        directory = entry.parts[:-1][:LONGEST_DIRECTORY]
        scores: dict[Path, tuple[int, int, int]] = {}
        for start in range(len(directory)):
            for end in range(start + 1, len(directory) + 1):
                for path in self._called("/".join(directory[start:end])):
                    if not self._may_have(path, entry.parts[-1]):
                        continue
                    models = _matched(directory[:start], path[:-1])
                    left_out = len(path) - 1 - models
                    score = (models, end - start, -left_out)
                    scores[path] = max(score, scores.get(path, score))
        if not scores:
            return None
        highest = max(scores.values())
        best = [path for path, score in scores.items() if score == highest]
        return best[0] if len(best) == 1 else None

    def _called(self, name: str) -> list[Path]:
        alike = self._by_name.get(name, [])
        return alike if len(alike) <= MOST_ALIKE else []

    def _may_have(self, path: Path, short: str) -> bool:
        expected = self._expected[path]
        return expected is None or any(_same_name(one.name, short) for one in expected)

    def _by_order(self, entries: Sequence[_Entry]) -> dict[Path, list[FileVariable]] | None:
        """Trainable ones of all layers first, then the others; or layer by layer."""
        expected = []
        for path, layer in self.leaves.items():
            variables = self._expected[path]
            if variables is None:
                return None
            expected += [(path, layer, variable) for variable in variables]
        if len(expected) != len(entries):
            return None
        orders: list[Callable[[tuple[Path, Layer, Variable]], bool]] = [
            lambda one: not (one[1].trainable and one[2].trainable),
            lambda one: not one[2].trainable,
            lambda one: False,
        ]
        for order in orders:
            pairs = list(zip(sorted(expected, key=order), entries, strict=True))
            if all(_same_name(variable.name, entry.parts[-1]) for (*_, variable), entry in pairs):
                return _grouped(pairs)
        return None


def _grouped(
    pairs: Sequence[tuple[tuple[Path, Layer, Variable], _Entry]],
) -> dict[Path, list[FileVariable]]:
    found: dict[Path, list[FileVariable]] = {}
    for (path, _, variable), entry in pairs:
        found.setdefault(path, []).append(FileVariable(variable.name, entry.key, entry.shape))
    return found


def _matched(directory: Sequence[str], models: Sequence[str]) -> int:
    """How many of the models' names, from the innermost, stand before the layer's."""
    text = "/" + "/".join(directory) + "/"
    count = 0
    for model in reversed(models):
        if f"/{model}/" not in text:
            break
        count += 1
    return count


# ---- names ---------------------------------------------------------------------------------------

_OLDER = {
    "depthwise_kernel": "kernel",  # of DepthwiseConv2D
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # Keras 1 calls it so
    "running_variance": "moving_variance",
    "W": "kernel",
    "U": "recurrent_kernel",
    "b": "bias",
    "gammas": "alpha",
    "alphas": "alpha",
}


def _same_name(name: str, short: str) -> bool:
    """Whether a file's short name means ``name``: ``dense_1_W`` of Keras 1 is ``kernel``."""
    last = name.rpartition("/")[2]
    if short == last or _OLDER.get(short) == last:
        return True
    return short.endswith(f"_{last}") or _OLDER.get(short.rpartition("_")[2]) == last


def _named(layer: Layer, variables: list[FileVariable]) -> list[FileVariable]:
    """With Keras 3's names, in Keras 3's order, where the layer's class is known."""
    variables = [one for one in variables if not _NO_WEIGHTS.search(one.name)]
    expected = variables_of(layer.class_name, layer.config)
    if expected is None or len(expected) != len(variables):
        return variables
    exact = {one.name: one for one in variables}
    for same in (lambda name, one: name == one, _same_name):
        matched = [[one for one in exact if same(variable.name, one)] for variable in expected]
        if all(len(names) == 1 for names in matched):
            ones = [exact[names[0]] for names in matched]
            if len(set(ones)) == len(ones):
                return _renamed(expected, ones)
    return _renamed(expected, variables)


def _renamed(expected: Sequence[Variable], ones: Sequence[FileVariable]) -> list[FileVariable]:
    return [
        FileVariable(variable.name, one.key, one.shape)
        for variable, one in zip(expected, ones, strict=True)
    ]


# ---- .keras --------------------------------------------------------------------------------------


def _archive(
    network: Network, checkpoint: Checkpoint, holders: Mapping[str, list[str]]
) -> tuple[dict[Path, list[FileVariable]], list[str]]:
    # TF 2.12 and 2.13 call what is "layers" today by the attribute's own name
    holders = {
        holder.replace("_layer_checkpoint_dependencies", "layers"): keys
        for holder, keys in holders.items()
    }
    rules = [dict(_containers(network, "", (), rule)) for rule in (keras_3_name, keras_2_name)]
    containers = max(rules, key=lambda rule: sum(container in holders for container in rule))
    parts: dict[Path, dict[str, list[str]]] = {}
    problems = []
    for holder, keys in holders.items():
        if not holder.startswith("layers/") or _NO_WEIGHTS.search(holder):
            continue
        container = _container_of(holder, containers)
        if container is None:
            problems.append(f"the file has variables for {shown(holder)}, where no layer is")
            continue
        parts.setdefault(containers[container][0], {})[holder[len(container) + 1 :]] = keys
    found = {}
    for path, layer in containers.values():
        if path in parts:
            found[path] = _of_container(layer, parts[path], checkpoint)
    return found, problems


def _container_of(holder: str, containers: Mapping[str, Any]) -> str | None:
    """The layer's container that it is, or is in."""
    end = len(holder)
    while end > 0:
        if holder[:end] in containers:
            return holder[:end]
        end = holder.rfind("/", 0, end)
    return None


def _containers(
    network: Network, prefix: str, path: Path, snake_case: Callable[[str], str]
) -> Iterator[tuple[str, tuple[Path, Layer]]]:
    """Every layer's container: ``layers/functional/layers/conv2d_1``."""
    used: dict[str, int] = {}
    for layer in network.layers:
        if layer.operation is not None and layer.operation.startswith("keras."):
            continue  # an operation of Keras 3 is no layer
        name = snake_case(re.split(r"[>.]", layer.original_class)[-1])
        number = used.get(name, 0)
        used[name] = number + 1
        container = f"{prefix}layers/{name}" + (f"_{number}" if number else "")
        here = (*path, layer.name)
        if layer.network is not None:
            yield from _containers(layer.network, f"{container}/", here, snake_case)
        else:
            yield container, (here, layer)


def keras_3_name(class_name: str) -> str:
    """``conv2d_transpose`` of ``Conv2DTranspose``, as ``keras/src/utils/naming.py`` has it."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def keras_2_name(class_name: str) -> str:
    """The same by ``tf_keras/src/utils/generic_utils.py``."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", class_name)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return f"private{name}" if name.startswith("_") else name


def _of_container(
    layer: Layer, holders: Mapping[str, list[str]], checkpoint: Checkpoint
) -> list[FileVariable]:
    """By sublayer and number; a class that is not known gets numbers for names."""
    plain = {
        "/".join(part.lstrip("_") for part in holder.split("/")): keys
        for holder, keys in holders.items()
    }
    expected = variables_of(layer.class_name, layer.config)
    if expected is not None:
        named = []
        left = {holder: list(keys) for holder, keys in plain.items()}
        for variable in expected:
            keys = left.get(variable.holder)
            if keys:
                key = keys.pop(0)
                named.append(FileVariable(variable.name, key, checkpoint.info(key).shape))
        if len(named) == len(expected) and not any(left.values()):
            return named
    return [
        FileVariable(f"{holder}/{number}".lstrip("/"), key, checkpoint.info(key).shape)
        for holder in sorted(plain, key=lambda holder: holder != "")
        for number, key in enumerate(plain[holder])
    ]


# ---- from the file into modules ------------------------------------------------------------------


def pairs_of(
    module: nn.Module, variables: Sequence[FileVariable]
) -> tuple[list[tuple[TfWeight, FileVariable]], list[str]]:
    """Each weight of a built module with its variable, and what does not fit."""
    if not isinstance(module, HasTfWeights):
        return [], _carries_none(module, (v for v in variables if v.name not in _OPTIONAL))
    weights = list(module.tf_weights())
    by_name = {one.name: one for one in variables}
    if {weight.name for weight in weights} <= by_name.keys():
        pairs = [(weight, by_name[weight.name]) for weight in weights]
        return _checked(pairs, variables)
    wanted = [one for one in variables if one.name not in _OPTIONAL]
    if len(wanted) == len(weights):
        return _checked(list(zip(weights, wanted, strict=True)), variables)
    missing = [weight.name for weight in weights if weight.name not in by_name]
    problems = [f"missing in the file: {', '.join(missing)}"] if missing else []
    names = {weight.name for weight in weights}
    return [], problems + _left_over(one for one in wanted if one.name not in names)


def _carries_none(module: nn.Module, wanted: Iterable[FileVariable]) -> list[str]:
    """What the file has for a module that says of no variables."""
    return [
        f"{problem}; its module, a {type(module).__name__}, has no tf_weights(); that of a builder "
        f"of yours has to return a list of tfcompat_dw.porting.TfWeight"
        for problem in _left_over(wanted)
    ]


def _checked(
    pairs: list[tuple[TfWeight, FileVariable]], variables: Sequence[FileVariable]
) -> tuple[list[tuple[TfWeight, FileVariable]], list[str]]:
    problems = [
        f"its {weight.name} has shape {one.shape} in the file, {weight.tf_shape} by the layer's "
        f"description"
        for weight, one in pairs
        if weight.tf_shape != one.shape
    ]
    used = {one.key for _, one in pairs}
    left = (one for one in variables if one.key not in used and one.name not in _OPTIONAL)
    return pairs, problems + _left_over(left)


def _left_over(variables: Iterable[FileVariable]) -> list[str]:
    names = [shown(one.name) for one in variables]
    more = ", ..." if len(names) > 5 else ""
    return [f"left over in the file: {', '.join(names[:5])}{more}"] if names else []


def assign(weight: TfWeight, value: Tensor) -> None:
    """A value of the file, whose shape was checked."""
    weight.assign(value)
