"""Boxes that do not overlap (``tensorflow/core/kernels/image/non_max_suppression_op.cc``).

How many there are depends on their values: no shape is known before, and no program is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import as_tensor


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
    kept, found = _chosen(boxes, scores.clone(), limit_here, overlap, low, sigma, drops_equal)
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
    limit: int,
    overlap: float,
    low: float,
    sigma: float,
    drops_equal: bool,
) -> tuple[list[int], list[Tensor]]:
    kept: list[int] = []
    found: list[Tensor] = []
    is_open = scores > low
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


FUNCTIONS: dict[str, Callable[..., Any]] = {"non_max_suppression": _non_max_suppression}
