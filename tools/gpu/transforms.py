"""What PyTorch does with an operator: derivatives, autocast, compilation, streams, graphs."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

import tfcompat_dw
from gpu.problems import (
    OPS,
    Shape,
    everything,
    exact,
    noise,
    same_bits,
    synchronize,
)
from gpu.session import Deadline, Report

UNEVEN = Shape(2, 6, 5, 3, (3, 2), stride=(2, 2), multiplier=2)


def operands(dtype: torch.dtype, device: str) -> list[Tensor]:
    """Input, filter and bias that want gradients, and the output's gradient."""
    generator = torch.Generator().manual_seed(3)
    x, f, b, grad = (tensor.to(device, dtype) for tensor in exact(UNEVEN, generator))
    return [x.requires_grad_(), f.requires_grad_(), b.requires_grad_(), grad]


def convolve(x: Tensor, f: Tensor, b: Tensor) -> Tensor:
    """The operator, by its own name."""
    found: Tensor = OPS.depthwise_conv2d(x, f, b, *UNEVEN.window())
    return found


def gradcheck(device: str) -> list[str]:
    """First and second derivatives."""
    *leaves, _ = operands(torch.float64, device)
    ok = torch.autograd.gradcheck(convolve, leaves)
    ok = ok and torch.autograd.gradgradcheck(convolve, leaves)
    return [] if ok else ["failed"]


def opcheck(device: str) -> list[str]:
    """PyTorch's own test of a custom operator, for all four."""
    x, f, b, grad = operands(torch.float32, device)
    window = UNEVEN.window()
    torch.library.opcheck(OPS.depthwise_conv2d.default, (x, f, b, *window))
    x, f, grad = (tensor.detach() for tensor in (x, f, grad))
    x_size, f_size = list(x.shape), list(f.shape)
    torch.library.opcheck(OPS.depthwise_conv2d_backward_input.default, (x_size, f, grad, *window))
    torch.library.opcheck(OPS.depthwise_conv2d_backward_filter.default, (x, f_size, grad, *window))
    torch.library.opcheck(OPS.depthwise_conv2d_backward.default, (x, f, grad, *window, [True] * 3))
    return []


def autocast(device: str) -> list[str]:
    """As if the operands had been cast, and gradients in the operands' own dtype."""
    wrong = []
    for dtype in (torch.bfloat16, torch.float16):
        *leaves, grad = operands(torch.float32, device)
        with torch.autocast(device, dtype):
            out = convolve(leaves[0], leaves[1], leaves[2])
        found = torch.autograd.grad(out, leaves, grad.to(out.dtype))
        cast = [leaf.detach().to(dtype).requires_grad_() for leaf in leaves]
        expected = convolve(cast[0], cast[1], cast[2])
        gradients = torch.autograd.grad(expected, cast, grad.to(dtype))
        if out.dtype != dtype or not torch.equal(out, expected):
            wrong.append(f"{dtype}: {out.dtype} or other values")
        if not all(torch.equal(a, b.float()) for a, b in zip(found, gradients, strict=True)):
            wrong.append(f"{dtype}: other gradients")
        double = [leaf.detach().double() for leaf in leaves]
        with torch.autocast(device, dtype):
            if convolve(double[0], double[1], double[2]).dtype != torch.float64:
                wrong.append(f"{dtype}: float64 was cast")
    return wrong


def new_layer(device: str) -> tuple[torch.nn.Module, Tensor]:
    """A layer with parameters, and an image for it."""
    torch.manual_seed(0)
    layer = tfcompat_dw.DepthwiseConv2D(16, 3, strides=2, padding="same", device=device)
    return layer, torch.randn(2, 9, 9, 16, device=device)


def with_gradients(function: Callable[[Tensor], Tensor], image: Tensor) -> list[Tensor]:
    """The result, and the image's gradient of the sum of squares."""
    leaf = image.detach().clone().requires_grad_()
    out = function(leaf)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), leaf)]


def compiled(device: str) -> list[str]:
    """In one graph, for training; without Triton by the compiler that generates no code."""
    layer, image = new_layer(device)
    backend = "inductor" if generates_code(device) else "aot_eager"
    torch.compiler.reset()
    found = with_gradients(torch.compile(layer, fullgraph=True, backend=backend), image)
    expected = with_gradients(layer, image)
    return [
        f"{backend}: other {name}"
        for name, a, b in zip(("values", "gradients"), found, expected, strict=True)
        if not torch.allclose(a, b, rtol=1e-6, atol=0)  # the squares may be computed otherwise
    ]


def generates_code(device: str) -> bool:
    """Whether PyTorch's compiler works here at all: it needs Triton, a compiler and a home."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        torch.compile(lambda x: x + 1)(torch.ones(8, device=device))
    except Exception as error:
        print(f"   torch.compile generates no code here: {type(error).__name__}", flush=True)
        return False
    return True


def devices_mixed(device: str) -> list[str]:
    """Refused with a sentence."""
    x, f, b, _ = operands(torch.float32, device)
    try:
        convolve(x, f.cpu(), b)
    except (RuntimeError, ValueError) as error:
        return [] if "device" in str(error) else [str(error)]
    return ["accepted"]


# ---- what there is on a GPU alone ----------------------------------------------------------------

AT_ONCE = (
    Shape(8, 28, 28, 64, (3, 3)),
    Shape(8, 28, 28, 64, (5, 5), stride=(2, 2), channels_last=False),
    # one kernel, and different amounts of shared memory that it has to ask for
    Shape(8, 28, 28, 64, (11, 11)),
    Shape(8, 28, 28, 64, (13, 13)),
)
TURNS = 20


def differing(found: Sequence[Sequence[Tensor]], expected: Sequence[Tensor]) -> int:
    """How many of the turns gave other bits."""
    return sum(not all(map(same_bits, turn, expected)) for turn in found)


def two_streams(device: str) -> list[str]:
    """Launched in turns on two streams, from one thread: each result as if it had been alone."""
    operands = [noise(shape, torch.float32, device) for shape in AT_ONCE]
    expected = [everything(own, shape) for own, shape in zip(operands, AT_ONCE, strict=True)]
    streams = [torch.cuda.Stream() for _ in AT_ONCE]
    found: list[list[list[Tensor]]] = [[] for _ in AT_ONCE]
    synchronize(device)
    for _ in range(TURNS):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                found[i].append(everything(operands[i], AT_ONCE[i]))
    synchronize(device)
    wrong = map(differing, found, expected)
    return [f"stream {i}: {n} of {TURNS} differ" for i, n in enumerate(wrong) if n]


def two_threads(device: str) -> list[str]:
    """Two threads at once, each with a stream of its own."""
    operands = [noise(shape, torch.float32, device) for shape in AT_ONCE]
    expected = [everything(own, shape) for own, shape in zip(operands, AT_ONCE, strict=True)]
    synchronize(device)

    def turns(i: int) -> int:
        with torch.cuda.stream(torch.cuda.Stream()):
            found = [everything(operands[i], AT_ONCE[i]) for _ in range(TURNS)]
            torch.cuda.current_stream().synchronize()
            return differing(found, expected[i])

    with ThreadPoolExecutor(len(AT_ONCE)) as pool:
        wrong = list(pool.map(turns, range(len(AT_ONCE))))
    return [f"thread {i}: {n} of {TURNS} differ" for i, n in enumerate(wrong) if n]


def another_stream(device: str) -> list[str]:
    """What waits for a stream sees its results, gradients by autograd's own threads included."""
    layer, image = new_layer(device)
    expected = with_gradients(layer, image)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = with_gradients(layer, image)
    torch.cuda.current_stream().wait_stream(stream)
    return [] if all(map(torch.equal, found, expected)) else ["differs"]


def cuda_graph(device: str) -> list[str]:
    """A captured training step, replayed on another image."""
    layer, image = new_layer(device)
    static = torch.zeros_like(image, requires_grad=True)
    leaves = [static, *layer.parameters()]

    def step() -> list[Tensor]:
        out = layer(static)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        static.copy_(image)
    graph.replay()
    found = [tensor.detach().clone() for tensor in captured]
    graph.replay()
    wrong = [] if all(map(torch.equal, found, captured)) else ["a second replay differs"]
    return wrong if all(map(torch.equal, found, step())) else [*wrong, "differs"]


ANYWHERE: dict[str, Callable[[str], list[str]]] = {
    "gradcheck, gradgradcheck": gradcheck,
    "opcheck": opcheck,
    "autocast": autocast,
    "torch.compile": compiled,
}
ON_A_GPU: dict[str, Callable[[str], list[str]]] = {
    "two streams at once": two_streams,
    "two threads at once": two_threads,
    "another stream": another_stream,
    "CUDA graph of a training step": cuda_graph,
    "devices mixed": devices_mixed,
}


def check_all(
    report: Report,
    device: str,
    deadline: Deadline,
    group: str,
    checks: dict[str, Callable[[str], list[str]]],
) -> None:
    """One after the other; an error in one is its own failure."""
    for name, check in checks.items():
        if deadline.over:
            report.leave_out(f"{group}: {name}: no time")
            continue
        report.attempt(group, name, device, functools.partial(check, device))
