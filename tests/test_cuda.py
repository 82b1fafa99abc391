"""Layers, swapped networks, autocast, compilation and DTensor on a GPU, by the code of the CPU.

Every test runs on the CPU; its twin, marked ``cuda``, where there is a GPU: ``tools/gpu_check``
builds the kernels and runs those. Numbers are small integers, so that sums are exact and equal
means equal.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import transform_rows
from problems import whole_numbers, with_whole_numbers
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor
from transform_rows import ROWS, Row, difference, ours, stock

import tfcompat_dw
from tfcompat_dw import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
    library,
    replace_depthwise,
)

needs_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() and library.CUDA_ARCHITECTURES),
    reason="needs an NVIDIA GPU and kernels for it: tools/gpu_check builds them and runs this",
)
ON_GPU = [pytest.mark.cuda, needs_gpu]
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])


def training_step(module: nn.Module, image: Tensor) -> list[Tensor]:
    """The result, and the gradients of the sum of its squares, by image and parameters."""
    leaf = image.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    result = module(leaf)
    wanted = [leaf, *module.parameters()]
    return [result.detach(), *torch.autograd.grad(result.square().sum(), wanted)]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    """Values, dtypes and strides, wherever they are."""
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.stride() == other.stride()
        assert torch.equal(one.cpu(), other.cpu())


# ---- layers and swapped networks -----------------------------------------------------------------

LAYERS = {
    "DepthwiseConv2D": (DepthwiseConv2D(6, 3, 2, "same", 2), (3, 9, 8, 6)),
    "DepthwiseConv2D, channels first": (
        DepthwiseConv2D(6, (3, 5), padding="valid", data_format="channels_first"),
        (3, 6, 9, 8),
    ),
    "DepthwiseConv2D, dilated": (DepthwiseConv2D(6, 3, 1, "same", dilation_rate=2), (3, 9, 8, 6)),
    "SeparableConv2D": (SeparableConv2D(6, 5, 3, 2, "same"), (3, 9, 8, 6)),
    "DepthwiseConv1D": (DepthwiseConv1D(6, 3, padding="same"), (3, 9, 6)),
    "SeparableConv1D": (SeparableConv1D(6, 5, 3, padding="same"), (3, 9, 6)),
}


@every_device
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_it_computes_on_the_cpu(name: str, device: str) -> None:
    layer, shape = LAYERS[name]
    layer = with_whole_numbers(copy.deepcopy(layer)).double()
    image = whole_numbers(*shape).double()
    expected = training_step(layer, image)
    assert_same(training_step(layer.to(device), image.to(device)), expected)


@pytest.fixture
def exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own ones, too: cuDNN may take a way that rounds."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)


def network() -> nn.Sequential:
    """Two depthwise convolutions among others."""
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, 2, 2, groups=8, bias=False),
        nn.Conv2d(8, 2, 1),
    )
    return with_whole_numbers(body).double()


@every_device
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.usefixtures("exact_convolutions")
def test_a_swapped_network_computes_what_it_did_before(
    device: str, memory_format: torch.memory_format
) -> None:
    image = whole_numbers(2, 3, 11, 10).double().contiguous(memory_format=memory_format)
    before = network()
    swapped = copy.deepcopy(before).to(device)
    assert list(replace_depthwise(swapped).swapped) == ["1", "3"]
    found = training_step(swapped, image.to(device))
    for one, other in zip(found, training_step(before, image), strict=True):
        assert torch.equal(one.cpu(), other)


# ---- autocast ------------------------------------------------------------------------------------


@every_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_operands_and_leaves_gradients_in_float32(
    device: str, dtype: torch.dtype
) -> None:
    layer = with_whole_numbers(DepthwiseConv2D(6, 3, 2, "same", 2)).to(device)
    image = whole_numbers(3, 9, 8, 6).to(device)
    with torch.autocast(device, dtype):
        result = layer(image)
    cast = copy.deepcopy(layer).to(dtype)
    assert result.dtype == dtype
    assert torch.equal(result, cast(image.to(dtype)))
    result.sum().backward()
    cast(image.to(dtype)).sum().backward()
    for one, other in zip(layer.parameters(), cast.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert one.grad.dtype == torch.float32
        assert torch.equal(one.grad, other.grad.float())


@every_device
def test_autocast_leaves_float64_alone(device: str) -> None:
    layer = with_whole_numbers(DepthwiseConv2D(6, 3)).double().to(device)
    image = whole_numbers(3, 9, 8, 6).double().to(device)
    with torch.autocast(device, torch.bfloat16):
        result = layer(image)
    assert result.dtype == torch.float64
    assert torch.equal(result, layer(image))


# ---- torch.compile -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "options"),
    [
        ("cpu", {"backend": "aot_eager"}),
        pytest.param("cuda", {"backend": "aot_eager"}, marks=ON_GPU),
        pytest.param("cuda", {}, marks=ON_GPU),
        pytest.param("cuda", {"mode": "reduce-overhead"}, marks=ON_GPU),  # CUDA graphs
    ],
)
@pytest.mark.usefixtures("fresh_compiler", "exact_convolutions")
def test_a_compiled_network_trains_as_it_is(device: str, options: dict[str, Any]) -> None:
    module = network().to(device)
    replace_depthwise(module)
    image = whole_numbers(2, 3, 11, 10).double().to(device)
    expected = training_step(module, image)
    compiled = torch.compile(module, fullgraph=True, **options)
    for _ in range(3):  # graphs are recorded in the second call and replayed in the third
        found = [tensor.clone() for tensor in training_step(compiled, image)]
        assert all(map(torch.equal, found, expected))


# ---- DTensor -------------------------------------------------------------------------------------


@pytest.fixture
def mesh(device: str) -> Iterator[DeviceMesh]:
    """Of this process alone: the rules are asked, and there is one GPU."""
    backend = "nccl" if device == "cuda" and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh(device, (1,))
    dist.destroy_process_group()


@every_device
@pytest.mark.parametrize("way", ["batch", "channels"])
def test_dtensor_shards_by_batch_and_by_channels(way: str, device: str, mesh: DeviceMesh) -> None:
    image, everywhere = Shard(3), Replicate()
    places: dict[str, tuple[Placement, ...]] = {
        "batch": (Shard(0), everywhere, everywhere, Shard(0)),
        "channels": (image, Shard(2), Shard(0), image),
    }
    operands = [whole_numbers(*s).double() for s in ((4, 7, 6, 4), (3, 2, 4, 2), (8,))]
    expected = [t.clone().requires_grad_() for t in operands]
    sharded = [
        distribute_tensor(t.to(device), mesh, [place]).requires_grad_()
        for t, place in zip(operands, places[way], strict=False)
    ]
    results = []
    for x, f, b in (expected, sharded):
        y = tfcompat_dw.depthwise_conv2d(x, f, 2, "SAME", bias=b)
        y.square().sum().backward()
        results.append(y)
    assert results[1].placements == (places[way][3],)
    assert torch.equal(results[1].full_tensor().cpu(), results[0])
    for one, other in zip(sharded, expected, strict=True):
        assert torch.equal(one.grad.full_tensor().cpu(), other.grad)


# ---- every row of docs/transforms.md -------------------------------------------------------------


def on_cpu(result: Any) -> Any:
    """Tensors, or anything that holds them."""
    if isinstance(result, Tensor):
        return result.cpu()
    return type(result)(map(on_cpu, result)) if isinstance(result, tuple | list) else result


QUICK = ("gradients", "func.jvp", "vmap over filter", "compile, training")
IN_THE_SUITE = [row for row in ROWS if not row.name.startswith("autocast")]  # it names the device


@pytest.mark.parametrize(
    ("row", "device"),
    [
        *[pytest.param(r, "cpu", id=f"{r.name}-cpu") for r in ROWS if r.name in QUICK],
        *[pytest.param(r, "cuda", id=f"{r.name}-cuda", marks=ON_GPU) for r in IN_THE_SUITE],
    ],
)
@pytest.mark.usefixtures("fresh_compiler")
def test_a_row_of_transforms_gives_what_stock_pytorch_gives_on_the_cpu(
    row: Row, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = row.expected(stock)
        integers = transform_rows.integers
        monkeypatch.setattr(transform_rows, "integers", lambda *s: integers(*s).to(device))
        torch.compiler.reset()
        actual = row.run(ours)
    assert difference(on_cpu(actual), expected) is None
