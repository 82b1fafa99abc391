"""What ``compare`` runs: the port, on a picture, an array or random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.porting import PortedModel, PortError, port_model
from tfcompat_dw.porting.compare import Integers
from tfcompat_dw.porting.model import ModelInput

Array = NDArray[Any]
MOST_PIXELS = 100_000_000
RANDOM_BATCH = 2
SAMPLES = 32_000
"""Of sound, where a network takes one row of any length."""
SMALL = 10
"""Integers below it are indices that most tables have."""


def ported(file: Path, weights: Path | None, **options: Any) -> PortedModel:
    """The port of a file, with the weights of a ``.safetensors`` file if one is given."""
    model = port_model(file, **options)
    if weights is not None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            model.load_state_dict(load_file(weights))
        except (SafetensorError, RuntimeError) as error:
            raise PortError(f"{weights}: not the weights of this network ({error})") from error
    return model


def outputs_of(
    model: PortedModel, inputs: Sequence[Array], given: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Every layer's, as arrays; from the results that are given for the layers before, if any."""
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs]
    with torch.inference_mode():
        if given is None:
            outputs = model.layer_outputs(*tensors)
        else:
            results = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
            outputs = model.outputs_of_each_layer(results, *tensors)
    return {name: tensor.detach().numpy() for name, tensor in outputs.items()}  # parameters, too


@dataclass(frozen=True)
class Original:
    """The network of a file in the software that it was made for."""

    library: str
    run: Callable[[Sequence[Array]], dict[str, Array]]
    """From inputs to the results of its layers."""
    integers: Mapping[str, Integers]
    """Of layers that it computes in integers."""
    rounded: Callable[[Sequence[Array]], Sequence[Array]]
    """Inputs as it rounds them."""


def original_of(file: Path, model: PortedModel, signature: str | None) -> Original:
    """What the port of a file is compared with.

    Raises:
        OriginalError: nothing here runs it.
    """
    if model.source == "keras":
        from tfcompat_dw.porting.original import open_original

        keras_model = open_original(file)
        return Original(keras_model.library, lambda x: keras_model.layer_outputs(*x), {}, list)
    from tfcompat_dw.porting import original_graph

    names = [step.name for step in model.steps]
    checkpoint = open_checkpoint(file)
    original = original_graph.open_graph_original(checkpoint, signature)
    graph = checkpoint.graph(signature)
    assert graph is not None
    return Original(
        original.library,
        lambda inputs: original.outputs(inputs, names),
        original_graph.integers_of(graph),
        lambda inputs: original_graph.rounded_inputs(graph, inputs),
    )


def inputs_for(
    wanted: Sequence[ModelInput],
    source: str,
    size: tuple[int, int],
    value_range: tuple[float, float],
    batch: int = RANDOM_BATCH,
) -> list[Array]:
    """An array for each input: random numbers, or one read from a file for the only input."""
    if source == "random":
        generator = np.random.default_rng(0)
        return [_random(generator, one, size, value_range, batch) for one in wanted]
    if len(wanted) != 1:
        raise PortError(f"the network has {len(wanted)} inputs; --input random serves them all")
    path, shape = Path(source), _shape(wanted[0])
    if not path.is_file():
        raise PortError(f"--input {source}: no such file; a picture, a .npy file or 'random'")
    array = _array(path) if path.suffix == ".npy" else _picture(path, shape, size, value_range)
    if array.ndim == len(shape) - 1:
        array = array[None]
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise PortError(f"{source} has shape {array.shape}, the network takes {shape}")
    return [array.astype(wanted[0].dtype)]


def _shape(wanted: ModelInput) -> tuple[int | None, ...]:
    if wanted.shape is None:
        raise PortError(f"input {wanted.name!r} has no shape in the file")
    return wanted.shape


def _random(
    generator: np.random.Generator,
    wanted: ModelInput,
    size: tuple[int, int],
    value_range: tuple[float, float],
    count: int,
) -> Array:
    """Numbers within the range; small ones where the network takes integers, bytes for bytes."""
    shape = _shape(wanted)
    batch = [count if one is None else one for one in shape[:1]]
    sizes = [SAMPLES] if shape == (None,) else [*batch, *_filled(shape[1:], size)]
    if wanted.dtype.startswith(("float", "bfloat")):
        return generator.uniform(*value_range, sizes).astype("f4")
    high = {"bool": 2, "uint8": 256}.get(wanted.dtype, SMALL)
    return generator.integers(0, high, sizes).astype(wanted.dtype)


def _filled(shape: Sequence[int | None], size: tuple[int, int]) -> list[int]:
    """Sizes for those that may be any: rows, then columns."""
    sizes = iter(size)
    return [next(sizes, size[-1]) if dimension is None else dimension for dimension in shape]


def _array(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise PortError(f"{path}: no array in NumPy's format ({error})") from error
    return np.asarray(array, np.float32)


def _picture(
    path: Path,
    shape: tuple[int | None, ...],
    size: tuple[int, int],
    value_range: tuple[float, float],
) -> Array:
    """Resized to what the network takes, its values from 0 to 255 moved to the range."""
    from PIL import Image, UnidentifiedImageError

    if len(shape) != 4:
        raise PortError(f"the network takes {shape}, which is no picture")
    rows, columns, channels = _filled(shape[1:], size)
    if channels not in (1, 3):
        raise PortError(f"a picture has 1 or 3 channels, the network takes {channels}")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise PortError(f"{path}: {image.width} x {image.height} pixels are too many")
            small = image.convert("L" if channels == 1 else "RGB").resize((columns, rows))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise PortError(f"{path}: no picture that can be read ({error})") from error
    low, high = value_range
    values = np.asarray(small, np.float32).reshape(1, rows, columns, channels)
    return low + values / 255 * (high - low)
