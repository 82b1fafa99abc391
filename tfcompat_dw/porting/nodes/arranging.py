"""Reshaping, slicing, joining, gathering, padding."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tfcompat_dw.porting.config import shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import (
    MOST_RANK,
    Table,
    axes,
    axis,
    channels_last,
    dtype,
    flag,
    known_shape,
    number,
    operand,
    operands,
    pairs,
    rank,
    shape,
    size,
    sizes,
    takes,
    text,
    whole,
    whole_list,
)
from tfcompat_dw.porting.nodes.call import Bound, NodeCall, Value

MOST_PARTS = 2**12
"""Results of one node."""


def _reshape(call: NodeCall) -> Bound:
    return Bound("reshape", (operand(call, 0), shape(call, 1)))


def _squeeze(call: NodeCall) -> Bound:
    """Without axes those that are known to have one place: an open size may become 1, too."""
    key = "squeeze_dims" if "squeeze_dims" in call.attributes else "axis"
    given = whole_list(call, key)
    known = known_shape(call, 0)
    if not given and known is not None:
        given = [place for place, size in enumerate(known) if size == 1]
        if not given:
            return Bound("identity", operands(call, 1))
    return Bound("squeeze", operands(call, 1), {"axis": given or None})


def _expand_dims(call: NodeCall) -> Bound:
    return Bound("expand_dims", operands(call, 1), {"axis": axis(call, 1)})


def _transpose(call: NodeCall) -> Bound:
    is_conjugate = call.op == "ConjugateTranspose"
    function = "transpose_conjugate" if is_conjugate else "transpose"
    return Bound(function, (operand(call, 0), axes(call, 1, "permutation")))


def _concatenate(call: NodeCall) -> Bound:
    if call.op == "Concat":
        return Bound("concatenate", (list(operands(call, None, 1)), axis(call, 0)))
    last = len(call.inputs) - 1
    return Bound("concatenate", (list(operands(call, last)), axis(call, last)))


def _stack(call: NodeCall) -> Bound:
    return Bound("stack", (list(operands(call)), whole(call, "axis", 0)))


def _unstack(call: NodeCall) -> Bound:
    """As many results as the axis has places; the node says how many that are, too."""
    place, known = whole(call, "axis", 0), known_shape(call, 0)
    is_there = known is not None and -len(known) <= place < len(known)
    count = known[place] if known is not None and is_there else whole(call, "num", 0)
    if count is None:
        raise UnsupportedLayerError("how many results it has depends on the size of its input")
    if not 0 <= count <= MOST_PARTS:
        raise UnsupportedLayerError(f"it has {count} results")
    return Bound("unstack", (operand(call, 0), place))


def _split(call: NodeCall) -> Bound:
    count = whole(call, "num_split")
    if not 0 < count <= MOST_PARTS:
        raise UnsupportedLayerError(f"its num_split is {count}")
    return Bound("split_evenly", (operand(call, 1), count, axis(call, 0)))


def _split_sizes(call: NodeCall) -> Bound:
    parts = sizes(call, 1, "size_splits")
    if not isinstance(parts, list) or len(parts) > MOST_PARTS:
        raise UnsupportedLayerError(f"its size_splits are {shown(parts)}")
    return Bound("split_sizes", (operand(call, 0), parts, axis(call, 2)))


def _slice(call: NodeCall) -> Bound:
    begin, count = shape(call, 1, "begin"), shape(call, 2, "size")
    if len(begin) != len(count):
        raise UnsupportedLayerError(f"its begin is {shown(begin)}, its size {shown(count)}")
    key = [
        slice(first, None if isinstance(size, int) and size == -1 else first + size)
        for first, size in zip(begin, count, strict=True)
    ]
    return Bound("getitem", (operand(call, 0), key))


def _strided_slice(call: NodeCall) -> Bound:
    """Bit i of a mask speaks of element i; the first that applies is what the element is.

    ``offset`` is TFLite's: ends count from their beginnings.
    """
    ends = [sizes(call, place, "slice") for place in (1, 2, 3)]
    if not all(isinstance(end, list) and len(end) == len(ends[0]) <= MOST_RANK for end in ends):
        raise UnsupportedLayerError(f"its slice is {shown(ends)}")
    names = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    mask = {name: whole(call, f"{name}_mask", 0) for name in names}
    key: list[Any] = []
    for place, (start, stop, step) in enumerate(zip(*ends, strict=True)):
        bit = 1 << place
        if type(step) is not int or step == 0:
            raise UnsupportedLayerError(f"a step of its slice is {shown(step)}")
        if mask["ellipsis"] & bit:
            key.append(...)
        elif mask["new_axis"] & bit:
            key.append(None)
        elif mask["shrink_axis"] & bit:
            key.append(start)
        else:
            first = None if mask["begin"] & bit else start
            if flag(call, "offset"):
                is_past_last = (
                    type(start) is int and type(stop) is int and start < 0 <= start + stop
                )
                stop = None if is_past_last else start + stop
            key.append(slice(first, None if mask["end"] & bit else stop, step))
    if key.count(...) > 1:
        raise UnsupportedLayerError("its slice has more than one ellipsis")
    return Bound("getitem", (operand(call, 0), key))


def _gather(call: NodeCall) -> Bound:
    kwargs = {
        "axis": axis(call, 2) if len(call.inputs) > 2 else 0,
        "batch_dims": whole(call, "batch_dims", 0),
    }
    return Bound("gather", operands(call, 2), kwargs)


def _gather_nd(call: NodeCall) -> Bound:
    if whole(call, "batch_dims", 0):
        raise UnsupportedLayerError("its batch_dims is not 0")
    return Bound("gather_nd", operands(call, 2))


def _scatter_nd(call: NodeCall) -> Bound:
    return Bound("scatter_nd", (*operands(call, 2), shape(call, 2)))


def _sparse_to_dense(call: NodeCall) -> Bound:
    dense = operand(call, 0), shape(call, 1), operand(call, 2), operand(call, 3)
    return Bound("sparse_to_dense", dense)


def _update_slice(call: NodeCall) -> Bound:
    return Bound("update_slice", operands(call, 3))


def _unique(call: NodeCall) -> Bound:
    if rank(call, 0) not in (None, 1):
        raise UnsupportedLayerError("its input is no row of numbers")
    return Bound("unique", operands(call, 1), {"dtype": dtype(call, "out_idx", "int32")})


def _segments(call: NodeCall) -> Bound:
    reductions = {"Sum": "sum", "Prod": "prod", "Max": "amax", "Min": "amin"}
    name = call.op.removeprefix("Unsorted").removeprefix("Segment")
    count = size(call, 2, "num_segments") if len(call.inputs) > 2 else None
    return Bound("segments", (*operands(call, 2), count, reductions[name]))


def _tile(call: NodeCall) -> Bound:
    return Bound("tile_axes", (operand(call, 0), shape(call, 1, "multiples")))


def _broadcast(call: NodeCall) -> Bound:
    return Bound("broadcast_to", (operand(call, 0), shape(call, 1)))


def _pad(call: NodeCall) -> Bound:
    if len(call.inputs) == 2:
        return Bound("pad_axes", (operand(call, 0), pairs(call, 1)))
    value = number(call, 2, "constant_values")
    return Bound("pad_axes", (operand(call, 0), pairs(call, 1)), {"value": value})


def _mirror_pad(call: NodeCall) -> Bound:
    mode = text(call, "mode", "", "REFLECT", "SYMMETRIC").lower()
    return Bound("mirror_pad", (operand(call, 0), pairs(call, 1)), {"mode": mode})


def _reverse(call: NodeCall) -> Bound:
    return Bound("reverse", operands(call, 1), {"axis": axes(call, 1)})


def _reverse_flags(call: NodeCall) -> Bound:
    flags = _tensor(call.inputs[1], "dims").bool().flatten().tolist()
    turned = [place for place, is_turned in enumerate(flags) if is_turned]
    return Bound("reverse", operands(call, 1), {"axis": turned})


def _tensor(value: Value, what: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise UnsupportedLayerError(f"its {what} is computed")
    return value


def _reverse_sequence(call: NodeCall) -> Bound:
    kwargs = {"seq_dim": whole(call, "seq_dim"), "batch_dim": whole(call, "batch_dim", 0)}
    return Bound("reverse_sequence", operands(call, 2), kwargs)


def _roll(call: NodeCall) -> Bound:
    shift = sizes(call, 1, "shift")
    shift = shift if isinstance(shift, list) else [shift]
    return Bound("roll", (operand(call, 0), shift, axes(call, 2)))


def _blocks_of_channels(function: str, call: NodeCall) -> Bound:
    block = whole(call, "block_size")
    if not 1 <= block < 2**15:
        raise UnsupportedLayerError(f"its block_size is {block}")
    last = {} if channels_last(call) else {"channels_last": False}
    return Bound(function, operands(call, 1), {"block_size": block, **last})


def _block(call: NodeCall, place: int) -> list[int]:
    block = shape(call, place, "block_shape")
    if not all(type(one) is int and one > 0 for one in block):
        raise UnsupportedLayerError(f"its block_shape is {shown(block)}")
    return block


def _to_or_from_batch(function: str, call: NodeCall) -> Bound:
    block, ends = _block(call, 1), pairs(call, 2)
    if len(block) != len(ends):
        raise UnsupportedLayerError(f"its block_shape is {shown(block)}, its ends {shown(ends)}")
    known = rank(call, 0)
    if known is not None and known < 1 + len(block):
        raise UnsupportedLayerError(f"its block_shape is {shown(block)}, its input of rank {known}")
    return Bound(function, (operand(call, 0), block, ends))


def _old_to_or_from_batch(function: str, call: NodeCall) -> Bound:
    """``SpaceToBatch`` and ``BatchToSpace``, of two axes."""
    block = whole(call, "block_size")
    ends = pairs(call, 1)
    if not 1 < block < 2**15 or len(ends) != 2:
        raise UnsupportedLayerError(f"its block_size is {block}, its ends {shown(ends)}")
    return Bound(function, (operand(call, 0), [block, block], ends))


def _invert_permutation(call: NodeCall) -> Bound:
    value = _tensor(call.inputs[0], "permutation")
    return Bound("identity", (value.argsort().to(value.dtype),))


HANDLERS: Table = {
    "Reshape": takes(2, 2, _reshape),
    "Squeeze": takes(1, 1, _squeeze),
    "ExpandDims": takes(2, 2, _expand_dims),
    "Transpose": takes(2, 2, _transpose),
    "ConjugateTranspose": takes(2, 2, _transpose),
    "ConcatV2": takes(2, None, _concatenate),
    "Concat": takes(2, None, _concatenate),
    "Pack": takes(1, None, _stack),
    "Unpack": takes(1, 1, _unstack),
    "Split": takes(2, 2, _split),
    "SplitV": takes(3, 3, _split_sizes),
    "Slice": takes(3, 3, _slice),
    "StridedSlice": takes(4, 4, _strided_slice),
    "Gather": takes(2, 2, _gather),
    "GatherV2": takes(3, 3, _gather),
    "ResourceGather": takes(2, 2, _gather),
    "GatherNd": takes(2, 2, _gather_nd),
    "ScatterNd": takes(3, 3, _scatter_nd),
    "XlaDynamicUpdateSlice": takes(3, 3, _update_slice),
    "Unique": takes(1, 1, _unique),
    "SegmentSum": takes(2, 2, _segments),
    **dict.fromkeys(
        (f"UnsortedSegment{name}" for name in ("Sum", "Prod", "Max", "Min")), takes(3, 3, _segments)
    ),
    "SparseToDense": takes(4, 4, _sparse_to_dense),
    "Tile": takes(2, 2, _tile),
    "BroadcastTo": takes(2, 2, _broadcast),
    "Pad": takes(2, 2, _pad),
    "PadV2": takes(3, 3, _pad),
    "MirrorPad": takes(2, 2, _mirror_pad),
    "ReverseV2": takes(2, 2, _reverse),
    "Reverse": takes(2, 2, _reverse_flags),
    "ReverseSequence": takes(2, 2, _reverse_sequence),
    "Roll": takes(3, 3, _roll),
    "SpaceToDepth": takes(1, 1, lambda call: _blocks_of_channels("space_to_depth", call)),
    "DepthToSpace": takes(1, 1, lambda call: _blocks_of_channels("depth_to_space", call)),
    "SpaceToBatchND": takes(3, 3, lambda call: _to_or_from_batch("space_to_batch", call)),
    "BatchToSpaceND": takes(3, 3, lambda call: _to_or_from_batch("batch_to_space", call)),
    "SpaceToBatch": takes(2, 2, lambda call: _old_to_or_from_batch("space_to_batch", call)),
    "BatchToSpace": takes(2, 2, lambda call: _old_to_or_from_batch("batch_to_space", call)),
    "InvertPermutation": takes(1, 1, _invert_permutation),
}
