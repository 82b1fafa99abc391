"""One operator of TFLite in a file: what a test draws, and what the port makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from tflite_network import Network, Operator, Steps, Tensor

from tfcompat_dw import port_model
from tfcompat_dw.porting.model import PortedModel, flat

QUICK = settings(
    max_examples=5, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(QUICK, max_examples=150)
_numbers = count()


@dataclass
class Given:
    """An operand: what is stored, and whether it is a constant of the file."""

    array: np.ndarray
    is_constant: bool = False
    steps: Steps | None = None
    """Of a quantized one."""
    dtype: str = ""
    """In the file, where it is none of NumPy's."""
    through: tuple[str, ...] = ()
    """Operators between the constant and the one that is tested."""
    tensor: Tensor | None = None
    """How the constant lies in the file, where that is not the array's own bytes."""

    @property
    def real(self) -> np.ndarray:
        """The numbers that it stands for."""
        return self.array if self.steps is None else real(self.array, self.steps)


@dataclass
class Result:
    """What an operator gives."""

    dtype: str
    steps: Steps | None = None


@dataclass
class Case:
    """One operator."""

    op: str
    inputs: list[Given | None]
    options: dict = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    """One of the first input's type, if none are given."""
    custom: bytes | None = None
    is_plain: bool = False
    """See :attr:`Network.is_plain`."""

    @property
    def live(self) -> list[Given]:
        """Those that are given when the network runs."""
        given = [one for one in self.inputs if one is not None and not one.is_constant]
        return [one for one in given if one.tensor is None or not one.tensor.is_variable]


def live(array: np.ndarray, steps: Steps | None = None) -> Given:
    """An input of the network."""
    return Given(np.asarray(array), steps=steps)


def const(array: np.ndarray, steps: Steps | None = None, dtype: str = "") -> Given:
    """A constant."""
    return Given(np.asarray(array), True, steps, dtype)


def state(*shape: int) -> Given:
    """Zeros that the interpreter keeps from one call to the next."""
    tensor = Tensor("float32", shape, is_variable=True)
    return Given(np.zeros(shape, np.float32), tensor=tensor)


def real(array: np.ndarray, steps: Steps) -> np.ndarray:
    """``scale * (q - zero_point)`` in float32, as the port reads them."""
    shape = [1] * array.ndim
    if len(steps.scale) > 1:
        shape[steps.axis] = -1
    scale = np.array(steps.scale, np.float32).reshape(shape)
    zero = np.array(steps.zero_point, np.int64).reshape(shape)
    return (array.astype(np.int64) - zero).astype(np.float32) * scale


def network_of(case: Case) -> Network:
    """The file: the operator, and what its constants pass through."""
    network, numbers = Network(is_plain=case.is_plain), []
    for one in case.inputs:
        numbers.append(-1 if one is None else _added(network, one))
    for result in case.results or [Result(_dtype(case.inputs[0]), case.inputs[0].steps)]:
        network.outputs.append(network.add(Tensor(result.dtype, steps=result.steps)))
    network.operators.append(Operator(case.op, numbers, network.outputs, case.options, case.custom))
    return network


def _dtype(one: Given) -> str:
    return one.dtype or one.array.dtype.name


def _added(network: Network, one: Given) -> int:
    data = one.array.tobytes() if one.is_constant else None
    number = network.add(one.tensor or Tensor(_dtype(one), one.array.shape, data, one.steps))
    if one.tensor is not None and one.tensor.is_variable:
        return number
    if not one.is_constant:
        network.inputs.append(number)
    dtype, steps = network.tensors[number].dtype, one.steps
    for op in one.through:
        dtype, steps = ("float32", None) if op == "DEQUANTIZE" else (dtype, steps)
        passed = network.add(Tensor(dtype, one.array.shape, None, steps))
        network.operators.append(Operator(op, [number], [passed]))
        number = passed
    return number


def packed(given: Given) -> Given:
    """A constant of 8 bits as one of 4: two in each byte, the lower one first."""
    flat = given.array.astype(np.uint8).ravel() & 15
    flat = np.concatenate([flat, np.zeros(flat.size % 2, np.uint8)])
    data = (flat[::2] | flat[1::2] << 4).tobytes()
    given.tensor = Tensor("int4", given.array.shape, data, given.steps)
    return given


def sparse(given: Given, order: list[int], whole: list[bool], blocks: dict[int, int]) -> Given:
    """A constant without its zeros, as far as its levels are not stored whole.

    Args:
        given: the constant, which passes through ``DENSIFY`` then.
        order: its axes, those of blocks behind them, from the outermost level to the innermost.
        whole: which of the levels are stored whole.
        blocks: sizes of blocks along axes.
    """
    array = given.array
    sizes = [size // blocks.get(axis, 1) for axis, size in enumerate(array.shape)]
    split = [part for axis, size in enumerate(sizes)
             for part in (size, *([blocks[axis]] if axis in blocks else []))]  # fmt: skip
    outer = [axis + sum(one < axis for one in blocks) for axis in range(array.ndim)]
    inner = [outer[axis] + 1 for axis in blocks]
    nodes = [array.reshape(split).transpose([[*outer, *inner][one] for one in order])]
    levels = []
    for is_whole in whole:
        kept = [[i for i, part in enumerate(node) if is_whole or part.any()] for node in nodes]
        ends = np.cumsum([0, *map(len, kept)]).tolist()
        levels.append(len(nodes[0]) if is_whole else (ends, [*chain(*kept)]))
        nodes = [node[i] for node, places in zip(nodes, kept, strict=True) for i in places]
    data = np.array(nodes, array.dtype).tobytes()
    description = {"order": order, "blocks": list(blocks), "levels": levels}
    given.tensor = Tensor(array.dtype.name, array.shape, data, given.steps, description)
    given.through = ("DENSIFY", *given.through)
    return given


def ported(folder: Path, data: bytes, **options: object) -> PortedModel:
    """The port of a file: each lies under a name of its own, for it may stay mapped."""
    path = folder / f"{next(_numbers)}.tflite"
    path.write_bytes(data)
    return port_model(path, **options)


def outputs_of(model: PortedModel, case: Case) -> list[np.ndarray]:
    """What the port makes of a case's inputs."""
    tensors = [torch.from_numpy(np.array(one.real)) for one in case.live]
    with torch.inference_mode():
        return [one.numpy() for one in flat(model(*tensors))]
