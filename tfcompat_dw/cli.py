"""The command line: ``tfcompat-dw inspect | port | compare``.

Results go to stdout, talk and progress to stderr.  Exit codes: 0 all went well, 1 the file could
not be read, ported or run, 2 the command line is wrong, 3 ``compare`` found that the port diverges.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from math import prod
from pathlib import Path
from typing import Annotated, Any

try:
    import numpy as np
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ImportError as error:
    sys.exit(f"tfcompat-dw: {error}; pip install 'tfcompat_dw[port]'")

from tfcompat_dw.checkpoint import Checkpoint, open_checkpoint
from tfcompat_dw.porting.compare import Comparison

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Trained TensorFlow and Keras networks in PyTorch, without TensorFlow.",
)
WIDE = 160
"""Columns of a table that goes into a file or a pipe."""
out = Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else WIDE)
talk = Console(stderr=True, highlight=False)
DIVERGES = 3

File = Annotated[
    Path,
    typer.Argument(
        help="A Keras file (.keras, .h5, .hdf5, .weights.h5), a SavedModel folder, a frozen graph "
        "(.pb, .pbtxt), .tflite, TensorFlow.js' model.json, or a TF checkpoint (its prefix, or "
        "its .meta).",
        metavar="FILE",
        show_default=False,
    ),
]


Signature = Annotated[
    str | None,
    typer.Option(help="Which graph of a file with several.", show_default="the first"),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output-node",
        help="A node of a graph whose result is wanted in the place of the graph's outputs; give "
        "it several times.",
        show_default="the graph's",
    ),
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        help="NAME=SIZES of a graph's input where the file does not say, such as "
        "image=?,224,224,3; ? may be any size.",
        show_default="the file's",
    ),
]
Simulate = Annotated[
    bool,
    typer.Option(
        "--simulate-quantization",
        help="Round and clip as a quantized TFLite network does.",
    ),
]


def graph_options(
    signature: str | None, outputs: list[str] | None, shapes: list[str] | None, simulate: bool
) -> dict[str, Any]:
    """What ``port_model`` takes."""
    return {
        "signature": signature,
        "outputs": outputs or None,
        "input_shapes": dict(map(input_shape, shapes or [])),
        "simulate_quantization": simulate,
    }


def input_shape(text: str) -> tuple[str, tuple[int | None, ...]]:
    """``image=?,224,224,3``."""
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(None if size == "?" else int(size) for size in sizes.split(",") if size)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not NAME=SIZES, such as x=?,224,224,3") from error
    if not name or any(size is not None and size < 0 for size in shape):
        raise typer.BadParameter(f"{text!r} is not NAME=SIZES, such as x=?,224,224,3")
    return name, shape


class DataFormat(str, Enum):
    """Where the channels of images are."""

    channels_last = "channels_last"
    channels_first = "channels_first"


class Output(str, Enum):
    """What ``port`` writes."""

    safetensors = "safetensors"
    py = "py"
    pt2 = "pt2"
    onnx = "onnx"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What is wrong with a file or a network is said in plain words, without a traceback."""
    from tfcompat_dw.porting import PortError
    from tfcompat_dw.porting.original import OriginalError

    try:
        yield
    except (PortError, OriginalError, ImportError, OSError, ValueError) as error:
        talk.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error


# ---- inspect ---------------------------------------------------------------------------------


@app.command()
def inspect(
    file: File,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    tensors: Annotated[bool, typer.Option(help="List the tensors, not only the layers.")] = True,
) -> None:
    """List what is in a file: its layers, depthwise ones marked, and its tensors.

    Works for every file that can be read, whether its network can be ported or not.
    """
    with one_line_errors():
        checkpoint = open_checkpoint(file)
        described = description(checkpoint, tensors)
    if as_json:
        print(json.dumps(described, indent=2))
        return
    print_description(checkpoint, described)


def description(checkpoint: Checkpoint, tensors: bool) -> dict[str, object]:
    """What ``inspect --json`` prints."""
    from tfcompat_dw.porting.describe import described

    names = checkpoint.variable_names()
    infos = {key: checkpoint.info(key) for key in checkpoint}
    result: dict[str, object] = {
        "file": str(checkpoint.path),
        "format": checkpoint.format,
        "keras_version": checkpoint.keras_version(),
        "parameters": sum(
            info.elements for info in infos.values() if info.dtype.startswith(("float", "bfloat"))
        ),
        **described(checkpoint),
    }
    if tensors:
        result["tensors"] = [
            {
                "name": key,
                "shape": list(info.shape),
                "dtype": info.dtype,
                **({"variable": names[key]} if names.get(key, key) != key else {}),
            }
            for key, info in infos.items()
        ]
    return result


def print_description(checkpoint: Checkpoint, described: dict[str, object]) -> None:
    """As tables."""
    version = described["keras_version"]
    out.print(
        f"[bold]{escape(str(checkpoint.path))}[/]: {checkpoint.format}"
        + (f", Keras {escape(str(version))}" if version else "")
        + f", {described['parameters']:,} numbers\n"
    )
    print_ends(described)
    layers, tensors = described["layers"], described.get("tensors")
    if isinstance(layers, list) and layers:
        print_layers(layers)
    if isinstance(tensors, list):
        print_tensors(tensors)


def print_ends(described: dict[str, Any]) -> None:
    """Of a graph: what goes in and what comes out."""
    if len(described.get("signatures", ())) > 1:
        out.print(f"signatures: {', '.join(map(escape, described['signatures']))}")
    for one in described.get("inputs", ()):
        shape = one["shape"]
        sizes = (
            "any shape" if shape is None else "x".join("?" if n is None else str(n) for n in shape)
        )
        out.print(f"input   {escape(one['name'])}: {sizes} {one['dtype']}")
    for one in described.get("outputs", ()):
        out.print(f"output  {escape(one['name'])}: {escape(one['node'])}")
    if described.get("outputs"):
        out.print()


def print_layers(layers: list[dict[str, Any]]) -> None:
    """Depthwise ones marked."""
    table = _table("layer", "class", "kernel", "strides", "padding", "mult", "numbers")
    for layer in layers:
        cells = [_cell(layer[key]) for key in ("kernel", "strides", "padding", "multiplier")]
        numbers = sum(prod(shape) for shape in layer["weights"].values())
        table.add_row(
            ("● " if layer["depthwise"] else "  ") + escape(layer["name"]),
            escape(layer["class"]),
            *map(escape, cells),
            f"{numbers:,}" if numbers else "",
            style="bold cyan" if layer["depthwise"] else "",
        )
    out.print(table)
    depthwise = sum(layer["depthwise"] for layer in layers)
    out.print(f"{len(layers)} layers, {depthwise} of them depthwise (●)\n")


def print_tensors(tensors: list[dict[str, Any]]) -> None:
    """With their variables' names where these are other ones."""
    named = any("variable" in tensor for tensor in tensors)
    table = _table("tensor", "shape", "dtype", *(["variable"] if named else []))
    for tensor in tensors:
        variable = [escape(tensor.get("variable", ""))] if named else []
        table.add_row(escape(tensor["name"]), _cell(tensor["shape"]), tensor["dtype"], *variable)
    out.print(table)
    out.print(f"{len(tensors)} tensors")


def _table(*columns: str) -> Table:
    """Names are broken, not cut, where they are long."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        is_number = column in ("numbers", "relative", "largest difference")
        table.add_column(column, overflow="fold", justify="right" if is_number else "left")
    return table


def _cell(value: object) -> str:
    """``[3, 3]`` as ``3x3``."""
    if isinstance(value, (list, tuple)) and all(isinstance(size, int) for size in value):
        return "x".join(map(str, value)) or "scalar"
    return "" if value is None else str(value)


# ---- port --------------------------------------------------------------------------------------


@app.command()
def port(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write into.", show_default="beside FILE"),
    ] = None,
    write: Annotated[
        list[Output] | None,
        typer.Option(
            help="What to write; give it several times. safetensors: the weights; py: the network "
            "as a Python module that loads them; pt2: torch.export's program, any batch; onnx.",
            show_default="all; onnx where onnxscript is installed",
        ),
    ] = None,
    data_format: Annotated[
        DataFormat, typer.Option(help="Axes of the images that go in and come out.")
    ] = DataFormat.channels_last,
    signature: Signature = None,
    output_node: Outputs = None,
    input_shape: InputShapes = None,
    simulate_quantization: Simulate = False,
) -> None:
    """Turn a network into PyTorch: weights, code, an exported program, ONNX."""
    from tfcompat_dw.porting import port_model
    from tfcompat_dw.porting.write import write_port

    with one_line_errors():
        with talk.status(f"Porting {escape(file.name)}"):
            options = graph_options(signature, output_node, input_shape, simulate_quantization)
            model = port_model(file, data_format=data_format.value, **options)
        count = sum(parameter.numel() for parameter in model.parameters())
        talk.print(f"{escape(file.name)}: {len(list(model.children()))} layers, {count:,} weights")
        folder = output or file.parent
        for kind in write or all_but_missing(list(Output)):
            with talk.status(f"Writing {kind.value}"):
                path = write_port(model, folder / _stem(file), kind.value)
            out.print(str(path), soft_wrap=True)


def all_but_missing(kinds: list[Output]) -> list[Output]:
    """Nobody has asked for ONNX: it is left out, and said to be, where it cannot be written."""
    if importlib.util.find_spec("onnxscript") is not None:
        return kinds
    talk.print("no ONNX: pip install 'tfcompat_dw\\[onnx]'")
    return [kind for kind in kinds if kind is not Output.onnx]


def _stem(file: Path) -> str:
    """The file's name as a Python module's."""
    stem = file.name.partition(".")[0]
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in stem) or "network"
    return f"_{name}" if name[0].isdigit() else name


# ---- compare -----------------------------------------------------------------------------------


@app.command()
def compare(
    file: File,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A .safetensors file that `port` wrote: compare these weights.",
            show_default="those of FILE",
        ),
    ] = None,
    input: Annotated[
        str, typer.Option(help="A picture, an array in a .npy file, or 'random'.")
    ] = "random",
    size: Annotated[
        tuple[int, int],
        typer.Option(help="Rows and columns where the network takes any.", metavar="H W"),
    ] = (96, 96),
    value_range: Annotated[
        tuple[float, float],
        typer.Option("--range", help="Values of a picture or of random input.", metavar="LOW HIGH"),
    ] = (0.0, 1.0),
    tolerance: Annotated[
        float, typer.Option(help="Relative error from which a layer counts as diverging.")
    ] = 1e-4,
    html: Annotated[
        Path | None, typer.Option(help="Write a page: error over depth, feature maps.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    signature: Signature = None,
    output_node: Outputs = None,
    input_shape: InputShapes = None,
    simulate_quantization: Simulate = False,
) -> None:
    """Run a network where it comes from and its port in PyTorch, and compare every layer.

    Needs what the network was made for: keras (with TensorFlow), or tf_keras for older files;
    tensorflow for graphs; ai-edge-litert or tensorflow for .tflite. Names the first layer that
    diverges and what it looks like; then the exit code is 3.
    """
    from tfcompat_dw.porting.compare import compare as compare_outputs
    from tfcompat_dw.porting.run import inputs_for, original_of, outputs_of, ported

    with one_line_errors():
        with talk.status("Porting"):
            options = graph_options(signature, output_node, input_shape, simulate_quantization)
            model = ported(file, weights, **options)
        with talk.status("Loading the original"):
            original = original_of(file, model, signature)
        batch = 1 if model.source == "graph" else 2  # what TFLite fixes is free in the port alone
        inputs = original.rounded(inputs_for(model.inputs, input, size, value_range, batch))
        with talk.status(f"Running the original in {original.library}"):
            theirs = original.run(inputs)
        with talk.status("Running the port"):  # roundings add up, so each layer stands for itself
            ours = outputs_of(model, inputs, theirs if original.integers else None)
        try:
            comparison = compare_outputs(ours, theirs, tolerance, original.integers)
        except ValueError as error:
            talk.print(f"[bold red]error:[/] {escape(str(error))}")
            raise typer.Exit(1) from error
        if html is not None:
            from tfcompat_dw.porting.report import page

            shapes = ", ".join(" x ".join(map(str, array.shape)) for array in inputs)
            facts = {"file": str(file), "original": original.library, "input": f"{input}, {shapes}"}
            title = f"{file.name} and its port"
            html.write_text(page(comparison, ours, theirs, title=title, facts=facts))
            talk.print(f"page: {escape(str(html))}")
    if as_json:
        print(json.dumps(comparison_as_json(comparison), indent=2))
    else:
        print_comparison(comparison)
    if not comparison.agrees:
        raise typer.Exit(DIVERGES)


def comparison_as_json(comparison: Comparison) -> dict[str, object]:
    """What ``compare --json`` prints."""
    return {
        "agrees": comparison.agrees,
        "first": comparison.first.name if comparison.first else None,
        "cause": comparison.cause or None,
        "only_original": list(comparison.only_original),
        "layers": [
            {
                "name": layer.name,
                "shape": list(layer.shape),
                "absolute": _json_number(layer.absolute),
                "relative": _json_number(layer.relative),
                **({"step": layer.step} if layer.step else {}),
            }
            for layer in comparison.layers
        ],
    }


def print_comparison(comparison: Comparison) -> None:
    """A table, and what it says."""
    table = _table("layer", "output", "largest difference", "relative")
    for layer in comparison.layers:
        style = "red" if layer.diverges(comparison.tolerance) else ""
        numbers = f"{layer.absolute:.1e}", f"{layer.relative:.1e}"
        table.add_row(escape(layer.name), _cell(layer.shape), *numbers, style=style)
    out.print(table)
    if comparison.first is None:
        out.print(f"all {len(comparison.layers)} layers agree; {agreement(comparison)}")
    else:
        out.print(
            f"[bold red]the first layer that diverges:[/] {escape(comparison.first.name)}\n"
            f"[bold red]likely cause:[/] {escape(comparison.cause)}"
        )


def agreement(comparison: Comparison) -> str:
    """How well, of the layers that agree least."""
    rounded = [layer for layer in comparison.layers if layer.step]
    exact = [layer for layer in comparison.layers if not layer.step]
    parts = []
    if exact:
        worst = max(exact, key=lambda layer: layer.relative)
        parts.append(
            f"the worst, {escape(worst.name)}, to {worst.relative:.1e} of its largest value"
        )
    if rounded:
        steps = max(layer.absolute / layer.step for layer in rounded)
        parts.append(
            f"{len(rounded)} that the original computes in integers to {steps:.2f} of their steps, "
            f"each from the original's inputs"
        )
    return "; ".join(parts)


def _json_number(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None


def main() -> None:
    """The program."""
    logging.getLogger("torch").setLevel(logging.ERROR)  # exporters talk of packages not needed
    warnings.simplefilter("ignore")
    app()


if __name__ == "__main__":
    main()
