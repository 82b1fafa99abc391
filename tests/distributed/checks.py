"""Run by two processes under torchrun: each check compares shards with the whole.

Prints one line per check, from the first process: its name and "right", or what is wrong.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    distribute_tensor,
)
from torch.nn.parallel import DistributedDataParallel

import tfcompat_dw
from tfcompat_dw import DepthwiseConv2D, SeparableConv2D

CHECKS: dict[str, Callable[[DeviceMesh], None]] = {}
BATCH, ROWS, COLUMNS, CHANNELS, MULTIPLIER = 4, 7, 6, 4, 2
OPERANDS = ("input", "filter", "bias", "output")


def check(run: Callable[[DeviceMesh], None]) -> Callable[[DeviceMesh], None]:
    """Registers it."""
    CHECKS[run.__name__] = run
    return run


def integers(*shape: int) -> Tensor:
    """The same in every process; sums of them are exact."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).double()


def operands(data_format: str, channels: int = CHANNELS) -> tuple[Tensor, Tensor, Tensor]:
    """Input, filter and bias."""
    shape = (ROWS, COLUMNS, channels) if data_format == "NHWC" else (channels, ROWS, COLUMNS)
    return (
        integers(BATCH, *shape),
        integers(3, 2, channels, MULTIPLIER),
        integers(channels * MULTIPLIER),
    )


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def assert_equal(actual: Tensor, expected: Tensor, what: str) -> None:
    """To the bit, and in every process."""
    assert torch.equal(whole(actual).detach(), expected.detach()), f"{what} differs"


def placements(data_format: str) -> dict[str, tuple[Placement, Placement, Placement, Placement]]:
    """By batch, by channels, replicated: of input, filter, bias and output."""
    image = Shard(3 if data_format == "NHWC" else 1)
    everywhere = Replicate()
    return {
        "batch": (Shard(0), everywhere, everywhere, Shard(0)),
        "channels": (image, Shard(2), Shard(0), image),
        "replicated": (everywhere,) * 4,
    }


def convolve_sharded(mesh: DeviceMesh, data_format: str, way: str, strides: int) -> None:
    """Values, all gradients, and where they lie."""
    *places, of_output = placements(data_format)[way]
    tensors = operands(data_format)
    leaves = [t.clone().requires_grad_() for t in tensors]
    sharded = [
        distribute_tensor(t, mesh, [place]).requires_grad_()
        for t, place in zip(tensors, places, strict=True)
    ]
    results = []
    for x, f, b in (leaves, sharded):
        y = tfcompat_dw.depthwise_conv2d(x, f, strides, "SAME", data_format, bias=b)
        y.pow(2).sum().backward()
        results.append(y)
    assert_equal(results[1], results[0], "the output")
    assert results[1].placements == (of_output,), f"the output is {results[1].placements}"
    for name, leaf, shard in zip(OPERANDS, leaves, sharded, strict=False):
        assert_equal(shard.grad, leaf.grad, f"the gradient of the {name}")
    if way == "channels":
        kept = [(shard.grad.placements, shard.placements) for shard in sharded]
        assert all(one == other for one, other in kept), f"gradients were moved: {kept}"


@check
def dtensor_in_inference_mode_by_the_operator_itself(mesh: DeviceMesh) -> None:
    """The first check: nothing else has registered the rules."""
    x, f, _ = operands("NHWC")
    xs, fs = distribute_tensor(x, mesh, [Shard(0)]), distribute_tensor(f, mesh, [Replicate()])
    window = ([1, 1], [1, 1, 1, 0], [1, 1], True)
    with torch.inference_mode():
        found = torch.ops.tfcompat_dw.depthwise_conv2d(xs, fs, None, *window)
        expected = torch.ops.tfcompat_dw.depthwise_conv2d(x, f, None, *window)
    assert_equal(found, expected, "the output")


@check
def dtensor_forward_and_backward(mesh: DeviceMesh) -> None:
    for data_format in ("NHWC", "NCHW"):
        for way in placements(data_format):
            for strides in (1, 2):  # one after the other: what is known of one is not the other's
                convolve_sharded(mesh, data_format, way, strides)


@check
def dtensor_single_gradients(mesh: DeviceMesh) -> None:
    """The operators that are given a size: local ones get the local size."""
    x, f, _ = operands("NHWC")
    g = tfcompat_dw.depthwise_conv2d(x, f, 2, "SAME")
    for way in ("batch", "channels", "replicated"):
        of_x, of_f, _, of_g = placements("NHWC")[way]
        xs, fs, gs = (
            distribute_tensor(t, mesh, [place]) for t, place in ((x, of_x), (f, of_f), (g, of_g))
        )
        found = tfcompat_dw.depthwise_conv2d_backprop_input(list(x.shape), fs, gs, 2, "SAME")
        expected = tfcompat_dw.depthwise_conv2d_backprop_input(list(x.shape), f, g, 2, "SAME")
        assert_equal(found, expected, f"the input gradient by {way}")
        assert found.placements == (of_x,)
        found = tfcompat_dw.depthwise_conv2d_backprop_filter(xs, list(f.shape), gs, 2, "SAME")
        expected = tfcompat_dw.depthwise_conv2d_backprop_filter(x, list(f.shape), g, 2, "SAME")
        assert found.placements == ((Partial(),) if way == "batch" else (of_f,))
        assert_equal(found, expected, f"the filter gradient by {way}")


@check
def dtensor_second_derivative(mesh: DeviceMesh) -> None:
    tensors = operands("NHWC")
    results = []
    for is_sharded in (False, True):
        x, f, b = (
            (distribute_tensor(t, mesh, [place]) if is_sharded else t.clone()).requires_grad_()
            for t, place in zip(tensors, placements("NHWC")["batch"], strict=False)
        )
        y = tfcompat_dw.depthwise_conv2d(x, f, 1, "SAME", bias=b)
        (of_x,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(of_x.pow(2).sum(), f)[0])
    assert_equal(results[1], results[0], "the second derivative")


@check
def dtensor_uneven_channels_are_gathered(mesh: DeviceMesh) -> None:
    x, f, b = operands("NHWC", channels=3)
    sharded = distribute_tensor(x, mesh, [Shard(3)])
    fs, bs = (distribute_tensor(t, mesh, [Replicate()]) for t in (f, b))
    found = tfcompat_dw.depthwise_conv2d(sharded, fs, 1, "SAME", bias=bs)
    assert_equal(found, tfcompat_dw.depthwise_conv2d(x, f, 1, "SAME", bias=b), "the output")


@check
def dtensor_without_a_bias_and_with_an_uneven_batch(mesh: DeviceMesh) -> None:
    x, f, _ = (t.clone().requires_grad_() for t in operands("NHWC"))
    with torch.no_grad():
        uneven = x[:3].clone()  # two images here, one there
    uneven.requires_grad_()
    xs = distribute_tensor(uneven.detach(), mesh, [Shard(0)]).requires_grad_()
    fs = distribute_tensor(f.detach(), mesh, [Replicate()]).requires_grad_()
    for image, filter in ((uneven, f), (xs, fs)):
        tfcompat_dw.depthwise_conv2d(image, filter, 2, "SAME").pow(2).sum().backward()
    assert_equal(xs.grad, uneven.grad, "the gradient of the input")
    assert_equal(fs.grad, f.grad, "the gradient of the filter")


@check
def dtensor_partial_operands_are_summed_first(mesh: DeviceMesh) -> None:
    x, f, b = operands("NHWC")
    partial = DTensor.from_local(x * dist.get_rank(), mesh, [Partial()])  # 0 x + 1 x
    fs, bs = (distribute_tensor(t, mesh, [Replicate()]) for t in (f, b))
    found = tfcompat_dw.depthwise_conv2d(partial, fs, 1, "SAME", bias=bs)
    assert_equal(found, tfcompat_dw.depthwise_conv2d(x, f, 1, "SAME", bias=b), "the output")


@check
def dtensor_on_a_mesh_of_two_dimensions(mesh: DeviceMesh) -> None:
    """By batch along one and by channels along the other, whichever has the two processes."""
    tensors = operands("NHWC")
    leaves = [t.clone().requires_grad_() for t in tensors]
    x, f, b = leaves
    expected = tfcompat_dw.depthwise_conv2d(x, f, 1, "SAME", bias=b)
    expected.pow(2).sum().backward()
    channels = (Shard(3), Shard(2), Shard(0))
    for shape in ((2, 1), (1, 2)):
        grid = init_device_mesh("cpu", shape, mesh_dim_names=("batch", "channels"))
        by_batch = (Shard(0), Replicate(), Replicate())
        sharded = [
            distribute_tensor(t, grid, list(places)).requires_grad_()
            for t, *places in zip(tensors, by_batch, channels, strict=True)
        ]
        xs, fs, bs = sharded
        found = tfcompat_dw.depthwise_conv2d(xs, fs, 1, "SAME", bias=bs)
        found.pow(2).sum().backward()
        assert found.placements == (Shard(0), Shard(3)), f"the output is {found.placements}"
        assert_equal(found, expected, f"the output on {shape}")
        for name, leaf, shard in zip(OPERANDS, leaves, sharded, strict=False):
            assert_equal(shard.grad, leaf.grad, f"the gradient of the {name} on {shape}")


def network() -> nn.Sequential:
    """Small, the same in every process."""
    torch.manual_seed(0)
    return nn.Sequential(
        DepthwiseConv2D(3, 3, 2, "same", 2, dtype=torch.float64),
        nn.ReLU(),
        SeparableConv2D(6, 5, 3, padding="same", dtype=torch.float64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 3 * 5, 3, dtype=torch.float64),
    )


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Three steps."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


ROUNDING = {"rtol": 1e-12, "atol": 1e-13}
"""For float64 sums in another order.

A gradient sums at most 8 images of 42 pixels, 336 terms: it is off by 336 * 2^-53 = 4e-14 of what
they come to without their signs, some units here; with a rate of 0.05 and momentum 0.9, three steps
carry 0.05 * (1 + 1.9 + 2.71) = 0.28 of that into a parameter, about 1e-14 per unit.
"""


def trained_in_parallel(alone: nn.Module, model: nn.Module, images: Tensor) -> None:
    """Each process has half of the batch, and gradients are averaged: parameters are as alone."""
    labels = torch.arange(len(images)) % 3
    train(alone, images, labels)
    half = len(images) // 2
    part = slice(half * dist.get_rank(), half * (dist.get_rank() + 1))
    train(model, images[part], labels[part])
    for parameter, expected in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(whole(parameter.detach()), expected.detach(), **ROUNDING)


def images(*shape: int) -> Tensor:
    """The same in every process."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()


@check
def ddp(mesh: DeviceMesh) -> None:
    trained_in_parallel(network(), DistributedDataParallel(network()), images(8, 7, 6, 3))


@check
def ddp_compiled(mesh: DeviceMesh) -> None:
    model = DistributedDataParallel(torch.compile(network(), backend="aot_eager"))
    trained_in_parallel(network(), model, images(8, 7, 6, 3))


@check
def fsdp(mesh: DeviceMesh) -> None:
    model = network()
    for layer in model:
        if next(layer.parameters(), None) is not None:
            fully_shard(layer, mesh=mesh)
    trained_in_parallel(network(), fully_shard(model, mesh=mesh), images(8, 7, 6, 3))


@check
def ddp_of_a_swapped_network(mesh: DeviceMesh) -> None:
    torch.manual_seed(0)
    stock = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1, groups=3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)
    )
    stock = stock.double()
    swapped = copy.deepcopy(stock)
    tfcompat_dw.replace_depthwise(swapped)
    trained_in_parallel(stock, DistributedDataParallel(swapped), images(8, 3, 7, 6))


def main() -> None:
    """All checks, in the same order in every process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for name, run in CHECKS.items():
        try:
            run(mesh)
            fault = None
        except Exception as error:
            fault = "".join(traceback.format_exception(error))
        faults: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(faults, fault)
        if dist.get_rank() == 0:
            found = next((fault for fault in faults if fault is not None), None)
            print("CHECK", name, repr(found), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
