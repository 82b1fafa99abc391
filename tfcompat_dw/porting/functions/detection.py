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

    Returns:
        Among ``indices`` (int32), ``scores``, and the ``count`` of them (int32).
    """
    if boxes.is_meta:
        raise NotImplementedError("how many boxes there are depends on values")
    boxes = as_tensor(boxes)
    limit, overlap, sigma = int(most), float(iou_threshold), float(sigma)
    low = -torch.inf if score_threshold is None else float(score_threshold)
    kept, found = _chosen(boxes, scores.clone(), min(limit, len(scores)), overlap, low, sigma)
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


def _chosen(
    boxes: Tensor, scores: Tensor, limit: int, overlap: float, low: float, sigma: float
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
        else:
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
