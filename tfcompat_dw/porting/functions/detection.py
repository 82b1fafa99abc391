"""Boxes that do not overlap (``tensorflow/core/kernels/image/non_max_suppression_op.cc``).

How many there are depends on their values: no shape is known before, and no program is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import Array, as_tensor


def _non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    most: Any,
    iou_threshold: Any,
    score_threshold: Any = None,
    sigma: Any = 0.0,
    results: str = "indices",
    pads: bool = False,
    drops_equal: bool = False,
) -> list[Tensor]:
    """Greedy choice by score; of equal scores the first.

    Args:
        boxes: ``[n, 4]``: two opposite corners (y, x, y, x).
        scores: ``[n]``.
        most: boxes to choose at most.
        iou_threshold: an overlap above it drops a box, unless ``sigma`` says otherwise.
        score_threshold: boxes at or below it are not looked at; None is no threshold.
        sigma: above zero: scores shrink with the overlap (soft NMS) instead.
        results: names of what is returned, with commas between them.
        pads: whether zeros fill up the results to ``most``.
        drops_equal: TFLite's rule (``tensorflow/lite/kernels/internal/reference/
            non_max_suppression.h``): an overlap of ``iou_threshold`` itself drops a box, too, and
            does so whatever ``sigma`` is.

    Returns:
        Among ``indices`` (int32), ``scores``, and the ``count`` of them (int32).
    """
    if boxes.is_meta:
        return _shapes(scores, most, results, pads)
    boxes = as_tensor(boxes)
    limit, overlap, sigma = int(most), float(iou_threshold), float(sigma)
    low = -torch.inf if score_threshold is None else float(score_threshold)
    limit_here = min(limit, len(scores))
    is_open = scores > low
    kept, found = _chosen(
        boxes, scores.clone(), is_open, limit_here, overlap, low, sigma, drops_equal
    )
    count = len(kept)
    short = max(0, limit - count) if pads else 0
    indices = torch.tensor(kept + [0] * short, dtype=torch.int32, device=boxes.device)
    values = torch.cat([torch.stack(found) if found else scores[:0], scores.new_zeros(short)])
    each = {
        "indices": indices,
        "scores": values,
        "count": torch.tensor(count, dtype=torch.int32, device=boxes.device),
    }
    return [each[name] for name in results.split(",")]


def _shapes(scores: Tensor, most: Any, results: str, pads: bool) -> list[Tensor]:
    """Of the results, where values do not matter."""
    if not pads:
        raise NotImplementedError("how many boxes there are depends on values")
    indices = torch.empty(int(most), dtype=torch.int32, device="meta")
    count = torch.empty((), dtype=torch.int32, device="meta")
    each = {"indices": indices, "scores": scores.new_empty(int(most)), "count": count}
    return [each[name] for name in results.split(",")]


def _chosen(
    boxes: Tensor,
    scores: Tensor,
    is_open: Tensor,
    limit: int,
    overlap: float,
    low: float = -torch.inf,
    sigma: float = 0.0,
    drops_equal: bool = False,
) -> tuple[list[int], list[Tensor]]:
    """Places of boxes and their scores, out of those that are open; ``is_open`` is changed."""
    kept: list[int] = []
    found: list[Tensor] = []
    while len(kept) < limit and bool(is_open.any()):
        left = torch.where(is_open, scores, -torch.inf)
        best = int(left.argmax())
        if not bool(is_open[best]):  # what is left is minus infinity
            best = int(is_open.to(torch.uint8).argmax())
        kept.append(best)
        found.append(scores[best])
        is_open[best] = False
        shared = _overlaps(boxes, best)
        if sigma > 0:
            scores = scores * torch.exp(-0.5 / sigma * shared.square())
            is_open &= scores > low
        if drops_equal:
            is_open &= shared < overlap
        elif sigma <= 0:
            is_open &= shared <= overlap
    return kept, found


def _overlaps(boxes: Tensor, one: int) -> Tensor:
    """Intersection over union with one of them; 0 where a box has no area."""
    top, bottom = torch.minimum(boxes[:, 0], boxes[:, 2]), torch.maximum(boxes[:, 0], boxes[:, 2])
    left, right = torch.minimum(boxes[:, 1], boxes[:, 3]), torch.maximum(boxes[:, 1], boxes[:, 3])
    area = (bottom - top) * (right - left)
    height = (torch.minimum(bottom, bottom[one]) - torch.maximum(top, top[one])).clamp_min(0)
    width = (torch.minimum(right, right[one]) - torch.maximum(left, left[one])).clamp_min(0)
    inside = height * width
    whole = area + area[one] - inside
    is_empty = (area <= 0) | (area[one] <= 0)
    return torch.where(is_empty, 0.0, inside / torch.where(is_empty, 1.0, whole))


# ---- TFLite_Detection_PostProcess ----------------------------------------------------------------


def _detections(
    boxes: Array,
    scores: Array,
    anchors: Array,
    scales: Sequence[float],
    classes: int,
    most: int,
    each: int,
    iou_threshold: float,
    score_threshold: float,
    per_class: int | None = None,
) -> list[Tensor]:
    """The end of an SSD network (``tensorflow/lite/kernels/detection_postprocess.cc``).

    Args:
        boxes: ``[n, anchors, 4 or more]``: middle, height and width as differences from anchors.
        scores: ``[n, anchors, classes]``, or with one more, the background, before them.
        anchors: ``[anchors, 4]``: middle (y, x), height and width.
        scales: of the four differences.
        classes: how many there are.
        most: detections of an image.
        each: classes of a detection.
        iou_threshold: an overlap above it drops the box with the lower score.
        score_threshold: boxes below it are not looked at.
        per_class: at most so many boxes of each class, whose boxes drop only each other; None: a
            box has a class, its best one, before others drop it, and ``each - 1`` more.

    Returns:
        Boxes (top, left, bottom, right), classes, scores, and how many of them; zeros after these.
    """
    boxes, scores = as_tensor(boxes), as_tensor(scores)
    anchors = as_tensor(anchors, boxes)
    n, count = boxes.shape[0], most * each
    if scores.dim() != 3 or scores.shape[2] - classes not in (0, 1) or boxes.shape[2] < 4:
        raise ValueError(f"{tuple(boxes.shape)}, {tuple(scores.shape)} and {classes} classes")
    corners = _corners(boxes[..., :4].double(), anchors.double(), scales).to(boxes.dtype)
    results = [
        boxes.new_zeros(n, count, 4),
        boxes.new_zeros(n, count),
        boxes.new_zeros(n, count),
        boxes.new_zeros(n),
    ]
    if boxes.is_meta:
        return results
    scores = scores[..., scores.shape[2] - classes :]
    for image in range(n):
        given = corners[image], scores[image], most, iou_threshold, score_threshold
        chosen = _best_classes(*given, each) if per_class is None else _by_class(*given, per_class)
        for place, box, kind in chosen:
            results[0][image, place] = corners[image, box]
            results[1][image, place] = kind
            results[2][image, place] = scores[image, box, kind]
        found = len(chosen) if per_class is not None else len({box for _, box, _ in chosen})
        results[3][image] = found
    return results


def _corners(boxes: Tensor, anchors: Tensor, scales: Sequence[float]) -> Tensor:
    """Top, left, bottom, right."""
    y, x, height, width = (one / scale for one, scale in zip(boxes.unbind(-1), scales, strict=True))
    rows, columns, tall, wide = anchors.unbind(-1)
    y, x = y * tall + rows, x * wide + columns
    half_height, half_width = height.exp() * tall / 2, width.exp() * wide / 2
    return torch.stack([y - half_height, x - half_width, y + half_height, x + half_width], -1)


_Chosen = list[tuple[int, int, int]]
"""Places among the results, boxes and classes."""


def _best_classes(
    boxes: Tensor, scores: Tensor, most: int, overlap: float, low: float, each: int
) -> _Chosen:
    best, kinds = scores.sort(dim=1, descending=True, stable=True)
    is_open = best[:, 0] >= low
    kept, _found = _chosen(boxes, best[:, 0], is_open, most, overlap)
    return [
        (each * place + number, box, int(kinds[box, number]))
        for place, box in enumerate(kept)
        for number in range(min(each, scores.shape[1]))
    ]


def _by_class(
    boxes: Tensor, scores: Tensor, most: int, overlap: float, low: float, per_class: int
) -> _Chosen:
    found: list[tuple[float, int, int]] = []
    for kind in range(scores.shape[1]):
        of_kind = scores[:, kind]
        kept, values = _chosen(boxes, of_kind, of_kind >= low, per_class, overlap)
        found += [(float(value), box, kind) for value, box in zip(values, kept, strict=True)]
    found.sort(key=lambda one: -one[0])
    return [(place, box, kind) for place, (_, box, kind) in enumerate(found[:most])]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "non_max_suppression": _non_max_suppression,
    "detections": _detections,
}
