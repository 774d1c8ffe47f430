"""Lists of boxes against lists of boxes: their overlaps, and which box means which."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from mllm.errors import DataError
from mllm.types import Box, Prediction

Overlap = Literal["iou", "giou"]
Matrix = NDArray[np.float64]
COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.50, 0.55, ... 0.95"""


def overlaps(found: Sequence[Box], true: Sequence[Box], kind: Overlap = "iou") -> Matrix:
    """float64 [found, true], at most 1: IoU in [0, 1], or generalised IoU in [-1, 1]; -1 for boxes on two images.

    Continuous coordinates, no +1. Of two boxes without area the IoU is 0.

    Source: Rezatofighi et al. 2019 (arXiv 1902.09630) for the generalised IoU: IoU less the share of the enclosing box
    that neither covers.
    """
    a, b = _corners(found)[:, None], _corners(true)[None]  # [F, 1, 4], [1, T, 4]
    shared = _area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - shared
    values = _ratio(shared, union)
    if kind == "giou":
        around = _area(np.minimum(a[..., :2], b[..., :2]), np.maximum(a[..., 2:], b[..., 2:]))
        values = values - _ratio(around - union, around)
    images = (np.array([box.image for box in boxes], dtype=np.int64) for boxes in (found, true))
    same = np.equal.outer(*images)
    return np.where(same, values, -1.0)


def best_pairs(values: Matrix, threshold: float) -> int:
    """The greatest number of pairs, each row and column used once at most, whose value is at least `threshold`.

    Solved exactly, as an assignment (Hungarian method).
    """
    reached = values >= threshold
    return sum(bool(reached[pair]) for pair in assigned(reached.astype(np.float64), maximize=True))


def assigned(values: Matrix, *, maximize: bool = False) -> list[tuple[int, int]]:
    """Pairs of rows and columns, as many as possible, each used once, with the least (or greatest) sum of values."""
    solve: Any = import_module("scipy.optimize").linear_sum_assignment
    rows, columns = solve(values, maximize=maximize)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def enclosing(boxes: Sequence[Box]) -> Box:
    """The smallest box around boxes of one image; of several images, around those on the first box's."""
    boxes = [box for box in boxes if box.image == boxes[0].image]
    x1, y1 = (min(values) for values in zip(*((box.x1, box.y1) for box in boxes), strict=True))
    x2, y2 = (max(values) for values in zip(*((box.x2, box.y2) for box in boxes), strict=True))
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, image=boxes[0].image)


def true_boxes(prediction: Prediction) -> Sequence[Box]:
    """The boxes of the truth; none where it says that there are none.

    Raises:
        DataError: it does not speak of boxes.
    """
    truth = prediction.truth
    if not truth.boxes and not truth.no_target:
        expected = "boxes, or an empty list where there is nothing"
        raise DataError(where=prediction.key, field="truth.boxes", expected=expected, found="nothing")
    return truth.boxes


def _corners(boxes: Sequence[Box]) -> Matrix:
    return np.array([box.xyxy for box in boxes], dtype=np.float64).reshape(len(boxes), 4)


def _area(low: Matrix, high: Matrix) -> Matrix:
    return cast("Matrix", (high - low).clip(min=0).prod(axis=-1))


def _ratio(part: Matrix, whole: Matrix) -> Matrix:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
