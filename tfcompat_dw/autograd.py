"""The derivatives: one ``torch.autograd`` Function per operator, on the Autograd dispatch key.

The forward pass ``F(x, f)`` is linear in the input ``x`` and in the filter ``f``, and its two
gradients are linear in their own arguments too, so the derivatives of each of the three are the
other two::

    F(x, f)    d/dx: I(f, g)    d/df: W(x, g)      F: depthwise_conv2d
    I(f, g)    d/df: W(v, g)    d/dg: F(v, f)      I: depthwise_conv2d_backward_input
    W(x, g)    d/dx: I(v, g)    d/dg: F(x, v)      W: depthwise_conv2d_backward_filter

(``v``: the gradient that arrives).  Derivatives of every order, forward mode included, are these
operators again.  The Functions are called by the dispatcher, not by name, so ``torch.compile`` and
``torch.export`` see one opaque operator, ``torch.func`` transforms nest, and direct callers of
``torch.ops`` get derivatives as well.

PyTorch has no public way to say all this.  The private names below are all that is used; where one
is missing, ``register`` falls back to ``torch.library.register_autograd``, which has reverse mode
only: forward mode and the derivatives of ``torch.func`` raise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from tfcompat_dw import library as _library  # noqa: F401 - defines the operators
from tfcompat_dw import sharding

OptionalTensor = Tensor | None
Result = TypeVar("Result")

_OPERANDS = 3
"""How many arguments of an operator may be tensors: the first ones.  The window follows."""

# ---- private names of PyTorch ------------------------------------------------------------------

try:
    from torch._C import (
        _are_functorch_transforms_active,
        _AutoDispatchBelowAutograd,
        _is_fwd_grad_enabled,
        _set_fwd_grad_enabled,
        _set_grad_enabled,
    )
    from torch._functorch.utils import enable_single_level_autograd_function
    from torch.autograd.function import _SingleLevelFunction

    forward_ad._current_level  # noqa: B018 - present or not is the question
    PRIVATE_NAMES_PRESENT = True
except (ImportError, AttributeError):  # pragma: no cover - another PyTorch
    from torch.autograd import Function as _SingleLevelFunction

    PRIVATE_NAMES_PRESENT = False


def _below_autograd(op: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Runs the kernel.  Grad modes are on again for the outer levels of nested transforms."""
    reverse, forward = torch.is_grad_enabled(), _is_fwd_grad_enabled()
    _set_grad_enabled(True)  # context managers would take 3 us
    _set_fwd_grad_enabled(True)
    try:
        with _AutoDispatchBelowAutograd():
            return op(*args)
    finally:
        _set_grad_enabled(reverse)
        _set_fwd_grad_enabled(forward)


def _has_tangent(operand: Any) -> bool:
    return isinstance(operand, Tensor) and _unpack_dual(operand).tangent is not None


def _unpack_dual(dual: Tensor) -> Any:
    return forward_ad.unpack_dual(dual, level=_LEVEL)


_LEVEL = 0
"""Of forward mode: PyTorch has no other yet."""


def _forward_mode_active(args: Sequence[Any]) -> bool:
    if forward_ad._current_level >= 0:
        return True
    # the graphs of torch.compile enter their levels without telling forward_ad
    return _are_functorch_transforms_active() and any(map(_has_tangent, args))


def _recorded(args: Sequence[Any]) -> bool:
    """Whether a call outside of torch.func may have to record derivatives."""
    if forward_ad._current_level >= 0:
        return True
    if torch.is_grad_enabled():
        for arg in args:  # a loop: a generator takes twice the time
            if isinstance(arg, Tensor) and arg.requires_grad:
                return True
    return False


def _differentiated(args: Sequence[Any]) -> bool:
    """Whether a call may have to record derivatives."""
    return _recorded(args) or _forward_mode_active(args)


def call(op: Callable[..., Result], *args: Any) -> Result:
    """``op(*args)``; where nothing is differentiated, without the way through this module."""
    if torch.compiler.is_compiling():  # which would trace what follows
        return op(*args)
    if sharding.DTENSOR in sys.modules:
        sharding.register()
    if PRIVATE_NAMES_PRESENT and not _are_functorch_transforms_active() and not _recorded(args):
        with _AutoDispatchBelowAutograd():
            return op(*args)
    return op(*args)


# ---- the operators' derivatives ----------------------------------------------------------------


class _Bilinear(_SingleLevelFunction):
    """What the Functions share: they save their inputs and nothing else.

    The dispatcher takes transforms apart before it calls them, so they are Functions of a single
    level: ``Function.apply`` would take them apart once more.
    """

    op: Callable[..., Any]
    _compiled_autograd_key = staticmethod(torch.autograd.Function._compiled_autograd_key)

    @classmethod
    def dispatch(cls, *args: Any) -> Any:
        """The Autograd kernel of ``op``."""
        if sharding.DTENSOR in sys.modules:
            sharding.register()
        if not _differentiated(args):
            with _AutoDispatchBelowAutograd():
                return cls.op(*args)
        if not _are_functorch_transforms_active():
            return cls._apply(args)
        with enable_single_level_autograd_function():
            return cls._apply_to_duals(args) if _forward_mode_active(args) else cls._apply(args)

    @classmethod
    def _apply(cls, args: Sequence[Any]) -> Any:
        return cls.apply(*args)  # type: ignore[attr-defined]

    @classmethod
    def _apply_to_duals(cls, args: Sequence[Any]) -> Any:
        """Forward mode at one level of a nest, by hand: Function.jvp sees only the outermost."""
        pairs = [_unpack_dual(arg) if isinstance(arg, Tensor) else None for arg in args]
        primals = [pair.primal if pair else arg for pair, arg in zip(pairs, args, strict=True)]
        tangents = [pair.tangent if pair else None for pair in pairs]
        result = cls._apply(primals)
        change = cls.tangent(primals, tangents)
        return result if change is None else forward_ad.make_dual(result, change, level=_LEVEL)

    @classmethod
    def forward(cls, ctx: Any, *args: Any) -> Any:
        _Bilinear.save(ctx, args)
        return _below_autograd(cls.op, args)

    @staticmethod
    def save(ctx: Any, inputs: tuple[Any, ...], output: Any = None) -> None:
        """What derivatives will need."""
        operands = inputs[:_OPERANDS]
        tensors = tuple([arg if isinstance(arg, Tensor) else None for arg in operands])
        ctx.save_for_backward(*tensors)
        ctx.saved_for_forward = tensors  # as save_for_forward does, after checks
        ctx.operands = [None if isinstance(arg, Tensor) else arg for arg in operands]
        ctx.window = inputs[_OPERANDS:]
        ctx.set_materialize_grads(False)

    @staticmethod
    def restore(ctx: Any) -> list[Any]:
        """The inputs of the call."""
        operands = [
            operand if saved is None else saved
            for saved, operand in zip(ctx.saved_tensors, ctx.operands, strict=True)
        ]
        return [*operands, *ctx.window]

    @classmethod
    def tangent(cls, primals: Sequence[Any], tangents: Sequence[OptionalTensor]) -> Any:
        raise NotImplementedError


def _sum(*terms: OptionalTensor) -> OptionalTensor:
    present = [term for term in terms if term is not None]
    if not present:
        return None
    total = present[0]
    for term in present[1:]:
        total = total + term
    return total


# Overloads, not their packets: PyTorch finds the only one there is anew in every call of a packet.
Operator = Callable[..., Tensor]
_FORWARD: Operator = torch.ops.tfcompat_dw.depthwise_conv2d.default
_BACKWARD_INPUT: Operator = torch.ops.tfcompat_dw.depthwise_conv2d_backward_input.default
_BACKWARD_FILTER: Operator = torch.ops.tfcompat_dw.depthwise_conv2d_backward_filter.default
_BACKWARD: Callable[..., tuple[OptionalTensor, ...]] = (
    torch.ops.tfcompat_dw.depthwise_conv2d_backward.default
)


def _forward(input: OptionalTensor, filter: OptionalTensor, *rest: Any) -> OptionalTensor:
    """``F(input, filter)``, or None (a zero) where either is None."""
    if input is None or filter is None:
        return None
    return call(_FORWARD, input, filter, *rest)


def _backward_input(
    size: Sequence[int], filter: OptionalTensor, grad: OptionalTensor, *window: Any
) -> OptionalTensor:
    if filter is None or grad is None:
        return None
    return call(_BACKWARD_INPUT, size, filter, grad, *window)


def _backward_filter(
    input: OptionalTensor, size: Sequence[int], grad: OptionalTensor, *window: Any
) -> OptionalTensor:
    if input is None or grad is None:
        return None
    return call(_BACKWARD_FILTER, input, size, grad, *window)


def _bias_image(bias: Tensor, like: Tensor, channels_last: bool) -> Tensor:
    """A bias tangent at every pixel of the output."""
    shape = (1, 1, 1, -1) if channels_last else (1, -1, 1, 1)
    return bias.reshape(shape).expand_as(like)


class DepthwiseConv2d(_Bilinear):
    """``F(input, filter) + bias``."""

    op = _FORWARD

    @staticmethod
    def backward(ctx: Any, grad: OptionalTensor) -> tuple[OptionalTensor, ...]:
        input, filter, _, *window = _Bilinear.restore(ctx)
        mask = ctx.needs_input_grad[:3]
        none = (None,) * len(window)
        if grad is None:
            return (None, None, None, *none)
        if sum(mask) > 1 or mask[2]:
            gradients = call(_BACKWARD, input, filter, grad, *window, mask)
            return (*gradients, *none)
        return (
            _backward_input(input.shape, filter, grad, *window) if mask[0] else None,
            _backward_filter(input, filter.shape, grad, *window) if mask[1] else None,
            None,
            *none,
        )

    @classmethod
    def tangent(cls, primals: Sequence[Any], tangents: Sequence[OptionalTensor]) -> Any:
        input, filter, _, *window = primals
        d_input, d_filter, d_bias, *_ = tangents
        change = _sum(
            _forward(d_input, filter, None, *window),
            _forward(input, d_filter, d_bias, *window),
        )
        if d_bias is not None and d_filter is None:
            like = change if change is not None else _forward(input, filter, None, *window)
            image = _bias_image(d_bias, cast(Tensor, like), window[-1])
            change = image.clone() if change is None else change + image
        return change

    @staticmethod
    def jvp(ctx: Any, *tangents: OptionalTensor) -> Any:
        return DepthwiseConv2d.tangent(_Bilinear.restore(ctx), tangents)


class DepthwiseConv2dBackwardInput(_Bilinear):
    """``I(filter, grad)``."""

    op = _BACKWARD_INPUT

    @staticmethod
    def backward(ctx: Any, v: OptionalTensor) -> tuple[OptionalTensor, ...]:
        _, filter, grad, *window = _Bilinear.restore(ctx)
        mask = ctx.needs_input_grad
        return (
            None,
            _backward_filter(v, filter.shape, grad, *window) if mask[1] else None,
            _forward(v, filter, None, *window) if mask[2] else None,
            *(None,) * len(window),
        )

    @classmethod
    def tangent(cls, primals: Sequence[Any], tangents: Sequence[OptionalTensor]) -> Any:
        size, filter, grad, *window = primals
        _, d_filter, d_grad, *_ = tangents
        return _sum(
            _backward_input(size, d_filter, grad, *window),
            _backward_input(size, filter, d_grad, *window),
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: OptionalTensor) -> Any:
        return DepthwiseConv2dBackwardInput.tangent(_Bilinear.restore(ctx), tangents)


class DepthwiseConv2dBackwardFilter(_Bilinear):
    """``W(input, grad)``."""

    op = _BACKWARD_FILTER

    @staticmethod
    def backward(ctx: Any, v: OptionalTensor) -> tuple[OptionalTensor, ...]:
        input, _, grad, *window = _Bilinear.restore(ctx)
        mask = ctx.needs_input_grad
        return (
            _backward_input(input.shape, v, grad, *window) if mask[0] else None,
            None,
            _forward(input, v, None, *window) if mask[2] else None,
            *(None,) * len(window),
        )

    @classmethod
    def tangent(cls, primals: Sequence[Any], tangents: Sequence[OptionalTensor]) -> Any:
        input, size, grad, *window = primals
        d_input, _, d_grad, *_ = tangents
        return _sum(
            _backward_filter(d_input, size, grad, *window),
            _backward_filter(input, size, d_grad, *window),
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: OptionalTensor) -> Any:
        return DepthwiseConv2dBackwardFilter.tangent(_Bilinear.restore(ctx), tangents)


def _differentiate_backward(*args: Any) -> tuple[OptionalTensor, ...]:
    """The fused operator where it is differentiated itself: by the single ones."""
    input, filter, grad, *window, mask = args
    return (
        _backward_input(input.shape, filter, grad, *window) if mask[0] else None,
        _backward_filter(input, filter.shape, grad, *window) if mask[1] else None,
        grad.sum((0, 1, 2) if window[-1] else (0, 2, 3)) if mask[2] else None,
    )


def _dispatch_backward(*args: Any) -> Any:
    """The Autograd kernel of the fused operator."""
    if sharding.DTENSOR in sys.modules:
        sharding.register()
    if _differentiated(args):
        return _differentiate_backward(*args)
    with _AutoDispatchBelowAutograd():
        return _BACKWARD(*args)


FUNCTIONS: dict[str, type[_Bilinear]] = {
    "depthwise_conv2d": DepthwiseConv2d,
    "depthwise_conv2d_backward_input": DepthwiseConv2dBackwardInput,
    "depthwise_conv2d_backward_filter": DepthwiseConv2dBackwardFilter,
}


def register(library: torch.library.Library, private_names: bool = PRIVATE_NAMES_PRESENT) -> None:
    """Registers the Autograd kernel of every operator."""
    if private_names:
        for name, function in FUNCTIONS.items():
            library.impl(name, function.dispatch, "Autograd")
        library.impl("depthwise_conv2d_backward", _dispatch_backward, "Autograd")
        return
    reverse_only = _ReverseOnly("tfcompat_dw", "IMPL")  # type: ignore[no-untyped-call]
    for name, function in FUNCTIONS.items():
        torch.library.register_autograd(
            f"tfcompat_dw::{name}",
            cast(Callable[..., Any], function.backward),
            setup_context=function.save,
            lib=reverse_only,
        )
    _kept_alive.append(reverse_only)
    library.impl("depthwise_conv2d_backward", _differentiate_backward, "Autograd")


_kept_alive: list[torch.library.Library] = []
"""Libraries, which take their kernels along when they go."""


class _ReverseOnly(torch.library.Library):
    """Refuses forward mode for the kernels that ``register_autograd`` makes.

    They drop tangents without a word, which would be taken for derivatives of zero.
    """

    def impl(self, op_name: Any, fn: Callable[..., Any], *args: Any, **options: Any) -> None:
        def kernel(*operands: Any) -> Any:
            if any(_has_tangent(operand) for operand in operands):
                raise RuntimeError(
                    f"tfcompat_dw::{op_name}: forward-mode derivatives need private names that "
                    f"PyTorch {torch.__version__} does not have; use reverse mode, or a version of "
                    f"PyTorch that tfcompat_dw was tested with"
                )
            return fn(*operands)

        super().impl(op_name, kernel, *args, **options)  # type: ignore[no-untyped-call]
