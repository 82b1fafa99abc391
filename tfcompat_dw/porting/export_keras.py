"""``export_keras_weights``: a ported network's trained weights back into its Keras file.

HDF5 is not written anew: the original file is copied, and the numbers of its datasets, which Keras
stores in one piece each, are replaced where they lie.  So everything else in it stays what it is.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.checkpoint.base import TORCH_DTYPES, Checkpoint, CheckpointError
from tfcompat_dw.porting.config import keras_major_of, parse_network, shown
from tfcompat_dw.porting.layer import HasTfWeights, PortError, TfWeight
from tfcompat_dw.porting.model import PortedModel
from tfcompat_dw.porting.port import modules_with_weights
from tfcompat_dw.porting.weights import pairs_of, variables_by_layer

if TYPE_CHECKING:
    from tfcompat_dw.checkpoint.hdf5 import Hdf5File
    from tfcompat_dw.checkpoint.hdf5_objects import Type
    from tfcompat_dw.checkpoint.keras_archive import KerasArchive
    from tfcompat_dw.checkpoint.keras_hdf5 import KerasHdf5


def export_keras_weights(
    model: PortedModel,
    original: str | os.PathLike[str],
    target: str | os.PathLike[str],
) -> None:
    """Writes a ported network's weights into a copy of its Keras file, which Keras then loads.

    Shapes, dtypes, layouts, the network's description and all else in the file stay as they are;
    so does the state of an optimizer in it, which is that of the old weights.

    Args:
        model: what ``port_model(original)`` made, trained since.
        original: the file that it was made of: ``.keras``, ``.h5`` or ``.hdf5``.
        target: where to write, with the original's ending; it may be the original.

    Raises:
        PortError: the file is not one of this network's; its numbers are compressed.
        ValueError: ``target`` has another ending.
        CheckpointError: the original is missing or damaged.

    Example:
        >>> model = tfcompat_dw.port_model("net.keras")
        >>> train(model)
        >>> export_keras_weights(model, "net.keras", "net_trained.keras")
        >>> keras.models.load_model("net_trained.keras")
    """
    checkpoint, target = open_checkpoint(original), Path(target)
    # here, for the package itself must not need what they need
    from tfcompat_dw.checkpoint.keras_archive import KerasArchive
    from tfcompat_dw.checkpoint.keras_hdf5 import KerasHdf5

    if not isinstance(checkpoint, (KerasArchive, KerasHdf5)):
        raise PortError(f"{checkpoint.path}: weights go back into .keras and .h5 files only")
    is_archive = isinstance(checkpoint, KerasArchive)
    if (target.suffix == ".keras") != is_archive:
        kind = ".keras" if is_archive else ".h5"
        raise ValueError(f"target must end in {kind}, as the original's format; got {target}")
    weights = dict(_weights_by_key(model, checkpoint))
    if isinstance(checkpoint, KerasArchive):
        _write_archive(checkpoint, weights, target)
    else:
        _replace(target, _with_weights(checkpoint, weights))


def _weights_by_key(model: PortedModel, checkpoint: Checkpoint) -> Iterator[tuple[str, TfWeight]]:
    """Every weight of the model, and the dataset that it belongs into."""
    config = checkpoint.model_config()
    if config is None:
        raise PortError(f"{checkpoint.path}: it has no description of a network")
    network = parse_network(config, keras_major_of(checkpoint.keras_version()))
    variables, problems = variables_by_layer(network, checkpoint)
    found = []
    for path, module in modules_with_weights(model):
        if isinstance(module, HasTfWeights) and module.tf_weights():
            place = f"layer {shown('/'.join(path))}"
            pairs, wrong = pairs_of(module, variables.pop(path, []))
            problems += [f"{place}: {one}" for one in wrong]
            found += pairs
    problems += [
        f"layer {shown('/'.join(path))} has variables in the file, and the model has none"
        for path, ones in variables.items()
        if ones
    ]
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems[:20])
        raise PortError(f"{checkpoint.path}: the model was not made of this file:{lines}")
    for weight, variable in found:
        yield variable.key, weight


def _with_weights(file: KerasHdf5, weights: dict[str, TfWeight]) -> bytearray:
    """The file's bytes with other numbers in it; takes those that it has."""
    hdf5 = file._hdf5
    data = bytearray(hdf5.file.view(0, hdf5.file.size, ""))
    for key in [key for key in weights if key in file]:
        start, type = _place(hdf5, key)
        numbers = _bytes(weights.pop(key).to_tf(), type)
        hdf5.file.view(start, len(numbers), key)  # within the file, or an error
        data[start : start + len(numbers)] = numbers
    return data


def _place(hdf5: Hdf5File, key: str) -> tuple[int, Type]:
    """Where the numbers of a dataset start, and their type."""
    try:
        start, type = hdf5.place(key)
    except CheckpointError as error:
        raise PortError(
            f"{error}, as Keras writes them; load the file in Keras and save it again"
        ) from error
    if type.name not in TORCH_DTYPES:
        raise PortError(f"{hdf5.file.path}: {key}: data of type {type.name} cannot be written")
    return start, type


def _bytes(values: Tensor, type: Type) -> bytes:
    """Numbers as the file stores them."""
    values = values.cpu().to(TORCH_DTYPES[type.name]).contiguous()
    raw = values.reshape(-1, 1).view(torch.uint8)
    return bytes((raw.flip(-1) if type.big_endian else raw).numpy())


def _write_archive(archive: KerasArchive, weights: dict[str, TfWeight], target: Path) -> None:
    """Every member as it is, but those with weights."""
    names = archive._weight_files()
    changed = {
        name: _with_weights(file, weights) for name, file in zip(names, archive._files, strict=True)
    }
    with _beside(target) as path:
        with zipfile.ZipFile(path, "w") as new:
            for name in _members(archive):
                data = changed[name] if name in changed else archive._read.bytes(name)
                new.writestr(zipfile.ZipInfo(name), bytes(data))
        path.replace(target)


def _members(archive: KerasArchive) -> list[str]:
    if archive.path.is_dir():
        files = (path for path in sorted(archive.path.iterdir()) if path.is_file())
        return [path.name for path in files]
    with zipfile.ZipFile(archive.path) as old:
        return [name for name in old.namelist() if not name.endswith("/")]


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new file in the target's folder, gone again if it was not moved away."""
    path = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _replace(target: Path, data: bytearray) -> None:
    with _beside(target) as path:
        path.write_bytes(data)
        path.replace(target)
