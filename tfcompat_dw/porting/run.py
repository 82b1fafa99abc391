"""What ``compare`` runs: the port, on a picture, an array or random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tfcompat_dw.porting import PortedModel, PortError, port_model

Array = NDArray[Any]
MOST_PIXELS = 100_000_000
RANDOM_BATCH = 2


def ported(file: Path, weights: Path | None) -> PortedModel:
    """The port of a file, with the weights of a ``.safetensors`` file if one is given."""
    model = port_model(file)
    if weights is not None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            model.load_state_dict(load_file(weights))
        except (SafetensorError, RuntimeError) as error:
            raise PortError(f"{weights}: not the weights of this network ({error})") from error
    return model


def outputs_of(model: PortedModel, inputs: Sequence[Array]) -> dict[str, Array]:
    """Every layer's, as arrays."""
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs]
    with torch.inference_mode():
        outputs = model.layer_outputs(*tensors)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def inputs_for(
    shapes: Sequence[tuple[int | None, ...]],
    source: str,
    size: tuple[int, int],
    value_range: tuple[float, float],
) -> list[Array]:
    """An array for each input: random numbers, or one read from a file for the only input."""
    if source == "random":
        generator = np.random.default_rng(0)
        return [
            generator.uniform(*value_range, (RANDOM_BATCH, *_filled(shape[1:], size))).astype("f4")
            for shape in shapes
        ]
    if len(shapes) != 1:
        raise PortError(f"the network has {len(shapes)} inputs; --input random serves them all")
    path = Path(source)
    if not path.is_file():
        raise PortError(f"--input {source}: no such file; a picture, a .npy file or 'random'")
    array = _array(path) if path.suffix == ".npy" else _picture(path, shapes[0], size, value_range)
    wanted = shapes[0]
    if array.ndim == len(wanted) - 1:
        array = array[None]
    fits = array.ndim == len(wanted) and all(
        want in (None, have) for want, have in zip(wanted[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise PortError(f"{source} has shape {array.shape}, the network takes {tuple(wanted)}")
    return [array]


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
