"""What is wrong with a call stays readable inside the errors of PyTorch's transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tfcompat_dw

pytestmark = pytest.mark.usefixtures("fresh_compiler")
ops = torch.ops.tfcompat_dw


def function(x: Tensor, f: Tensor) -> Tensor:
    """A filter for other channels than the input's."""
    return tfcompat_dw.depthwise_conv2d(x, f, 1, "SAME")


LAYER = tfcompat_dw.DepthwiseConv2D(4, 3)


def layer(x: Tensor, f: Tensor) -> Tensor:
    """An input of other channels than the layer's."""
    result: Tensor = LAYER(x)
    return result


def operator(x: Tensor, f: Tensor) -> Tensor:
    """The operator without the function's checks."""
    return ops.depthwise_conv2d(x, f, None, (1, 1), (0, 0, 0, 0), (1, 1), True)


def compiled(call: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
    return torch.compile(call, backend="aot_eager", fullgraph=True, dynamic=dynamic)


def exported(call: Callable[..., Any], strict: bool) -> Callable[..., Any]:
    class Module(nn.Module):
        def forward(self, x: Tensor, f: Tensor) -> Tensor:
            return call(x, f)

    return lambda *args: torch.export.export(Module(), args, strict=strict)


WAYS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "compile": lambda call: compiled(call, dynamic=False),
    "compile, any size": lambda call: compiled(call, dynamic=True),
    "export": lambda call: exported(call, strict=False),
    "export, strict": lambda call: exported(call, strict=True),
    "vmap": lambda call: lambda x, f: torch.vmap(call, (0, None))(x[None], f),
    "per-sample gradients": lambda call: (
        lambda x, f: torch.vmap(torch.func.grad(lambda x, f: call(x, f).sum()), (0, None))(
            x[None], f
        )
    ),
    "jvp": lambda call: lambda x, f: torch.func.jvp(call, (x, f), (x, f)),
    "meta tensors": lambda call: lambda x, f: call(x.to("meta"), f.to("meta")),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("call", [function, layer, operator])
def test_the_sentence_is_there(call: Callable[..., Any], way: str) -> None:
    x, f = torch.randn(2, 8, 9, 3), torch.randn(3, 3, 5, 2)
    with pytest.raises((ValueError, RuntimeError)) as eager:
        call(x, f)
    sentence = " ".join(str(eager.value).split())
    assert len(sentence) > 30
    with pytest.raises(Exception) as error:  # noqa: PT011 - whatever PyTorch makes of it
        WAYS[way](call)(x, f)
    assert sentence in " ".join(str(error.value).split())
