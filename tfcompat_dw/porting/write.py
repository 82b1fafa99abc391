"""What ``tfcompat-dw port`` writes of a network: weights, code, an exported program, ONNX.

Names out of a file enter the code as attributes that :func:`attribute_names` made, or as
``repr()``; nothing else of the file does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.config import Constant, TensorRef
from tfcompat_dw.porting.functions import SEVERAL_RESULTS
from tfcompat_dw.porting.layer import LayerSpec, PortError
from tfcompat_dw.porting.map_fn import MapFn
from tfcompat_dw.porting.model import PortedModel, Slot, Step
from tfcompat_dw.porting.operations import Operation
from tfcompat_dw.porting.sizes import Computed, SizeOf

ANY_SIZE = 96
"""Rows and columns of an example where the network takes any."""
ANY_LENGTH = 32_000
"""Of a row of numbers: sound."""
FOR_TRAINING = ("name", "trainable", "dtype", "batch_shape", "seed", "synchronized", "autocast")
"""Arguments that most modules do not read."""
READ = {"StoredTensor": ("dtype", "trainable")}
"""By class, those of them that it does."""
USUAL: dict[str, tuple[Any, ...]] = {
    "strides": (1, [1], [1, 1], [1, 1, 1]),
    "dilation_rate": (1, [1], [1, 1], [1, 1, 1]),
    "padding": ("valid",),
    "data_format": ("channels_last",),
    "activation": ("linear",),
    "groups": (1,),
    "depth_multiplier": (1,),
    "use_bias": (True,),
    "center": (True,),
    "scale": (True,),
    "axis": (-1, [-1]),
    "keepdims": (False,),
}
"""What a layer's arguments are if nothing is said, which need not be written."""
LINE = 100


def write_port(model: PortedModel, stem: Path, kind: str) -> Path:
    """Writes ``stem`` with the suffix of a kind: ``safetensors``, ``py``, ``pt2`` or ``onnx``.

    Raises:
        PortError: the network has parts that this kind cannot hold.
        ImportError: ``onnx`` without the packages of the extra of that name.
    """
    path = stem.with_name(f"{stem.name}.{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[kind](model, path)
    return path


def _write_safetensors(model: PortedModel, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)


def _write_code(model: PortedModel, path: Path) -> None:
    path.write_text(module_code(model), encoding="utf-8")


def _write_program(model: PortedModel, path: Path) -> None:
    arguments, shapes = example(model)
    program = torch.export.export(model, arguments, dynamic_shapes=shapes)
    torch.export.save(program, path)


def _write_onnx(model: PortedModel, path: Path) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}; pip install 'tfcompat_dw[onnx]'", name=error.name) from error
    from tfcompat_dw.onnx import onnx_translation_table

    arguments, shapes = example(model)
    program = torch.onnx.export(
        model,
        arguments,
        dynamo=True,
        dynamic_shapes=shapes,
        custom_translation_table=onnx_translation_table(),
        verbose=False,
    )
    if program is None:
        raise PortError("torch.onnx.export gave no program")
    program.save(path)


_WRITERS: dict[str, Callable[[PortedModel, Path], None]] = {
    "safetensors": _write_safetensors,
    "py": _write_code,
    "pt2": _write_program,
    "onnx": _write_onnx,
}


def example(model: PortedModel) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Inputs to trace a network with, a batch of 2, and which of their sizes may vary.

    Raises:
        PortError: the network does not say how many axes an input has.
    """
    tensors, varying = [], []
    for one in model.inputs:
        if one.shape is None:
            raise PortError(f"input {one.name!r} has no shape in the file: it cannot be exported")
        sizes, dims = _sizes_and_dims(one.shape)
        if model.data_format == "channels_first" and 3 <= len(sizes) <= 5:
            sizes.insert(1, sizes.pop())
            dims.insert(1, dims.pop())
        dtype = getattr(torch, one.dtype, torch.float32)
        tensors.append(torch.zeros(sizes, dtype=dtype))
        varying.append(dict(enumerate(dims)))
    return tuple(tensors), {"inputs": tuple(varying)}


def _sizes_and_dims(shape: tuple[int | None, ...]) -> tuple[list[int], list[Any]]:
    """Of one input; the batch is the first axis of several, where it is open."""
    kinds = torch.export.Dim
    sizes = [ANY_SIZE if size is None else size for size in shape]
    dims: list[Any] = [kinds.AUTO if size is None else kinds.STATIC for size in shape]
    if shape == (None,):
        sizes = [ANY_LENGTH]
    elif shape and shape[0] is None:
        sizes[0], dims[0] = 2, torch.export.Dim("batch", min=1)
    return sizes, dims


# ---- code ----------------------------------------------------------------------------------------

_HEAD = '''"""{title}, a network of TensorFlow in PyTorch, written by `tfcompat-dw port`.

`load()` gives it with the weights of the .safetensors file beside this one.
"""

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from tfcompat_dw.porting.config import Constant, TensorRef
from tfcompat_dw.porting.layers import build
from tfcompat_dw.porting.map_fn import MapFn
from tfcompat_dw.porting.model import as_float, channels_first, channels_last, pick
from tfcompat_dw.porting.operations import Operation
from tfcompat_dw.porting.sizes import Computed, SizeOf
'''

_TAIL = '''

def load(weights=Path(__file__).with_suffix(".safetensors")):
    """The network with its weights, in evaluation mode."""
    network = Network()
    network.load_state_dict(load_file(weights))
    return network.eval()
'''


def module_code(model: PortedModel) -> str:
    """A Python module with a class for the network and for each model in it.

    Raises:
        PortError: some layers are not this package's own.
    """
    classes: dict[int, str] = {}
    bodies: list[str] = []
    foreign: list[str] = []
    _write_class(model, "Network", classes, bodies, foreign)
    if foreign:
        raise PortError(
            f"code cannot be written for layers of your own: {', '.join(map(repr, foreign))}; "
            f"write the other kinds"
        )
    code = "\n\n\n".join(bodies) + "\n" + _TAIL
    head = _HEAD.format(title=_in_docstring(model.name))
    return _without_unused_imports(head, code) + "\n\n\n" + code


def _in_docstring(name: str) -> str:
    """A name as ASCII that ends no string."""
    return ascii(name).replace("\\", "/").replace('"', "'")


def _without_unused_imports(head: str, code: str) -> str:
    lines = []
    for line in head.splitlines():
        start, found, names = line.partition(" import ")
        if found and start.startswith("from tfcompat_dw"):
            used = [name for name in names.split(", ") if f"{name}(" in code]
            if not used:
                continue
            line = f"{start} import {', '.join(used)}"
        lines.append(line)
    return "\n".join(lines)


def _write_class(
    model: PortedModel, name: str, classes: dict[int, str], bodies: list[str], foreign: list[str]
) -> None:
    """Classes of nested models come first."""
    classes[id(model)] = name
    for child in model.children():
        inner = child.body if isinstance(child, MapFn) else child
        if isinstance(inner, PortedModel) and id(inner) not in classes:
            _write_class(inner, f"Network{len(classes)}", classes, bodies, foreign)
    lines = [f"class {name}(nn.Module):"]
    lines += [f"    # {model.name!a}", "    def __init__(self):", "        super().__init__()"]
    for attribute, child in model.named_children():
        value = _constructor(child, classes)
        if value is None:
            foreign.append(model.tf_names.get(attribute, attribute))
            continue
        lines += _wrapped(f"        self.{attribute} = ", value)
        if _is_frozen(child):
            lines.append(f"        self.{attribute}.requires_grad_(False)")
    lines += ["", *_forward(model), *_modes(model)]
    bodies.append("\n".join(lines))


def _wrapped(start: str, call: Sequence[str]) -> list[str]:
    """A call, its arguments on lines of their own where they are long."""
    function, *arguments = call
    line = f"{start}{function}({', '.join(arguments)})"
    if len(line) <= LINE:
        return [line]
    lines = [f"            {argument}," for argument in arguments]
    return [f"{start}{function}(", *lines, "        )"]


def _is_frozen(child: nn.Module) -> bool:
    parameters = list(child.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _constructor(child: nn.Module, classes: Mapping[int, str]) -> list[str] | None:
    """The function that makes a child and its arguments; None for a foreign module."""
    if isinstance(child, PortedModel):
        return [classes[id(child)]]
    if isinstance(child, MapFn):
        return ["MapFn", f"{classes[id(child.body)]}()", str(child.mapped)]
    if isinstance(child, Operation):
        args, kwargs = child.arguments
        return ["Operation", ascii(child.function), _literal(args), _literal(kwargs)]
    spec = getattr(child, "tf_spec", None)
    if not isinstance(spec, LayerSpec):
        return None
    call = ["build", ascii(spec.class_name), _literal(_unusual(spec))]
    if spec.weights:
        call.append(_literal(dict(spec.weights)))
    if spec.keras_major != 3:
        call.append(f"keras={spec.keras_major}")
    return call


def _unusual(spec: LayerSpec) -> dict[str, Any]:
    """The arguments that say something."""
    pools = spec.class_name.endswith(("Pooling1D", "Pooling2D", "Pooling3D"))
    unread = set(FOR_TRAINING) - set(READ.get(spec.class_name, ()))
    return {
        key: value
        for key, value in spec.config.items()
        if value is not None
        and key not in unread
        and (value not in USUAL.get(key, ()) or (pools and key == "strides"))
    }


def _literal(value: Any) -> str:
    """Python for what a description may hold."""
    if isinstance(value, TensorRef):
        return f"TensorRef({value.layer!r}, {value.call}, {value.index})"
    if isinstance(value, Constant):
        return f"Constant({_literal(value.value)}, {value.dtype!r})"
    if isinstance(value, SizeOf):
        return f"SizeOf({_literal(value.ref)}, {value.axis})"
    if isinstance(value, Computed):
        return f"Computed({value.function!r}, {_literal(value.arguments)})"
    if isinstance(value, slice):
        return f"slice({_literal(value.start)}, {_literal(value.stop)}, {_literal(value.step)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and not abs(value) < float("inf"):
        return f'float("{value}")'
    if value is ...:
        return "..."
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return ascii(value)
    raise PortError(f"no code can be written for an argument of type {type(value).__name__}")


# -- forward


class _Registers:
    """Variables for slots; those of spent ones are used again, so that memory is free again."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def __getitem__(self, slot: int) -> str:
        return self._names[slot]

    def take(self, slot: int) -> str:
        """A variable that holds nothing needed."""
        taken = set(self._names.values())
        name = next(name for name in _variables() if name not in taken)
        self._names[slot] = name
        return name

    def free(self, slots: tuple[int, ...]) -> None:
        """Nothing reads these any more."""
        for slot in slots:
            del self._names[slot]


def _variables() -> Iterator[str]:
    yield from "xyzuvw"
    number = 7
    while True:
        yield f"x{number}"
        number += 1


def _forward(model: PortedModel) -> list[str]:
    registers = _Registers()
    inputs = [registers.take(slot) for slot in range(len(model.inputs))]
    lines = [f"    def forward(self, {', '.join(inputs)}):"]
    for one, name in zip(model.inputs, inputs, strict=True):
        value = name
        if model.data_format == "channels_first":
            value = f"channels_last({value})"
        if one.dtype.startswith(("float", "bfloat")):
            value = f"as_float({value}, self)"
        if value != name:
            lines.append(f"        {name} = {value}")
    several: set[int] = set()
    for step in model.steps:
        lines.append(_statement(model, step, registers, several))
    outputs = _structure(model.output_structure, registers, several)
    if model.data_format == "channels_first":
        outputs = f"channels_first({outputs})"
    return [*lines, f"        return {outputs}"]


def _statement(model: PortedModel, step: Step, registers: _Registers, several: set[int]) -> str:
    arguments = [_structure(argument, registers, several) for argument in step.args]
    if step.kwargs:
        arguments.append(f"**{_structure(dict(step.kwargs), registers, several)}")
    module = model.get_submodule(step.module)
    if _has_several(module):
        several.add(step.output)
    registers.free(step.spent)
    name = registers.take(step.output)
    note = "" if model.tf_names.get(step.module) == step.module else f"  # {step.name!a}"
    return f"        {name} = self.{step.module}({', '.join(arguments)}){note}"


def _has_several(module: nn.Module) -> bool:
    if isinstance(module, MapFn):
        return True
    if isinstance(module, PortedModel):
        return not isinstance(module.output_structure, Slot)
    return isinstance(module, Operation) and module.function in SEVERAL_RESULTS


def _structure(value: Any, registers: _Registers, several: set[int]) -> str:
    """Arguments and outputs: slots as variables."""
    if isinstance(value, Slot):
        name = registers[value.number]
        return f"pick({name}, {value.index})" if value.number in several else name
    if isinstance(value, list):
        return "[" + ", ".join(_structure(v, registers, several) for v in value) + "]"
    if isinstance(value, tuple):
        inner = ", ".join(_structure(v, registers, several) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, Mapping):
        pairs = (f"{_literal(k)}: {_structure(v, registers, several)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    return _literal(value)


def _modes(model: PortedModel) -> list[str]:
    """Layers whose mode the original fixes."""
    if not model.modes:
        return []
    lines = ["", "    def train(self, mode=True):", "        super().train(mode)"]
    lines += [f"        self.{attribute}.train({mode})" for attribute, mode in model.modes.items()]
    return [*lines, "        return self"]
