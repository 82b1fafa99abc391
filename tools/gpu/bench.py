"""Times of every layer: ours, PyTorch's, and of a copy of as many bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu.layers import DTYPES, PASSES, Layer, Row
from gpu.peers import FORMATS, Peer, torch_call, torch_weight
from gpu.problems import OPS
from gpu.session import Deadline, GpuLostError, Report, works
from gpu.tables import layer_line
from gpu.timing import Call, Machine, Timer, race

LAYER_SECONDS = 40.0
"""After which a kernel does not end."""
PAGE = 4096  # bytes: what copies begin at and are a multiple of
Pair = tuple[Tensor, Tensor]


def our_call(
    x: Tensor, f: Tensor, grad: Tensor, layer: Layer, mask: Sequence[bool], nhwc: bool
) -> Call:
    """This package's operator: forward, or the gradients that the mask asks for."""
    window = ([layer.stride] * 2, [layer.padding] * 4, [layer.dilation] * 2, nhwc)
    if not any(mask):
        return lambda: OPS.depthwise_conv2d(x, f, None, *window)
    if list(mask) == [True, False, False]:
        return lambda: OPS.depthwise_conv2d_backward_input(list(x.shape), f, grad, *window)
    if list(mask) == [False, True, False]:
        return lambda: OPS.depthwise_conv2d_backward_filter(x, list(f.shape), grad, *window)
    return lambda: OPS.depthwise_conv2d_backward(x, f, grad, *window, list(mask))


def images(
    layer: Layer, dtype: torch.dtype, nhwc: bool, machine: Machine, count: int
) -> list[Pair]:
    """Inputs and gradients of the output."""

    def image(size: int, channels: int) -> Tensor:
        shape = (size, size, channels) if nhwc else (channels, size, size)
        return torch.randn(layer.batch, *shape, device=machine.device, dtype=dtype)

    lanes = layer.channels * layer.multiplier
    return [
        (image(layer.size, layer.channels), image(layer.output_size, lanes)) for _ in range(count)
    ]


# ---- copies --------------------------------------------------------------------------------------


def copy_bytes(nbytes: int) -> int:
    """What each side of a copy holds: half of the bytes, in whole pages."""
    return PAGE * max(1, round(nbytes / 2 / PAGE))


def copy_timers(nbytes: int, machine: Machine) -> dict[str, Timer]:
    """Ways to read half of the bytes and to write as many.

    The driver's copy and an elementwise kernel, each between buffers of their own and between the
    halves of larger ones: which is the fastest depends on sizes and addresses.
    """
    side = copy_bytes(nbytes)
    count = machine.buffers(2 * side)

    def noise(size: int) -> Tensor:
        return torch.randn(size // 4, device=machine.device)  # zeros would take less power

    pairs = [(noise(side), noise(side)) for _ in range(count)]
    halves = []
    for _ in range(count):
        whole = noise(2 * side + PAGE)
        halves.append((whole[: side // 4], whole[-(side // 4) :]))
    timers = {}
    for place, chosen in (("", pairs), (", one buffer", halves)):
        timers[f"copy_{place}"] = machine.timer([driver_copy(a, b) for a, b in chosen])
        timers[f"elementwise{place}"] = machine.timer([kernel_copy(a, b) for a, b in chosen])
    return timers


def driver_copy(source: Tensor, target: Tensor) -> Call:
    """By ``cudaMemcpyAsync``."""
    return lambda: target.copy_(source)


def kernel_copy(source: Tensor, target: Tensor) -> Call:
    """A kernel that loads and stores vectors, as ours does."""
    return lambda: torch.neg(source, out=target)


def copy_rates(sizes: Sequence[int], machine: Machine) -> dict[str, dict[str, float]]:
    """TB/s by bytes read and written, and by method."""
    found = {}
    for nbytes in sizes:
        times = race(copy_timers(nbytes, machine))
        moved = 2 * copy_bytes(nbytes)
        found[str(moved)] = {name: round(moved / us / 1e6, 4) for name, us in times.items()}
    return found


# ---- layers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A layer with its operands: ours, and the peers' by whether they are channels last."""

    layer: Layer
    dtype: str
    nhwc: bool
    machine: Machine
    filter: Tensor
    data: list[Pair]
    stored: dict[bool, list[Pair]]

    def our_timer(self, mask: Sequence[bool]) -> Timer:
        """Of forward, or of the gradients that the mask asks for."""
        return self.machine.timer(
            [our_call(x, self.filter, g, self.layer, mask, self.nhwc) for x, g in self.data]
        )

    def peer_timer(self, peer: Peer, mask: Sequence[bool]) -> Timer | None:
        """None where PyTorch cannot do it that way."""
        weight = torch_weight(self.filter)
        pairs = self.stored[peer.channels_last]
        with peer.settings():
            try:
                return self.machine.timer(
                    [torch_call(x, weight, g, self.layer, mask) for x, g in pairs]
                )
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if not works(self.machine.device):
                    raise
                why = (str(error).splitlines() or [type(error).__name__])[0]
                print(f"   {peer.name} {list(mask)}: {why[:200]}", flush=True)
                return None


def operands(
    layer: Layer, dtype: str, order: str, machine: Machine, peers: Sequence[Peer]
) -> Bench:
    """As many as make every call cold."""
    nhwc = order == "nhwc"
    count = machine.buffers(layer.moved("forward", DTYPES[dtype].itemsize))
    data = images(layer, DTYPES[dtype], nhwc, machine, count)
    shape = (layer.kernel, layer.kernel, layer.channels, layer.multiplier)
    filter = torch.randn(shape, device=machine.device, dtype=DTYPES[dtype])
    stored = {
        last: [(peer.stored(x, nhwc), peer.stored(g, nhwc)) for x, g in data]
        for last, peer in {peer.channels_last: peer for peer in peers}.items()
    }
    return Bench(layer, dtype, nhwc, machine, filter, data, stored)


def bench_pass(
    own: Bench, pass_: str, peers: Sequence[Peer], copies: Mapping[str, Timer], copied: int
) -> Row:
    """A pass beside its peers and the copies, which move so many bytes."""
    mask = PASSES[pass_]
    timers = {"ours": own.our_timer(mask), **copies}
    for peer in peers:
        timer = own.peer_timer(peer, mask)
        if timer is not None:
            timers[peer.name] = timer
    times = race(timers)
    moved = own.layer.moved(pass_, DTYPES[own.dtype].itemsize)
    of_copies = {name: round(times[name] * moved / copied, 3) for name in copies}
    return {
        "layer": list(own.layer),
        "dtype": own.dtype,
        "order": "nhwc" if own.nhwc else "nchw",
        "pass": pass_,
        "us": round(times["ours"], 3),
        "bytes": moved,
        "copy_us": min(of_copies.values()),
        "copies": of_copies,
        "peers": {
            peer.name: round(times[peer.name], 3) if peer.name in times else None for peer in peers
        },
    }


def bench_layer(
    layer: Layer,
    dtype: str,
    order: str,
    machine: Machine,
    peers: Sequence[Peer] = FORMATS,
    passes: Sequence[str] = tuple(PASSES),
) -> list[Row]:
    """Times of some passes."""
    nbytes = layer.moved("forward", DTYPES[dtype].itemsize)
    own = operands(layer, dtype, order, machine, peers)
    copies = copy_timers(nbytes, machine)
    return [bench_pass(own, pass_, peers, copies, 2 * copy_bytes(nbytes)) for pass_ in passes]


def bench(
    report: Report,
    rows: list[Row],
    deadline: Deadline,
    machine: Machine,
    layers: Sequence[Layer],
    dtype: str,
    order: str,
    peers: Sequence[Peer] = FORMATS,
) -> None:
    """Adds the rows of layers, one after the other, and prints a line for each."""
    title = f"benchmark {order} {dtype} {' '.join(peer.name for peer in peers)}"
    for layer in report.remaining(title, layers):
        name = f"benchmark: {order} {dtype} {layer.full_name}"
        report.begin(name, LAYER_SECONDS)
        if deadline.over:
            report.leave_out(f"{name}: no time")
            continue
        try:
            found = bench_layer(layer, dtype, order, machine, peers)
        except torch.OutOfMemoryError:
            report.leave_out(f"{name}: not enough memory")
            continue
        except RuntimeError as error:
            report.failures.append(f"{name}: {error}")
            if not works(machine.device):
                raise GpuLostError(name) from error
            continue
        rows += found
        print(layer_line(layer, found, rows), flush=True)
        if machine.device == "cuda":
            torch.cuda.empty_cache()
