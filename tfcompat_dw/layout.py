"""Memory order: which of NHWC and NCHW a 4-D tensor is stored in, whatever its axes are called.

``channels_last`` names the *axes*: True means the tensor is indexed ``[n, h, w, c]``, False
``[n, c, h, w]``.  The order in memory is read from the strides.  ``csrc/library.cpp`` follows the
same rule; fakes and the reference take it from here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

_TO_OTHER_AXES = {True: (0, 3, 1, 2), False: (0, 2, 3, 1)}  # NHWC -> NCHW, NCHW -> NHWC


def channels_last_in_memory(tensor: Tensor, channels_last: bool) -> bool:
    """Whether ``tensor`` is, or would first be copied to be, NHWC in memory.

    Dense in the order that the axes name: that order (so it also wins where both fit, as with
    ``C = 1`` or ``H = W = 1``).  Dense in the other one: the other.  Neither: the order in which
    the smaller of the channel's and the column's stride is innermost.
    """
    if tensor.is_contiguous():
        return channels_last
    if tensor.permute(_TO_OTHER_AXES[channels_last]).is_contiguous():
        return not channels_last
    channel, column = (3, 2) if channels_last else (1, 3)
    if tensor.stride(channel) == tensor.stride(column):
        return channels_last
    return bool(tensor.stride(channel) < tensor.stride(column))


def empty_in_order(
    like: Tensor, size: Sequence[int], channels_last: bool, in_memory: bool
) -> Tensor:
    """An uninitialised tensor of ``like``'s dtype and device, dense in the given memory order.

    ``size`` is in axis order (``channels_last``); ``in_memory`` is True for NHWC in memory.
    """
    if in_memory == channels_last:
        return like.new_empty(size)
    axes = _TO_OTHER_AXES[channels_last]
    return like.new_empty([size[axis] for axis in axes]).permute(_TO_OTHER_AXES[not channels_last])
