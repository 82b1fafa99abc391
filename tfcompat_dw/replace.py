"""A faster twin for every depthwise ``nn.Conv2d`` of a model that knows nothing of TensorFlow.

A twin is the module itself with another class: one that computes ``F.conv2d`` by this package's
operator.  Parameters, hooks, attributes and ``state_dict`` are therefore what they were, and the
operator's filter ``[h, w, c, mult]`` is a view of the weight, made in every call.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from tfcompat_dw.arguments import DTYPES, Pair
from tfcompat_dw.autograd import Operator, call
from tfcompat_dw.padding import dilated_kernel

__all__ = ["Conv2dTwin", "Replaced", "replace_depthwise"]

_overload = torch.ops.tfcompat_dw.depthwise_conv2d.default
_operator: Operator = _overload
_DEVICES = {
    device
    for device in ("cpu", "cuda")
    if _overload.has_kernel_for_dispatch_key(getattr(torch._C.DispatchKey, device.upper()))
}

Steps = int | tuple[int, ...]
"""What ``nn.Conv2d`` has for a stride, a padding or a dilation."""
Window = tuple[Pair, tuple[int, int, int, int], Pair, bool]
"""A ``padding.Window``, which takes a tenth of the time to make."""


class Replaced(NamedTuple):
    """What ``replace_depthwise`` did.  Names are those of ``named_modules()``.

    A module that the model holds under several names is listed under each of them.
    """

    swapped: dict[str, nn.Conv2d]
    """The twins."""
    kept: dict[str, str]
    """The depthwise convolutions that were left alone, and why."""

    def __str__(self) -> str:
        lines = [f"depthwise convolutions: {len(self.swapped)} swapped, {len(self.kept)} kept"]
        for name, module in self.swapped.items():
            shown = f"{type(module).__name__}({module.extra_repr()})"
            lines.append(f"  swapped {name or '(the module itself)'}: {shown}")
        for name, reason in self.kept.items():
            lines.append(f"  kept {name or '(the module itself)'}: {reason}")
        return "\n".join(lines)


def replace_depthwise(module: nn.Module) -> Replaced:
    """Make every depthwise ``nn.Conv2d`` in ``module``, itself included, a faster twin, in place.

    ::

        model = torchvision.models.mobilenet_v2()
        print(tfcompat_dw.replace_depthwise(model))  # what was swapped, what was not and why

    Depthwise is ``groups == in_channels``.  A twin is the same object, still an ``nn.Conv2d`` (of
    its own subclass, if it had one) with the same Parameters in the same shapes, so optimizers,
    averaged copies, tied weights, hooks, parametrizations and ``state_dict`` go on as before.  Only
    its class is another, and it computes the same numbers but for rounding; the result has its
    input's memory order.  What the operator does not take (another device or dtype, an attribute
    changed afterwards) a twin computes as ``nn.Conv2d`` does.

    Left alone are lazy, quantized and transposed convolutions, padding modes other than
    ``"zeros"``, dtypes that the operator does not have, classes and instances with a forward of
    their own, and convolutions of one channel to many: those are dense, and ``nn.Conv2d`` is fast.

    Swap last: tools that ask for a module's exact class (quantization, fusion) do not know the
    twins, nor does the ONNX export know the operator.  ``torch.jit`` gets ``F.conv2d`` from a twin.
    A ``state_dict`` goes to an unswapped model and back; to load a model that was saved as a whole,
    this package has to be there.

    Args:
        module: any model; also a single convolution.

    Returns:
        The twins and the convolutions kept.  A second call swaps nothing.

    Raises:
        TypeError: ``module`` is no ``nn.Module``.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Module; got {type(module).__name__}")
    swapped: dict[str, nn.Conv2d] = {}
    kept: dict[str, str] = {}
    for name, candidate in module.named_modules(remove_duplicate=False):
        if not _looks_depthwise(candidate):
            continue
        reason = _reason_to_keep(candidate)
        if reason is None:
            swapped[name] = cast(nn.Conv2d, candidate)
        else:
            kept[name] = reason
    for conv in {id(conv): conv for conv in swapped.values()}.values():
        _swap(conv)
    return Replaced(swapped, kept)


# ---- which convolutions --------------------------------------------------------------------------

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def _is_quantization(kind: type) -> bool:
    return kind.__module__.startswith("torch.ao.")


def _looks_depthwise(module: nn.Module) -> bool:
    """Whether a user may expect ``module`` to be swapped."""
    attributes = vars(module)  # no property is run
    groups = attributes.get("groups")
    if isinstance(module, LazyModuleMixin):
        return isinstance(module, nn.Conv2d) and module.groups > 1
    if not isinstance(module, _CONVOLUTIONS) and not _is_quantization(type(module)):
        return False
    if groups is None or groups != attributes.get("in_channels"):
        return False
    return groups > 1 or isinstance(module, nn.Conv2d)


def _reason_to_keep(module: nn.Module) -> str | None:
    """Why ``module``, which looks depthwise, has no twin; None where it has one."""
    kind = parametrize.type_before_parametrizations(module)
    if isinstance(module, Conv2dTwin):
        return "is a twin already"
    if isinstance(module, LazyModuleMixin):
        return "is lazy; run the model once, so that its channels are known, then swap"
    if _is_quantization(kind):
        return f"is quantized, or prepared for it: {kind.__module__}.{kind.__qualname__}"
    if not isinstance(module, nn.Conv2d):
        return f"is a {kind.__name__}, not an nn.Conv2d"
    for method in ("forward", "_conv_forward"):
        if getattr(kind, method) is not getattr(nn.Conv2d, method):
            return f"its class, {kind.__name__}, overrides {method}"
        if method in vars(module):
            return f"its {method} was replaced in the instance"
    if module.padding_mode != "zeros":
        return f"padding_mode is {module.padding_mode!r}, not 'zeros'"
    if module.in_channels == 1 < module.out_channels:
        return "has one input channel: a dense convolution, for which nn.Conv2d is faster"
    for parameter in module.parameters():
        if parameter.dtype not in DTYPES:
            names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            return f"has a parameter of {parameter.dtype}; the operator takes {names}"
    return None


# ---- the twin ------------------------------------------------------------------------------------


class Conv2dTwin(nn.Conv2d):
    """An ``nn.Conv2d`` that computes depthwise convolutions by this package's operator."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            assert self.padding_mode == "zeros", "padding_mode was changed after the swap"
            return F.conv2d(
                input, weight, bias, self.stride, self.padding, self.dilation, self.groups
            )
        if self.padding_mode != "zeros" or torch.jit.is_tracing():  # type: ignore
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        return _conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class _SubclassTwin(Conv2dTwin):
    """Base of the twins of ``nn.Conv2d``'s subclasses, which are made where they are needed."""

    _original: type[nn.Conv2d]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Copied and pickled by the name of the original class: the twin's own is not importable.
        reduced = super().__reduce_ex__(max(2, protocol))
        if isinstance(reduced, str) or reduced[0] is not _NEW_OBJECT:
            return reduced  # the subclass has its own way
        return (_new_twin, (self._original, *reduced[1][1:]), *reduced[2:])


_NEW_OBJECT = object().__reduce_ex__(2)[0]
"""What makes the instance of a class that does not say how it is pickled."""
_twins: dict[type[nn.Conv2d], type[Conv2dTwin]] = {nn.Conv2d: Conv2dTwin}


def _twin_of(kind: type[nn.Conv2d]) -> type[Conv2dTwin]:
    if kind not in _twins:
        attributes = {"__module__": __name__, "__doc__": kind.__doc__, "_original": kind}
        _twins[kind] = type(f"{kind.__name__}Twin", (_SubclassTwin, kind), attributes)
    return _twins[kind]


def _new_twin(kind: type[nn.Conv2d], *args: Any) -> nn.Conv2d:
    """An instance without its state, for copy and pickle."""
    twin = _twin_of(kind)
    return cast(nn.Conv2d, twin.__new__(twin, *args))


def _swap(conv: nn.Conv2d) -> None:
    twin = _twin_of(parametrize.type_before_parametrizations(conv))
    if parametrize.is_parametrized(conv):
        twin = _parametrized(type(conv), twin)
    conv.__class__ = twin


def _parametrized(kind: type[nn.Module], twin: type[Conv2dTwin]) -> type[Conv2dTwin]:
    """``kind``, the class that ``parametrize`` made for one instance, with ``twin`` as its base.

    That class holds the properties that compute the tensors, and its first base is what the
    instance's class becomes when the last parametrization is removed.
    """
    attributes = {
        name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")
    }
    return type(f"Parametrized{twin.__name__}", (twin,), attributes)


# ---- F.conv2d by the operator --------------------------------------------------------------------


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Steps,
    padding: str | Steps,
    dilation: Steps,
    groups: int,
) -> Tensor:
    """``F.conv2d``, which is also asked wherever the operator does not fit, bad arguments included.

    Every condition is read from the call, because attributes and tensors may have been changed
    since the swap.
    """
    window = None
    if _operator_takes(input, weight, bias, groups):
        window = _window(weight, stride, padding, dilation)
    if window is None:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    filter = _filter(weight, groups)
    if input.dim() == 3:
        return call(_operator, input.unsqueeze(0), filter, bias, *window).squeeze(0)
    return call(_operator, input, filter, bias, *window)


torch.fx.wrap("_conv2d")  # one node of a traced graph: it asks for dtypes, which tracing has not


def _filter(weight: Tensor, groups: int) -> Tensor:
    """``[c*mult, 1, h, w]`` as ``[h, w, c, mult]``; with mult 1 the axes only change places."""
    outputs, _, rows, columns = weight.shape
    if outputs != groups:
        weight = weight.reshape(groups, outputs // groups, rows, columns)
    return weight.permute(2, 3, 0, 1)


def _operator_takes(input: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> bool:
    size, dtype = input.shape, input.dtype
    if len(size) not in (3, 4) or weight.dim() != 4:
        return False
    outputs, depth, _, _ = weight.shape
    return (
        depth == 1
        and size[-3] == groups
        and outputs % groups == 0
        and ((input.is_cpu and weight.is_cpu) or _on_one_device(input, weight))
        and input.layout == weight.layout == torch.strided
        and dtype in DTYPES
        and (
            (dtype == weight.dtype and (bias is None or dtype == bias.dtype))
            or torch.is_autocast_enabled(input.device.type)
        )
    )


def _on_one_device(input: Tensor, weight: Tensor) -> bool:
    """One for which the operator has kernels."""
    return input.device.type in _DEVICES and input.device == weight.device


def _window(weight: Tensor, stride: Steps, padding: str | Steps, dilation: Steps) -> Window | None:
    """How the window slides; None where ``F.conv2d`` has to say what is wrong."""
    steps, holes = _pair(stride), _pair(dilation)
    pads = _pads(padding, steps, holes, weight)
    if steps is None or holes is None or pads is None:
        return None
    return steps, pads, holes, False


def _pads(
    padding: str | Steps, steps: Pair | None, holes: Pair | None, weight: Tensor
) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right)."""
    if not isinstance(padding, str):
        pads = _pair(padding)
        return pads and (pads[0], pads[0], pads[1], pads[1])
    if padding == "valid":
        return 0, 0, 0, 0
    if padding != "same" or steps != (1, 1) or holes is None:
        return None
    rows, columns = (
        dilated_kernel(taps, step) - 1 for taps, step in zip(weight.shape[2:], holes, strict=True)
    )
    return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2  # the odd one after


def _pair(value: Steps) -> Pair | None:
    """(rows, columns) of a number, or of one or two of them."""
    if type(value) is tuple and len(value) == 2:  # what nn.Conv2d makes of every argument
        return value
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) == 1:
        return value[0], value[0]
    return (value[0], value[1]) if len(value) == 2 else None
