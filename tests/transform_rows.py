"""The rows of ``docs/transforms.md``: a convolution under every transform of PyTorch.

A row takes a convolution ``[n, c, h, w], [kh, kw, c, mult], [c*mult] -> [n, c*mult, oh, ow]`` with
stride 2 and TensorFlow's SAME padding, and returns tensors.  Three convolutions are asked: this
package's, the same mathematics as an operator registered the documented way
(``torch.library.register_autograd``), and PyTorch's own ``F.conv2d``.  What is right is what
``F.conv2d`` gives under the eager form of the same transform.  Everything is computed on small
integers in float64, so equal means equal.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import tfcompat_dw
from tfcompat_dw.padding import same_padding

STRIDE = 2
Convolution = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
Run = Callable[[Convolution], Any]

# ---- the three convolutions ----------------------------------------------------------------------


def ours(x: Tensor, f: Tensor, b: Tensor | None) -> Tensor:
    """This package."""
    return tfcompat_dw.depthwise_conv2d(x, f, STRIDE, "SAME", "NCHW", bias=b)


def _padded(x: Tensor, f: Tensor) -> Tensor:
    top, bottom = same_padding(x.shape[2], f.shape[0], STRIDE, 1)
    left, right = same_padding(x.shape[3], f.shape[1], STRIDE, 1)
    return F.pad(x, (left, right, top, bottom))


def _weight(f: Tensor) -> Tensor:
    kh, kw, channels, multiplier = f.shape
    return f.permute(2, 3, 0, 1).reshape(channels * multiplier, 1, kh, kw)


def stock(x: Tensor, f: Tensor, b: Tensor | None) -> Tensor:
    """PyTorch's own convolution on a padded copy."""
    return F.conv2d(_padded(x, f), _weight(f), b, STRIDE, groups=x.shape[1])


@torch.library.custom_op("tfcompat_dw_rows::plain", mutates_args=())
def _plain(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(padded, weight, bias, STRIDE, groups=padded.shape[1])


@_plain.register_fake
def _(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(padded, weight, bias, STRIDE, groups=padded.shape[1])


@torch.library.custom_op("tfcompat_dw_rows::plain_backward", mutates_args=())
def _plain_backward(grad: Tensor, padded: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    results = torch.ops.aten.convolution_backward(
        *(grad, padded, weight, [weight.shape[0]], [STRIDE] * 2, [0, 0], [1, 1]),
        *(False, [0, 0], padded.shape[1], [True] * 3),
    )
    of_padded, of_weight, of_bias = (result.contiguous() for result in results)
    return of_padded, of_weight, of_bias


@_plain_backward.register_fake
def _(grad: Tensor, padded: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(grad.new_empty(s) for s in (padded.shape, weight.shape, weight.shape[:1]))


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.has_bias = inputs[2] is not None


def _backward(ctx: Any, grad: Tensor) -> Any:
    of_input, of_weight, of_bias = _plain_backward(grad, *ctx.saved_tensors)
    return of_input, of_weight, of_bias if ctx.has_bias else None


_plain.register_autograd(_backward, setup_context=_save)


def plain(x: Tensor, f: Tensor, b: Tensor | None) -> Tensor:
    """An operator as the tutorials register one, with a backward operator of its own."""
    result: Tensor = _plain(_padded(x, f), _weight(f), b)
    return result


# ---- what they are given -------------------------------------------------------------------------


def integers(*shape: int) -> Tensor:
    """Small enough that every sum is exact."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-3, 4, shape, generator=generator).double()


SHAPES = {"input": (5, 4, 9, 10), "filter": (3, 2, 4, 2), "bias": (8,)}


def operands(requires_grad: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Input, filter and bias."""
    x, f, b = (integers(*shape).requires_grad_(requires_grad) for shape in SHAPES.values())
    return x, f, b


def larger() -> tuple[Tensor, Tensor, Tensor]:
    """Another batch and image for the same filter."""
    return integers(7, 4, 12, 13), *operands()[1:]


def cubic(c: Convolution) -> Callable[..., Tensor]:
    """A scalar none of whose derivatives up to the second is constant."""
    return lambda *args: c(*args).pow(3).sum()


def gradients(result: Tensor, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of the cubic."""
    return torch.autograd.grad(result.pow(3).sum(), leaves)


def eager_gradients(c: Convolution, *args: Tensor) -> tuple[Tensor, ...]:
    """All three, the ordinary way."""
    leaves = tuple(arg.detach().clone().requires_grad_() for arg in args)
    return gradients(c(*leaves), leaves)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    run: Run
    expected: Run
    """What ``F.conv2d`` is asked for."""

    def fault(self, convolution: Convolution) -> str | None:
        """Why it is not right, in one line; None if it is."""
        torch.compiler.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="There is a performance drop")
            expected = self.expected(stock)  # what fails here is not the convolution's fault
            try:
                actual = self.run(convolution)
            except Exception as error:
                words = " ".join(str(error).split())
                return f"{type(error).__name__}: {words[:150]}"
        return difference(actual, expected)


def difference(actual: Any, expected: Any) -> str | None:
    """Tensors, or anything that holds them."""
    if isinstance(expected, Tensor):
        if not isinstance(actual, Tensor):
            return f"wrong: {actual} instead of a tensor"
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            return f"wrong: {actual.dtype} {tuple(actual.shape)}, not {expected.dtype}"
        return None if torch.equal(actual, expected) else "wrong: other values"
    if isinstance(expected, tuple | list):
        faults = [difference(a, e) for a, e in zip(actual, expected, strict=True)]
        return next((fault for fault in faults if fault is not None), None)
    return None if actual == expected else f"wrong: {actual}, not {expected}"


ROWS: list[Row] = []


def row(name: str, expected: Run | None = None) -> Callable[[Run], Run]:
    """Registers a row; what is right is the same run of ``F.conv2d`` unless said otherwise."""

    def register(run: Run) -> Run:
        ROWS.append(Row(name, run, expected or run))
        return run

    return register


# ---- autograd ------------------------------------------------------------------------------------


@row("gradients")
def _(c: Convolution) -> Any:
    return eager_gradients(c, *operands())


@row("gradcheck, gradgradcheck", expected=lambda c: True)
def _(c: Convolution) -> Any:
    leaves = tuple(0.25 * t.detach() for t in operands())
    leaves = tuple(t.requires_grad_() for t in leaves)
    return torch.autograd.gradcheck(c, leaves) and torch.autograd.gradgradcheck(c, leaves)


@row("third derivative")
def _(c: Convolution) -> Any:
    x, f, b = operands(requires_grad=True)
    value = c(x, f, b).pow(3).sum()
    for leaf in (x, f):
        (of_leaf,) = torch.autograd.grad(value, leaf, create_graph=True)
        value = (of_leaf * integers(*leaf.shape)).sum()
    return torch.autograd.grad(value, (x, f, b))


@row("forward-mode dual tensors")
def _(c: Convolution) -> Any:
    tensors = operands()
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, integers(*t.shape) + 1) for t in tensors]
        return tuple(forward_ad.unpack_dual(c(*duals)))


@row("forward over reverse")
def _(c: Convolution) -> Any:
    x, f, b = operands(requires_grad=True)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, integers(*x.shape) + 1)
        (of_filter,) = torch.autograd.grad(cubic(c)(dual, f, b), f)
        return tuple(forward_ad.unpack_dual(of_filter))


@row("batched gradients (is_grads_batched)")
def _(c: Convolution) -> Any:
    leaves = operands(requires_grad=True)
    result = c(*leaves)
    cotangents = integers(4, *result.shape)
    return torch.autograd.grad(result, leaves, cotangents, is_grads_batched=True)


@row("checkpoint", expected=lambda c: eager_gradients(c, *operands()))
def _(c: Convolution) -> Any:
    leaves = operands(requires_grad=True)
    return gradients(checkpoint(c, *leaves, use_reentrant=False), leaves)


@row("reentrant checkpoint", expected=lambda c: eager_gradients(c, *operands()))
def _(c: Convolution) -> Any:
    leaves = operands(requires_grad=True)
    checkpoint(c, *leaves, use_reentrant=True).pow(3).sum().backward()
    return tuple(leaf.grad for leaf in leaves)


@row("save_on_cpu", expected=lambda c: eager_gradients(c, *operands()))
def _(c: Convolution) -> Any:
    leaves = operands(requires_grad=True)
    with torch.autograd.graph.save_on_cpu():
        result = c(*leaves)
    return gradients(result, leaves)


@row("inference mode")
def _(c: Convolution) -> Any:
    with torch.inference_mode():
        return c(*operands()).clone()


@row("tensor hooks")
def _(c: Convolution) -> Any:
    leaves = operands(requires_grad=True)
    seen: list[Tensor] = []
    leaves[1].register_hook(lambda g: seen.append(g.clone()))
    leaves[0].register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.clone()))
    cubic(c)(*leaves).backward()
    return tuple(sorted(seen, key=lambda t: t.numel()))


@row("four threads at once")
def _(c: Convolution) -> Any:
    with ThreadPoolExecutor(4) as pool:
        return tuple(pool.map(lambda _: eager_gradients(c, *operands()), range(20)))


@row("compiled autograd", expected=lambda c: eager_gradients(c, *operands()))
def _(c: Convolution) -> Any:
    leaves = operands(requires_grad=True)
    compiler = torch.compile(backend="aot_eager", fullgraph=True)
    with torch._dynamo.compiled_autograd._enable(compiler):
        cubic(c)(*leaves).backward()
    return tuple(leaf.grad for leaf in leaves)


# ---- torch.func ----------------------------------------------------------------------------------


@row("func.grad")
def _(c: Convolution) -> Any:
    return grad(cubic(c), (0, 1, 2))(*operands())


@row("func.vjp")
def _(c: Convolution) -> Any:
    result, pull = vjp(c, *operands())
    return result, *pull(integers(*result.shape))


@row("func.jvp")
def _(c: Convolution) -> Any:
    tensors = operands()
    return jvp(c, tensors, tuple(integers(*t.shape) + 1 for t in tensors))


for _argument, _operand in enumerate(SHAPES):

    @row(f"func.jacrev by {_operand}")
    def _(c: Convolution, argument: int = _argument) -> Any:
        return jacrev(c, argument)(*operands())

    @row(f"func.jacfwd by {_operand}")
    def _(c: Convolution, argument: int = _argument) -> Any:
        return jacfwd(c, argument)(*operands())

    @row(f"func.hessian by {_operand}")
    def _(c: Convolution, argument: int = _argument) -> Any:
        return hessian(cubic(c), argument)(*operands())

    @row(f"vmap over {_operand}")
    def _(c: Convolution, argument: int = _argument) -> Any:
        tensors = list(operands())
        tensors[argument] = integers(4, *tensors[argument].shape)
        return vmap(c, tuple(0 if i == argument else None for i in range(3)))(*tensors)


@row("vmap over all")
def _(c: Convolution) -> Any:
    return vmap(c)(*(integers(4, *t.shape) for t in operands()))


@row("vmap of vmap")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    inner = vmap(c, (0, None, 0))
    return vmap(inner, (1, 0, None))(
        integers(4, 5, *x.shape), integers(5, *f.shape), integers(4, *b.shape)
    )


@row("per-sample gradients: vmap of grad")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    return vmap(grad(cubic(c), (0, 1, 2)), (0, None, None))(integers(4, *x.shape), f, b)


@row("jvp of jvp")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    u, v = integers(*x.shape) + 1, integers(*f.shape) - 1

    def inner(f: Tensor) -> Tensor:
        return jvp(lambda x: c(x, f, b).pow(2), (x,), (u,))[1]

    return jvp(inner, (f,), (v,))


@row("jvp of grad, grad of jvp, grad of vjp")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    v = integers(*f.shape) + 1

    def of_input(f: Tensor) -> Tensor:
        return grad(cubic(c))(x, f, b)

    def directional(x: Tensor) -> Tensor:
        return jvp(lambda f: cubic(c)(x, f, b), (f,), (v,))[1]

    def pulled(x: Tensor) -> Tensor:
        result, pull = vjp(lambda f: c(x, f, b), f)
        return pull(result)[0].pow(2).sum()

    return *jvp(of_input, (f,), (v,)), grad(directional)(x), grad(pulled)(x)


@row("grad of grad of grad")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    first = grad(lambda x, f: cubic(c)(x, f, b), 1)
    second = grad(lambda x, f: (first(x, f) * integers(*f.shape)).sum())
    return grad(lambda x, f: (second(x, f) * integers(*x.shape)).sum(), 1)(x, f)


@row("vmap of jacrev")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    return vmap(jacrev(c, 2), (0, None, None))(integers(3, *x.shape), f, b)


@row("linearize")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    result, pushed = torch.func.linearize(lambda x: c(x, f, b).pow(2), x)
    return result, pushed(integers(*x.shape) + 1)


# ---- torch.compile -------------------------------------------------------------------------------


def compiled(c: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """In one graph."""
    return torch.compile(c, fullgraph=True, **{"backend": "aot_eager", **options})


@row("compile, inference", expected=lambda c: c(*operands()))
def _(c: Convolution) -> Any:
    return compiled(c)(*operands())


@row("compile, training", expected=lambda c: eager_gradients(c, *operands()))
def _(c: Convolution) -> Any:
    return eager_gradients(compiled(c), *operands())


@row("compile, generated code, training", expected=lambda c: eager_gradients(c, *operands()))
def _(c: Convolution) -> Any:
    return eager_gradients(compiled(c, backend="inductor"), *operands())


@row("compile, any size, no recompilation", expected=lambda c: eager_gradients(c, *larger()))
def _(c: Convolution) -> Any:
    run = compiled(c, dynamic=True)
    eager_gradients(run, *operands())
    with torch.compiler.set_stance("fail_on_recompile"):
        return eager_gradients(run, *larger())


@row("compile, marked dimensions", expected=lambda c: eager_gradients(c, *larger()))
def _(c: Convolution) -> Any:
    run = compiled(c)

    def marked(*tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = tuple(t.detach().clone().requires_grad_() for t in tensors)
        for axis in (0, 2, 3):
            torch._dynamo.mark_dynamic(leaves[0], axis)
        return gradients(run(*leaves), leaves)

    marked(*operands())
    with torch.compiler.set_stance("fail_on_recompile"):
        return marked(*larger())


def per_sample(c: Convolution) -> Callable[..., Any]:
    """Gradients of each example alone."""
    return vmap(grad(cubic(c), (0, 1, 2)), (0, None, None))


def examples() -> tuple[Tensor, Tensor, Tensor]:
    """Four batches for one filter."""
    x, f, b = operands()
    return integers(4, *x.shape), f, b


@row("compile of vmap of grad", expected=lambda c: per_sample(c)(*examples()))
def _(c: Convolution) -> Any:
    return compiled(lambda *tensors: per_sample(c)(*tensors))(*examples())


@row("compile of jvp", expected=lambda c: jvp(c, operands(), operands()))
def _(c: Convolution) -> Any:
    return compiled(lambda *tensors: jvp(c, tensors, tensors))(*operands())


@row("compile of hessian", expected=lambda c: hessian(cubic(c), 1)(*operands()))
def _(c: Convolution) -> Any:
    return compiled(lambda *tensors: hessian(cubic(c), 1)(*tensors))(*operands())


@row("compile of checkpoint", expected=lambda c: eager_gradients(c, *operands()))
def _(c: Convolution) -> Any:
    return eager_gradients(
        compiled(lambda *tensors: checkpoint(c, *tensors, use_reentrant=False)), *operands()
    )


# ---- torch.export --------------------------------------------------------------------------------


class Module(nn.Module):
    """A convolution with its filter and bias."""

    def __init__(self, c: Convolution) -> None:
        super().__init__()
        self.c = c
        _, f, b = operands()
        self.weight, self.bias = nn.Parameter(f), nn.Parameter(b)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w]."""
        return self.c(x, self.weight, self.bias)


def exported(c: Convolution, strict: bool) -> torch.export.ExportedProgram:
    """For any batch and image size."""
    least = {0: 2, 2: 8, 3: 8}
    sizes = {axis: torch.export.Dim(f"size{axis}", min=size) for axis, size in least.items()}
    return torch.export.export(Module(c), (operands()[0],), dynamic_shapes=(sizes,), strict=strict)


def at_a_new_size(c: Convolution) -> Any:
    """What the exported programs are asked for."""
    return Module(c)(larger()[0]).detach()


for _strict in (False, True):

    @row(f"export, any size{', strict' if _strict else ''}", expected=at_a_new_size)
    def _(c: Convolution, strict: bool = _strict) -> Any:
        return exported(c, strict).module()(larger()[0]).detach()


@row("export, save, load", expected=at_a_new_size)
def _(c: Convolution) -> Any:
    file = io.BytesIO()
    torch.export.save(exported(c, strict=False), file)
    file.seek(0)
    return torch.export.load(file).module()(larger()[0]).detach()


@row("export, run_decompositions", expected=at_a_new_size)
def _(c: Convolution) -> Any:
    return exported(c, strict=False).run_decompositions().module()(larger()[0]).detach()


@row("make_fx, symbolic", expected=at_a_new_size)
def _(c: Convolution) -> Any:
    from torch.fx.experimental.proxy_tensor import make_fx

    _, f, b = operands()
    return make_fx(c, tracing_mode="symbolic")(*operands())(larger()[0], f, b)


# ---- modules and modes ---------------------------------------------------------------------------


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """With what is not written filled by NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@row("deterministic algorithms")
def _(c: Convolution) -> Any:
    with deterministic_algorithms():
        return eager_gradients(c, *operands())


for _dtype in (torch.bfloat16, torch.float16):

    @row(f"autocast, {str(_dtype).removeprefix('torch.')}")
    def _(c: Convolution, dtype: torch.dtype = _dtype) -> Any:
        leaves = tuple(t.detach().float().requires_grad_() for t in operands())
        with torch.autocast("cpu", dtype):
            result = c(*leaves)
        (result.float().sum()).backward()
        return result.detach(), *(leaf.grad for leaf in leaves)


@row("autocast, nested and disabled")
def _(c: Convolution) -> Any:
    x, f, b = (t.float() for t in operands())
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        return c(x, f, b)


@row("autocast leaves float64 alone", expected=lambda c: c(*operands()))
def _(c: Convolution) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return c(*operands())


@row("parametrized weight")
def _(c: Convolution) -> Any:
    module = Module(c)

    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    parametrize.register_parametrization(module, "weight", Doubled())
    module(operands()[0]).pow(3).sum().backward()
    return module.parametrizations.weight.original.grad


@row("fake-quantized weight")
def _(c: Convolution) -> Any:
    x, f, b = operands()
    weight = f.float().requires_grad_()
    quantized = torch.fake_quantize_per_tensor_affine(weight, 0.5, 0, -4, 4)
    c(x.float(), quantized, b.float()).pow(2).sum().backward()
    return weight.grad


@row("functional_call, stack_module_state")
def _(c: Convolution) -> Any:
    modules = [Module(c) for _ in range(3)]
    state, _ = torch.func.stack_module_state(modules)  # type: ignore[arg-type]
    x = operands()[0]
    return vmap(lambda p: torch.func.functional_call(modules[0], p, (x,)))(state).detach()


@row("deepcopy", expected=lambda c: Module(c)(operands()[0]).detach())
def _(c: Convolution) -> Any:
    return copy.deepcopy(Module(c))(operands()[0]).detach()


@row("flop counter", expected=lambda c: 3 * 2 * c(*operands()).numel() * 3 * 2)
def _(c: Convolution) -> Any:
    counter = FlopCounterMode(display=False)
    with counter:
        cubic(c)(*operands(requires_grad=True)).backward()
    return counter.get_total_flops()


@row("meta tensors", expected=lambda c: tuple(c(*operands()).shape))
def _(c: Convolution) -> Any:
    return tuple(c(*(t.to("meta") for t in operands())).shape)
