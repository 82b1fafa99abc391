"""Checks and times the CUDA kernels on the machine's own GPU; see tools/gpu_check."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tfcompat_dw
from tfcompat_dw.padding import Window

OPS = torch.ops.tfcompat_dw
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


# ---- correctness ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """One call: sizes, then stride, dilation, multiplier, and whether memory is channels last."""

    batch: int
    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    multiplier: int = 1
    padding: tuple[int, int, int, int] | None = None
    channels_last: bool = True

    def window(self) -> Window:
        """TensorFlow's arguments as the operator takes them."""
        return Window.resolve(
            self.padding or "SAME",
            (self.height, self.width),
            self.kernel,
            self.stride,
            self.dilation,
            self.channels_last,
        )


def shapes() -> Iterator[Shape]:
    """Every kernel, with sizes that fill tiles and sizes that do not."""
    for last in (True, False):
        for kernel in ((3, 3), (5, 5), (7, 7), (1, 1), (2, 3), (4, 2), (1, 9), (31, 31)):
            for channels in (32, 33, 8):
                for stride in ((1, 1), (2, 2)):
                    yield Shape(2, 19, 23, channels, kernel, stride, channels_last=last)
        for size, channels, multiplier in itertools.product((7, 14, 40), (3, 24), (1, 2, 4, 8)):
            yield Shape(3, size, size, channels, (3, 3), multiplier=multiplier, channels_last=last)
        yield Shape(2, 33, 33, 64, (3, 3), dilation=(4, 4), channels_last=last)
        yield Shape(2, 33, 20, 40, (5, 3), dilation=(2, 3), channels_last=last)
        yield Shape(2, 33, 20, 40, (3, 3), stride=(3, 3), channels_last=last)
        yield Shape(2, 33, 20, 40, (3, 3), stride=(2, 1), channels_last=last)
        yield Shape(2, 33, 20, 40, (3, 3), stride=(2, 2), dilation=(2, 2), channels_last=last)
        yield Shape(2, 11, 9, 40, (3, 3), padding=(5, 0, 7, 2), channels_last=last)
        yield Shape(1, 1, 1, 1, (1, 1), channels_last=last)
        yield Shape(1, 3, 5000, 5, (3, 5), channels_last=last)
        yield Shape(1, 5000, 3, 5, (5, 3), channels_last=last)
        yield Shape(70, 5, 6, 130, (3, 3), channels_last=last)


def arrays(shape: Shape, dtype: torch.dtype, generator: torch.Generator) -> list[Tensor]:
    """Input, filter, bias and grad on the CPU, in 1/16: float32 sums of products are exact."""

    def draw(*size: int) -> Tensor:
        return (torch.randint(-16, 16, size, generator=generator) / 16).to(dtype)

    n, h, w, c, m = shape.batch, shape.height, shape.width, shape.channels, shape.multiplier
    x = draw(n, h, w, c) if shape.channels_last else draw(n, c, h, w)
    f, b = draw(*shape.kernel, c, m), draw(c * m)
    grad = draw(*OPS.depthwise_conv2d(x, f, b, *shape.window()).shape)
    return [x, f, b, grad]


def results(tensors: list[Tensor], shape: Shape) -> list[Tensor]:
    """Output, input, filter and bias gradient."""
    x, f, b, grad = tensors
    out = OPS.depthwise_conv2d(x, f, b, *shape.window())
    return [out, *OPS.depthwise_conv2d_backward(x, f, grad, *shape.window(), [True] * 3)]


def poison() -> None:
    """What the allocator hands out next is full of NaN."""
    torch.full((64 << 20,), math.nan, device="cuda")


def differences(got: list[Tensor], wide: list[Tensor]) -> list[str]:
    """Results that are not the correctly rounded float64 ones, up to one unit in the last place."""
    found = []
    for name, a, b in zip(
        ("output", "input grad", "filter grad", "bias grad"), got, wide, strict=True
    ):
        error = (a.cpu().double() - b).abs()
        # the inputs' sums are exact in float32; one rounding to a 16-bit dtype, of at most half
        # a unit; float64 to float32 sums beyond 2^24/256 lose bits: a unit for those
        limit = b.abs() * torch.finfo(a.dtype).eps
        if not bool((error <= limit).all()):
            found.append(f"{name} by {float((error - limit).max()):.3g}")
    return found


def check_parity(report: Report) -> None:
    """Every kernel against float64, and twice: the bits have to be the same."""
    generator = torch.Generator().manual_seed(1)
    for shape in shapes():
        for dtype in (torch.float64, *DTYPES.values()):
            tensors = arrays(shape, dtype, generator)
            wide = results([t.double() for t in tensors], shape)
            poison()
            on_gpu = [t.cuda() for t in tensors]
            got = results(on_gpu, shape)
            wrong = differences(got, wide)
            again = results(on_gpu, shape)
            if not all(torch.equal(a, b) for a, b in zip(got, again, strict=True)):
                wrong.append("another run gave other bits")
            report.case("parity", f"{dtype} {shape}", wrong)


def check_views(report: Report) -> None:
    """Slices, transposes and odd addresses."""
    generator = torch.Generator().manual_seed(2)
    shape = Shape(2, 13, 12, 16, (3, 3))
    for dtype in (torch.float64, *DTYPES.values()):
        x, f, b, grad = arrays(shape, dtype, generator)
        wide = results([t.double() for t in (x, f, b, grad)], shape)
        for offset in (1, 3):
            views = []
            for tensor in (x, f, b, grad):
                room = torch.full((tensor.numel() + 8,), math.nan, dtype=dtype, device="cuda")
                view = room[offset : offset + tensor.numel()].view(tensor.shape)
                views.append(view.copy_(tensor))
            report.case(
                "views", f"{dtype} offset {offset}", differences(results(views, shape), wide)
            )
        strided = [torch.stack([t, t], -1).cuda()[..., 0] for t in (x, f, b, grad)]
        report.case("views", f"{dtype} every other", differences(results(strided, shape), wide))
        nchw = Shape(2, 13, 12, 16, (3, 3), channels_last=False)
        turned = [x.cuda().permute(0, 3, 1, 2), f.cuda(), b.cuda(), grad.cuda().permute(0, 3, 1, 2)]
        got = results(turned, nchw)
        order = got[0].is_contiguous(memory_format=torch.channels_last)
        got[:2] = [t.permute(0, 2, 3, 1) for t in got[:2]]
        wrong = differences(got, wide) + ([] if order else ["result not in channels_last order"])
        report.case("views", f"{dtype} channels_last memory", wrong)


def check_transforms(report: Report) -> None:
    """What PyTorch does with an operator, on CUDA tensors."""
    generator = torch.Generator().manual_seed(3)
    shape = Shape(2, 6, 5, 3, (3, 2), (2, 2), multiplier=2)
    x, f, b, _ = (t.cuda().requires_grad_() for t in arrays(shape, torch.float64, generator))
    call = lambda *args: OPS.depthwise_conv2d(*args, *shape.window())  # noqa: E731
    ok = torch.autograd.gradcheck(call, (x, f, b)) and torch.autograd.gradgradcheck(call, (x, f, b))
    report.case("transforms", "gradcheck, gradgradcheck", [] if ok else ["failed"])

    args = [t.detach().float().requires_grad_() for t in (x, f, b)]
    torch.library.opcheck(OPS.depthwise_conv2d.default, (*args, *shape.window()))
    report.case("transforms", "opcheck", [])

    with torch.autocast("cuda", dtype=torch.bfloat16):
        half = call(*args)
    report.case("transforms", "autocast", [] if half.dtype == torch.bfloat16 else [str(half.dtype)])

    layer = tfcompat_dw.DepthwiseConv2D(16, 3, strides=2, padding="same", device="cuda")
    image = torch.randn(2, 9, 9, 16, device="cuda")
    expected = layer(image)
    compiled = torch.compile(layer, fullgraph=True)(image)
    report.case("transforms", "torch.compile", [] if compiled.equal(expected) else ["differs"])

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            layer(image).sum().backward()
    torch.cuda.current_stream().wait_stream(stream)
    report.case("transforms", "another stream", [] if layer(image).equal(expected) else ["differs"])

    graph = torch.cuda.CUDAGraph()
    static = torch.zeros_like(image)
    with torch.no_grad(), torch.cuda.graph(graph):
        captured = layer(static)
    static.copy_(image)
    graph.replay()
    report.case("transforms", "CUDA graph", [] if captured.equal(expected) else ["differs"])

    mixed = "accepted"
    try:
        OPS.depthwise_conv2d(image, layer.weight.cpu(), None, *shape.window())
    except (RuntimeError, ValueError) as error:
        mixed = str(error)
    report.case("transforms", "devices mixed", [] if "device" in mixed else [mixed])


class Report:
    """Counts cases and keeps the failures."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.failures: list[str] = []

    def case(self, group: str, name: str, wrong: list[str]) -> None:
        """One case; ``wrong`` says what is wrong with it."""
        self.counts[group] = self.counts.get(group, 0) + 1
        if wrong:
            self.failures.append(f"{group}: {name}: {'; '.join(wrong)}")

    def run(self, check: Callable[[Report], None]) -> None:
        """One check; an error in it is a failure like others."""
        start = time.perf_counter()
        try:
            check(self)
        except Exception as error:  # the other checks are still worth their time
            self.failures.append(f"{check.__name__} stopped: {type(error).__name__}: {error}")
        torch.cuda.synchronize()
        print(f"{check.__name__}: {time.perf_counter() - start:.0f} s", flush=True)

    def show(self) -> None:
        """Counts, and the first failures."""
        for group, count in self.counts.items():
            bad = [failure for failure in self.failures if failure.startswith(group)]
            print(f"{group}: {count - len(bad)} of {count} right")
        for failure in self.failures[:40]:
            print("  WRONG", failure[:400])


# ---- speed ---------------------------------------------------------------------------------------

LAYERS = (  # height = width, channels, kernel, stride, dilation, multiplier, batch
    (112, 32, 3, 1, 1, 1, 128),
    (112, 64, 3, 2, 1, 1, 128),
    (56, 128, 3, 1, 1, 1, 128),
    (28, 256, 3, 1, 1, 1, 128),
    (14, 512, 3, 1, 1, 1, 256),
    (7, 1024, 3, 1, 1, 1, 512),
    (28, 240, 5, 1, 1, 1, 128),
    (56, 144, 5, 2, 1, 1, 128),
    (19, 728, 3, 1, 1, 1, 128),
    (56, 96, 7, 1, 1, 1, 128),
    (33, 256, 3, 1, 4, 1, 64),
    (56, 32, 3, 1, 1, 4, 128),
    (112, 3, 3, 1, 1, 8, 128),
    (14, 512, 3, 1, 1, 1, 1),
    (56, 144, 5, 2, 1, 1, 1),
)
BEYOND_CACHE = 200 << 20  # bytes of buffers that one timing walks through: four times the L2


def time_calls(calls: list[Callable[[], Any]], repeats: int) -> float:
    """Seconds of one call: replays of a graph of all of them, each on its own buffers."""
    for call in calls[:2]:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000 / len(calls))
    del graph
    return statistics.median(times)


def copies(nbytes: int, count: int) -> list[Callable[[], Any]]:
    """Copies that read and write `nbytes` together."""
    pairs = [
        (torch.rand(nbytes // 8, device="cuda"), torch.empty(nbytes // 8, device="cuda"))
        for _ in range(count)
    ]
    return [lambda a=a, b=b: b.copy_(a) for a, b in pairs]


def torch_calls(
    x: Tensor, f: Tensor, grad: Tensor, layer: tuple[int, ...], mask: list[bool]
) -> Any:
    """A call of PyTorch's own operator on the same problem, symmetric padding."""
    _, channels, kernel, stride, dilation, _, _ = layer
    pad = dilation * (kernel - 1) // 2
    window = ([stride] * 2, [pad] * 2, [dilation] * 2, False, [0, 0], channels)
    if mask == [False] * 3:
        return lambda: torch.ops.aten.convolution(x, f, None, *window)
    return lambda: torch.ops.aten.convolution_backward(grad, x, f, None, *window, mask)


PASSES = {
    "forward": [False, False, False],
    "input grad": [True, False, False],
    "filter grad": [False, True, False],
    "backward": [True, True, False],
}


def our_call(
    x: Tensor, f: Tensor, grad: Tensor, layer: tuple[int, ...], mask: list[bool], last: bool
) -> Any:
    """A call of this package's operator, with the same padding as PyTorch's."""
    _, _, kernel, stride, dilation, _, _ = layer
    window = ([stride] * 2, [dilation * (kernel - 1) // 2] * 4, [dilation] * 2, last)
    if mask == [False] * 3:
        return lambda: OPS.depthwise_conv2d(x, f, None, *window)
    if mask == [True, False, False]:
        return lambda: OPS.depthwise_conv2d_backward_input(list(x.shape), f, grad, *window)
    if mask == [False, True, False]:
        return lambda: OPS.depthwise_conv2d_backward_filter(x, list(f.shape), grad, *window)
    return lambda: OPS.depthwise_conv2d_backward(x, f, grad, *window, mask)


def in_order(tensor: Tensor, peer: str, last: bool) -> Tensor:
    """The tensor as NCHW by name, in the memory order of a peer."""
    channels_last = peer == "torch nhwc"
    order = torch.channels_last if channels_last else torch.contiguous_format
    return (tensor.permute(0, 3, 1, 2) if last else tensor).contiguous(memory_format=order)


def bench_layer(
    layer: tuple[int, ...], dtype_name: str, order: str, peers: bool
) -> list[dict[str, Any]]:
    """Times every pass of one layer; nbytes counts each array once."""
    size, channels, kernel, stride, _, multiplier, batch = layer
    dtype = DTYPES[dtype_name]
    out = -(-size // stride)
    lanes = channels * multiplier
    item = dtype.itemsize
    x_bytes = batch * size * size * channels * item
    y_bytes = batch * out * out * lanes * item
    sets = max(1, min(64, math.ceil(BEYOND_CACHE / (x_bytes + y_bytes))))

    def tensor(n: int, c: int, s: int, last: bool) -> Tensor:
        # symmetric padding gives torch's output size where stride is 2 and size even
        return (
            torch.randn(n, s, s, c, device="cuda").to(dtype)
            if last
            else (torch.randn(n, c, s, s, device="cuda").to(dtype))
        )

    last = order == "nhwc"
    f = torch.randn(kernel, kernel, channels, multiplier, device="cuda").to(dtype)
    # torch: [lanes, 1, kh, kw]
    tf = f.permute(2, 3, 0, 1).reshape(lanes, 1, kernel, kernel).contiguous()
    data = [
        (tensor(batch, channels, size, last), tensor(batch, lanes, out, last)) for _ in range(sets)
    ]
    rows = []
    for name, mask in PASSES.items():
        nbytes = x_bytes + y_bytes
        if name == "backward":
            nbytes = 2 * x_bytes + y_bytes  # fused: input, grad read once, input gradient written
        repeats = 10
        ours = time_calls([our_call(x, f, g, layer, mask, last) for x, g in data], repeats)
        row = {
            "layer": layer,
            "dtype": dtype_name,
            "order": order,
            "pass": name,
            "us": ours * 1e6,
            "bytes": nbytes,
            "peers": {},
        }
        if peers:
            for peer in ("torch nchw", "torch nhwc"):
                few = [
                    (in_order(x, peer, last), in_order(g, peer, last))
                    for x, g in data[: max(2, sets // 4)]
                ]
                calls = [torch_calls(x, tf, g, layer, mask) for x, g in few]
                try:
                    row["peers"][peer] = time_calls(calls, 3) * 1e6
                except RuntimeError:
                    row["peers"][peer] = None
                del few, calls
        del ours
        rows.append(row)
    copied = time_calls(copies(x_bytes + y_bytes, sets), 10)
    for row in rows:
        row["copy_us"] = copied * 1e6 * row["bytes"] / (x_bytes + y_bytes)
    return rows


def bench(dtypes: list[str], orders: list[str], peers: bool, layers: Any) -> list[dict[str, Any]]:
    """Times layers and prints a line for each."""
    rows = []
    for order in orders:
        for dtype in dtypes:
            for layer in layers:
                try:
                    part = bench_layer(layer, dtype, order, peers)
                except RuntimeError as error:
                    print("FAILED", layer, dtype, order, str(error)[:200])
                    continue
                rows += part
                texts = []
                for row in part:
                    best = min([v for v in row["peers"].values() if v] or [math.nan])
                    texts.append(
                        f"{row['us']:7.1f} us {row['copy_us'] / row['us']:4.0%} "
                        f"{best / row['us']:5.1f}x"
                    )
                print(f"{order} {dtype:4} {layer!s:32}", " | ".join(texts), flush=True)
                torch.cuda.empty_cache()
    return rows


def main() -> None:
    """Checks, then times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--no-bench", action="store_true")
    parser.add_argument("--dtypes", default="f32,bf16,f16")
    parser.add_argument("--orders", default="nhwc,nchw")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--layers", default="")
    options = parser.parse_args()
    properties = torch.cuda.get_device_properties(0)
    print(
        f"{properties.name}, {properties.multi_processor_count} multiprocessors, "
        f"torch {torch.__version__}",
        flush=True,
    )
    report = Report()
    if not options.no_check:
        for check in (check_parity, check_views, check_transforms):
            report.run(check)
        report.show()
    rows = []
    if not options.no_bench:
        print(
            "forward | input gradient | filter gradient | backward: us, share of a copy of the "
            "same bytes, ratio to the faster torch"
        )
        chosen = [LAYERS[int(i)] for i in options.layers.split(",")] if options.layers else LAYERS
        rows = bench(
            options.dtypes.split(","), options.orders.split(","), not options.no_peers, chosen
        )
    if options.output:
        options.output.write_text(
            json.dumps(
                {
                    "gpu": properties.name,
                    "torch": torch.__version__,
                    "cuda": torch.version.cuda,
                    "counts": report.counts,
                    "failures": report.failures,
                    "rows": rows,
                },
                indent=1,
            )
        )
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
