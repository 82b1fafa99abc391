"""Compiled ahead of time: a package that runs without the model, at sizes it has not seen."""

from __future__ import annotations

from pathlib import Path

import torch
from problems import whole_numbers, with_whole_numbers
from torch import Tensor, nn

from tfcompat_dw import DepthwiseConv2D, SeparableConv2D


class Network(nn.Module):
    """NHWC; SAME with a stride, whose padding depends on the size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = DepthwiseConv2D(3, 3, 2, "same", 2)
        self.second = SeparableConv2D(6, 4, (2, 5), 1, "same")

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def test_a_package_runs_at_another_size(tmp_path: Path) -> None:
    network = with_whole_numbers(Network().eval())
    least = {0: 2, 1: 8, 2: 8}
    sizes = {axis: torch.export.Dim(f"size{axis}", min=n, max=64) for axis, n in least.items()}
    with torch.no_grad():
        x = whole_numbers(3, 13, 14, 3)
        program = torch.export.export(network, (x,), dynamic_shapes=(sizes,))
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "network.pt2")
        )
        compiled = torch._inductor.aoti_load_package(package)
        for size in ((3, 13, 14, 3), (5, 20, 17, 3)):
            x = whole_numbers(*size)
            assert torch.equal(compiled(x), network(x))
