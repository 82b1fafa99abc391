"""Images in other sizes, windows over them, and boxes in them."""

from __future__ import annotations

from typing import Any

from tfcompat_dw.porting.config import shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import (
    Table,
    channels_last,
    dtype,
    flag,
    number,
    of_image,
    operand,
    operands,
    padding,
    real,
    shape,
    spatial,
    takes,
    text,
    whole,
)
from tfcompat_dw.porting.nodes.call import Bound, NodeCall

MOST_BOXES = 2**24
"""That are kept of all, or made of zeros."""

# ---- windows -------------------------------------------------------------------------------------


def _pool(function: str, rank: int, call: NodeCall) -> Bound:
    """Windows and strides are attributes, or inputs in the second version."""
    is_last = channels_last(call)
    if len(call.inputs) == 3:
        size, strides = (
            of_image(shape(call, place, what), what, rank, is_last)
            for place, what in ((1, "ksize"), (2, "strides"))
        )
    else:
        size, strides = spatial(call, "ksize", rank), spatial(call, "strides", rank)
    pads = padding(call, rank, explicit=function == "max_pool" and rank == 2)
    last = {} if is_last else {"channels_last": False}
    return Bound(function, (operand(call, 0), size, strides, pads), last)


def _max_pool_with_argmax(call: NodeCall) -> Bound:
    kwargs: dict[str, Any] = {"dtype": dtype(call, "Targmax", "int64")}
    if flag(call, "include_batch_in_index"):
        kwargs["include_batch"] = True
    size, strides = spatial(call, "ksize", 2), spatial(call, "strides", 2)
    pads = padding(call, 2, explicit=False)
    return Bound("max_pool_with_argmax", (operand(call, 0), size, strides, pads), kwargs)


def _image_patches(call: NodeCall) -> Bound:
    size, strides, rates = (spatial(call, key, 2) for key in ("ksizes", "strides", "rates"))
    pads = padding(call, 2, explicit=False)
    return Bound("image_patches", (operand(call, 0), size, strides, rates, pads))


def _dilation(call: NodeCall) -> Bound:
    strides, rates = spatial(call, "strides", 2), spatial(call, "rates", 2)
    pads = padding(call, 2, explicit=False)
    return Bound("dilation", (*operands(call, 2), strides, rates, pads))


def _local_response_normalization(call: NodeCall) -> Bound:
    kwargs: dict[str, Any] = {
        "depth_radius": whole(call, "depth_radius", 5),
        "bias": real(call, "bias", 1.0),
        "alpha": real(call, "alpha", 1.0),
        "beta": real(call, "beta", 0.5),
    }
    if not 0 <= kwargs["depth_radius"] < 2**31:
        raise UnsupportedLayerError(f"its depth_radius is {kwargs['depth_radius']}")
    return Bound("local_response_normalization", operands(call, 1), kwargs)


# ---- other sizes ---------------------------------------------------------------------------------


def _resize(function: str, call: NodeCall) -> Bound:
    size = shape(call, 1, "size")
    if len(size) != 2 or any(isinstance(one, int) and one < 1 for one in size):
        raise UnsupportedLayerError(f"its size is {shown(size)}")
    keys = ("align_corners", "half_pixel_centers")
    kwargs = {key: True for key in keys if flag(call, key)}
    if len(kwargs) == 2:
        raise UnsupportedLayerError("it has half_pixel_centers and align_corners")
    if function == "resize_area" and kwargs:
        raise UnsupportedLayerError("it has align_corners")
    return Bound(function, (operand(call, 0), size), kwargs)


def _crop_and_resize(call: NodeCall) -> Bound:
    size = shape(call, 3, "crop_size")
    if len(size) != 2 or any(not isinstance(one, int) or one < 1 for one in size):
        raise UnsupportedLayerError(f"its crop_size is {shown(size)}")
    kwargs = {
        "method": text(call, "method", "bilinear", "bilinear", "nearest"),
        "extrapolation_value": real(call, "extrapolation_value", 0.0),
    }
    return Bound("crop_and_resize", (*operands(call, 3), size), kwargs)


# ---- boxes that do not overlap -------------------------------------------------------------------


def _non_max_suppression(call: NodeCall) -> Bound:
    """Versions 1 to 5 have more and more inputs and results."""
    version = call.op.removeprefix("NonMaxSuppression")
    kwargs: dict[str, Any] = {"most": _kept(call)}
    if not version:
        kwargs["iou_threshold"] = real(call, "iou_threshold", 0.5)
    elif len(call.inputs) < 4:
        raise UnsupportedLayerError(f"it has {len(call.inputs)} inputs")
    else:
        kwargs["iou_threshold"] = number(call, 3, "iou_threshold")
    if version > "V2":
        kwargs["score_threshold"] = number(call, 4, "score_threshold")
    if version == "V4":
        kwargs["results"] = "indices,count"
    if version == "V5":
        kwargs |= {"sigma": number(call, 5, "soft_nms_sigma"), "results": "indices,scores,count"}
    if flag(call, "pad_to_max_output_size"):
        kwargs["pads"] = True
    if flag(call, "drops_equal"):
        kwargs["drops_equal"] = True
    return Bound("non_max_suppression", operands(call, 2), kwargs)


def _kept(call: NodeCall) -> Any:
    most = number(call, 2, "max_output_size")
    if isinstance(most, float) or (isinstance(most, int) and not 0 <= most < MOST_BOXES):
        raise UnsupportedLayerError(f"its max_output_size is {shown(most)}")
    return most


def _detections(call: NodeCall) -> Bound:
    """``TFLite_Detection_PostProcess``, which TensorFlow registers nowhere."""
    scales = [real(call, f"{key}_scale", 0.0) for key in ("y", "x", "h", "w")]
    counts = ("num_classes", "max_detections", "max_classes_per_detection")
    classes, most, each = (whole(call, key) for key in counts)
    overlap, low = (real(call, f"nms_{key}_threshold", 0.0) for key in ("iou", "score"))
    if min(classes, most, each) < 1 or most * each > MOST_BOXES or 0.0 in scales:
        given = [classes, most, each, *scales]
        raise UnsupportedLayerError(f"its numbers of classes and boxes, and scales, are {given}")
    if not 0 < overlap <= 1:
        raise UnsupportedLayerError(f"its nms_iou_threshold is {overlap}")
    kwargs: dict[str, Any] = {}
    if flag(call, "use_regular_nms"):
        kwargs["per_class"] = whole(call, "detections_per_class", 100)
    args = (*operands(call, 3), scales, classes, most, each, overlap, low)
    return Bound("detections", args, kwargs)


HANDLERS: Table = {
    "MaxPool": takes(1, 1, lambda call: _pool("max_pool", 2, call)),
    "MaxPoolV2": takes(3, 3, lambda call: _pool("max_pool", 2, call)),
    "AvgPool": takes(1, 1, lambda call: _pool("average_pool", 2, call)),
    "MaxPool3D": takes(1, 1, lambda call: _pool("max_pool", 3, call)),
    "AvgPool3D": takes(1, 1, lambda call: _pool("average_pool", 3, call)),
    "MaxPoolWithArgmax": takes(1, 1, _max_pool_with_argmax),
    "ExtractImagePatches": takes(1, 1, _image_patches),
    "Dilation2D": takes(2, 2, _dilation),
    "LRN": takes(1, 1, _local_response_normalization),
    "ResizeBilinear": takes(2, 2, lambda call: _resize("resize_bilinear", call)),
    "ResizeNearestNeighbor": takes(2, 2, lambda call: _resize("resize_nearest", call)),
    "ResizeBicubic": takes(2, 2, lambda call: _resize("resize_bicubic", call)),
    "ResizeArea": takes(2, 2, lambda call: _resize("resize_area", call)),
    "CropAndResize": takes(4, 4, _crop_and_resize),
    "TFLite_Detection_PostProcess": takes(3, 3, _detections),
    "NonMaxSuppression": takes(3, 3, _non_max_suppression),
    "NonMaxSuppressionV2": takes(4, 4, _non_max_suppression),
    "NonMaxSuppressionV3": takes(5, 5, _non_max_suppression),
    "NonMaxSuppressionV4": takes(5, 5, _non_max_suppression),
    "NonMaxSuppressionV5": takes(6, 6, _non_max_suppression),
}
