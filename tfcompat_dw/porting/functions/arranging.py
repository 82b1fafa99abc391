"""Numbers in other places (``tensorflow/core/ops/array_ops.cc``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import Array, as_tensor

Pairs = Sequence[Sequence[int]]
"""(before, after) of each axis."""


def _getitem(x: Array, key: Any) -> Tensor:
    """Like NumPy's, negative steps included."""
    x = as_tensor(x)
    parts = list(key) if isinstance(key, (list, tuple)) else [key]
    where = [place for place, part in enumerate(parts) if part is ...]
    if where:
        taken = sum(part is not None and part is not ... for part in parts)
        parts[where[0] : where[0] + 1] = [slice(None)] * (x.dim() - taken)
    forward, flipped, axis = [], [], 0
    for part in parts:
        if isinstance(part, slice) and isinstance(part.step, int) and part.step < 0:
            part = _mirrored(part, x.shape[axis])
            flipped.append(axis)
        forward.append(part)
        axis += part is not None
    return x.flip(flipped)[tuple(forward)] if flipped else x[tuple(forward)]


def _mirrored(part: slice, size: int) -> slice:
    """What a slice with a negative step takes, of the axis turned round."""
    start = _turned(part.start, size, size - 1)
    stop = _turned(part.stop, size, -1)
    return slice(size - 1 - start, size - 1 - stop, -part.step)


def _turned(end: int | None, size: int, default: int) -> int:
    """An end of such a slice, from -1 (before all) to the last place; sizes may be symbols."""
    if end is None:
        return default
    place = end + size if isinstance(end, int) and end < 0 else end
    return cast(int, torch.sym_max(-1, torch.sym_min(place, size - 1)))


def _split_sizes(x: Array, sizes: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """An int is a number of parts; a sequence, their sizes, -1 the rest."""
    x = as_tensor(x)
    if isinstance(sizes, int):
        return list(torch.tensor_split(x, sizes, axis))
    known = [size for size in sizes if not (isinstance(size, int) and size == -1)]
    rest = x.shape[axis] - sum(known)
    filled = [rest if isinstance(size, int) and size == -1 else size for size in sizes]
    return list(torch.split(x, filled, axis))


def _split_evenly(x: Array, count: int, axis: int) -> list[Tensor]:
    x = as_tensor(x)
    if x.shape[axis] % count:
        raise ValueError(f"an axis of {x.shape[axis]} cannot be split into {count} equal parts")
    return list(torch.tensor_split(x, count, axis))


def _concatenate(xs: Sequence[Array], axis: int = -1) -> Tensor:
    like = next((x for x in xs if isinstance(x, Tensor)), None)
    return torch.cat([as_tensor(x, like) for x in xs], axis)


def _stack(xs: Sequence[Array], axis: int = 0) -> Tensor:
    like = next((x for x in xs if isinstance(x, Tensor)), None)
    return torch.stack([as_tensor(x, like) for x in xs], axis)


def _gather(x: Array, indices: Array, axis: int = 0, batch_dims: int = 0) -> Tensor:
    """``GatherV2``: the first ``batch_dims`` axes of both belong together."""
    x = as_tensor(x)
    indices = as_tensor(indices, device=x.device)
    axis = axis % x.dim()
    batch_dims = batch_dims % (indices.dim() + 1) if batch_dims < 0 else batch_dims
    if not batch_dims:
        flat = x.index_select(axis, indices.reshape(-1))
        return flat.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])
    return _gather_of_each(x, indices, axis, batch_dims)


def _gather_of_each(x: Tensor, indices: Tensor, axis: int, batch_dims: int) -> Tensor:
    if not batch_dims <= axis:
        raise ValueError(f"batch_dims is {batch_dims}, but axis is {axis}")
    moved = x.movedim(axis, batch_dims)
    batch, size, rest = moved.shape[:batch_dims], moved.shape[batch_dims], x.dim() - batch_dims - 1
    rows = moved.reshape(-1, *moved.shape[batch_dims + 1 :])
    count = rows.shape[0] // size if size else 0
    places = indices.reshape(count, -1) + size * torch.arange(count, device=x.device)[:, None]
    found = rows.index_select(0, places.reshape(-1))
    inner = indices.shape[batch_dims:]
    found = found.reshape([*batch, *inner, *moved.shape[batch_dims + 1 :]])
    before = axis - batch_dims  # axes of x between the batch and the one that is taken from
    if not before or not inner:
        return found
    first = batch_dims + len(inner)
    order = [*range(batch_dims), *range(first, first + before), *range(batch_dims, first)]
    return found.permute(*order, *range(first + before, first + rest))


def _gather_nd(x: Array, indices: Array) -> Tensor:
    """``GatherNd``: the last axis of the indices is a place in the first axes of ``x``."""
    x = as_tensor(x)
    indices = as_tensor(indices, device=x.device)
    if not indices.shape[-1]:
        return x.expand(*indices.shape[:-1], *x.shape)
    if indices.dim() == 1:  # not as numbers, which PyTorch would have to read
        return _gather_nd(x, indices[None])[0]
    return x[tuple(indices.long().unbind(-1))]


def _scatter_nd(indices: Array, updates: Array, shape: Sequence[int]) -> Tensor:
    """``ScatterNd``: zeros, with the updates added at their places."""
    updates = as_tensor(updates)
    indices = as_tensor(indices, device=updates.device).long()
    if not indices.shape[-1]:
        raise ValueError("its indices are of no axis")
    result = updates.new_zeros(list(shape))
    return result.index_put(tuple(indices.unbind(-1)), updates, accumulate=True)


def _sparse_to_dense(indices: Array, shape: Sequence[int], values: Array, default: Array) -> Tensor:
    """``SparseToDense``: the default, but for the places that are listed; a number is for all."""
    values = as_tensor(values)
    indices = as_tensor(indices, device=values.device).long()
    places = indices.reshape(-1, 1) if indices.dim() < 2 else indices
    result = as_tensor(default, device=values.device).to(values.dtype).expand(list(shape)).clone()
    return result.index_put(tuple(places.unbind(-1)), values)


def _update_slice(x: Array, update: Array, begin: Array) -> Tensor:
    """``XlaDynamicUpdateSlice``: a part is replaced; one that lies outside is moved inside."""
    x = as_tensor(x, update)
    update, begin = as_tensor(update, x), as_tensor(begin, device=x.device)
    places = []
    for axis, (size, count) in enumerate(zip(x.shape, update.shape, strict=True)):
        if isinstance(size, int) and isinstance(count, int) and count > size:
            raise ValueError(f"a part of {tuple(update.shape)} of {tuple(x.shape)}")
        first = begin[axis].long().clamp(min=0).clamp(max=size - count)
        along = torch.arange(count, device=x.device) + first
        places.append(along.reshape([-1, *[1] * (x.dim() - 1 - axis)]))
    return x.index_put(tuple(places), update) if places else update


def _unique(x: Array, dtype: torch.dtype) -> list[Tensor]:
    """``Unique``: each number once, in the order of the first ones, and where each of ``x`` is."""
    x = as_tensor(x)
    if x.is_meta:
        raise NotImplementedError("how many numbers there are depends on values")
    values, inverse = torch.unique(x, return_inverse=True)
    count = torch.arange(len(x), device=x.device)
    first = torch.full_like(values, len(x), dtype=torch.int64)
    first = first.scatter_reduce(0, inverse, count, "amin")
    order = first.argsort()
    return [values[order], order.argsort()[inverse].to(dtype)]


def _segments(x: Array, segments: Array, count: int | None, reduction: str) -> Tensor:
    """Rows of the same segment as one; those of a segment below zero are left out.

    Args:
        x: rows.
        segments: of each row; for several axes of ``x``, as many.
        count: how many there are; None if the last row is in the last one.
        reduction: as ``Tensor.scatter_reduce`` calls it.
    """
    x = as_tensor(x)
    segments = as_tensor(segments, device=x.device).long()
    rows, places = x.flatten(0, segments.dim() - 1), segments.flatten()
    if count is None:
        if x.is_meta:
            raise NotImplementedError("how many segments there are depends on values")
        count = int(places[-1]) + 1 if len(places) else 0
    total = rows.new_full([count + 1, *rows.shape[1:]], _NEUTRAL[reduction](x.dtype))
    places = torch.where(places < 0, count, places)
    index = places.reshape([-1, *[1] * (rows.dim() - 1)]).expand(rows.shape)
    return total.scatter_reduce(0, index, rows, reduction)[:count]


def _least(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).min if dtype.is_floating_point else torch.iinfo(dtype).min


def _most(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max


_NEUTRAL: dict[str, Callable[[torch.dtype], float]] = {
    "sum": lambda dtype: 0,
    "prod": lambda dtype: 1,
    "amax": _least,
    "amin": _most,
}
"""What a segment without rows is."""


def _pad_axes(x: Array, pairs: Pairs, value: Any = 0) -> Tensor:
    x = as_tensor(x)
    if len(pairs) != x.dim():
        raise ValueError(f"its paddings are of {len(pairs)} axes, its input has {x.dim()}")
    flat = [size for pair in reversed(pairs) for size in pair]
    if x.dtype is torch.bool:
        return F.pad(x.to(torch.uint8), flat, value=int(value)).bool()
    return F.pad(x, flat, value=value)


def mirror_pad(x: Array, pairs: Pairs, mode: str) -> Tensor:
    """``reflect`` leaves the outermost number out, ``symmetric`` repeats it."""
    x = as_tensor(x)
    skip = 1 if mode == "reflect" else 0
    if len(pairs) != x.dim():
        raise ValueError(f"its paddings are of {len(pairs)} axes, its input has {x.dim()}")
    for axis, (before, after) in enumerate(pairs):
        size, device = x.shape[axis], x.device
        if isinstance(before, int) and isinstance(after, int):
            if before == after == 0:
                continue
            if isinstance(size, int) and max(before, after) > size - skip:
                raise ValueError(f"an axis of {size} cannot be mirrored by {max(before, after)}")
        index = torch.cat(
            [
                torch.arange(before - 1 + skip, skip - 1, -1, device=device),
                torch.arange(size, device=device),
                torch.arange(size - 1 - skip, size - 1 - skip - after, -1, device=device),
            ]
        )
        x = x.index_select(axis, index)
    return x


def _broadcast_to(x: Array, shape: Sequence[int]) -> Tensor:
    return as_tensor(x).expand(list(shape))


def _reshape(x: Array, shape: Sequence[int]) -> Tensor:
    return as_tensor(x).reshape(list(shape))


def _transpose(x: Array, axes: Sequence[int] | None = None) -> Tensor:
    x = as_tensor(x)
    return x.permute(list(axes) if axes is not None else list(range(x.dim()))[::-1])


def _transpose_conjugate(x: Array, axes: Sequence[int]) -> Tensor:
    return torch.conj_physical(as_tensor(x)).permute(list(axes))


def _expand_dims(x: Array, axis: int | Sequence[int]) -> Tensor:
    x = as_tensor(x)
    for one in [axis] if isinstance(axis, int) else sorted(axis):
        x = x.unsqueeze(one)
    return x


def _squeeze(x: Array, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without an axis: every one of size 1."""
    x = as_tensor(x)
    if axis is None:
        return x.squeeze()
    axes = [axis] if isinstance(axis, int) else list(axis)
    if any(x.shape[axis] != 1 for axis in axes):
        raise ValueError(f"axes {axes} of {tuple(x.shape)} are not of size 1")
    return x.squeeze(tuple(axes))


def _tile_axes(x: Array, repeats: Sequence[int]) -> Tensor:
    x = as_tensor(x)
    if len(repeats) != x.dim():
        raise ValueError(f"its multiples are of {len(repeats)} axes, its input has {x.dim()}")
    return x.repeat(list(repeats))


def _reverse(x: Array, axis: int | Sequence[int]) -> Tensor:
    return as_tensor(x).flip([axis] if isinstance(axis, int) else list(axis))


def _roll(x: Array, shift: Sequence[int], axes: Sequence[int]) -> Tensor:
    return as_tensor(x).roll(list(shift), list(axes))


def _reverse_sequence(x: Array, lengths: Array, seq_dim: int, batch_dim: int) -> Tensor:
    """The first ``lengths[b]`` numbers of each row in turned order."""
    x = as_tensor(x)
    size = x.shape[seq_dim]
    lengths = as_tensor(lengths, device=x.device).long()[:, None]
    places = torch.arange(size, device=x.device)
    order = torch.where(places < lengths, lengths - 1 - places, places)
    rows = x.movedim((batch_dim, seq_dim), (0, 1))
    index = order.reshape(*order.shape, *[1] * (rows.dim() - 2)).expand(rows.shape)
    return rows.gather(1, index).movedim((0, 1), (batch_dim, seq_dim))


def _unstack(x: Array, axis: int = 0) -> list[Tensor]:
    return list(as_tensor(x).unbind(axis))


# ---- pieces of images ----------------------------------------------------------------------------


def _space_to_depth(x: Array, block_size: int, channels_last: bool = True) -> Tensor:
    x, b = as_tensor(x), block_size
    if not channels_last:
        return _space_to_depth(x.permute(0, 2, 3, 1), b).permute(0, 3, 1, 2)
    n, h, w, c = x.shape
    if h % b or w % b:
        raise ValueError(f"blocks of {b} x {b} do not divide {tuple(x.shape)}")
    x = x.reshape(n, h // b, b, w // b, b, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // b, w // b, b * b * c)


def _depth_to_space(x: Array, block_size: int, channels_last: bool = True) -> Tensor:
    x, b = as_tensor(x), block_size
    if not channels_last:
        return _depth_to_space(x.permute(0, 2, 3, 1), b).permute(0, 3, 1, 2)
    n, h, w, c = x.shape
    if c % (b * b):
        raise ValueError(f"{c} channels are no blocks of {b} x {b}")
    x = x.reshape(n, h, w, b, b, c // (b * b)).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * b, w * b, c // (b * b))


def _space_to_batch(x: Array, block: Sequence[int], pairs: Pairs) -> Tensor:
    """``SpaceToBatchND``: every ``block``-th number of the padded axes goes into one image."""
    x, rank = as_tensor(x), len(block)
    outside = [[0, 0]] * (x.dim() - 1 - rank)
    x = _pad_axes(x, [[0, 0], *pairs, *outside])
    n, sizes, rest = x.shape[0], x.shape[1 : 1 + rank], x.shape[1 + rank :]
    for size, step in zip(sizes, block, strict=True):
        if size % step:
            raise ValueError(f"blocks of {list(block)} do not divide {tuple(x.shape)}")
    halves = [
        part for size, step in zip(sizes, block, strict=True) for part in (size // step, step)
    ]
    inner = [2 + 2 * place for place in range(rank)]
    outer = [1 + 2 * place for place in range(rank)]
    tail = range(1 + 2 * rank, 1 + 2 * rank + len(rest))
    x = x.reshape(n, *halves, *rest).permute(*inner, 0, *outer, *tail)
    return x.reshape(_product(block) * n, *halves[::2], *rest)


def _batch_to_space(x: Array, block: Sequence[int], crops: Pairs) -> Tensor:
    """``BatchToSpaceND``: the way back, then without ``crops``."""
    x, rank = as_tensor(x), len(block)
    sizes, rest = x.shape[1 : 1 + rank], x.shape[1 + rank :]
    if x.shape[0] % _product(block):
        raise ValueError(f"blocks of {list(block)} do not divide a batch of {x.shape[0]}")
    n = x.shape[0] // _product(block)
    pairs = [axis for place in range(rank) for axis in (1 + rank + place, place)]
    tail = range(1 + 2 * rank, 1 + 2 * rank + len(rest))
    x = x.reshape(*block, n, *sizes, *rest).permute(rank, *pairs, *tail)
    x = x.reshape(n, *(size * step for size, step in zip(sizes, block, strict=True)), *rest)
    for axis, (before, after) in enumerate(crops, 1):
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def _product(numbers: Sequence[int]) -> int:
    total = 1
    for number in numbers:
        total = total * number
    return total


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "getitem": _getitem,
    "split_sizes": _split_sizes,
    "split_evenly": _split_evenly,
    "unstack": _unstack,
    "concatenate": _concatenate,
    "stack": _stack,
    "gather": _gather,
    "gather_nd": _gather_nd,
    "scatter_nd": _scatter_nd,
    "sparse_to_dense": _sparse_to_dense,
    "update_slice": _update_slice,
    "unique": _unique,
    "segments": _segments,
    "pad_axes": _pad_axes,
    "mirror_pad": mirror_pad,
    "broadcast_to": _broadcast_to,
    "reshape": _reshape,
    "transpose": _transpose,
    "transpose_conjugate": _transpose_conjugate,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "tile_axes": _tile_axes,
    "reverse": _reverse,
    "roll": _roll,
    "reverse_sequence": _reverse_sequence,
    "space_to_depth": _space_to_depth,
    "depth_to_space": _depth_to_space,
    "space_to_batch": _space_to_batch,
    "batch_to_space": _batch_to_space,
}
