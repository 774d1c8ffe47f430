"""Referring expression comprehension: one phrase, one box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mllm.errors import DataError
from mllm.geometry import iou
from mllm.metrics.base import by_index
from mllm.registry import METRICS
from mllm.types import Box, Failure, Prediction

THRESHOLDS = (0.25, 0.5, 0.75)
FAILURES: tuple[Failure, ...] = get_args(Failure)
MAX_CANDIDATES = 512
"""Truth boxes tried as the constant box, evenly spaced over the dataset: a bound on time for large sets."""


@METRICS.register_module()
class REC:
    """Accuracy of one predicted box against one true box, in pixels of the original picture.

    Scores:
        acc@0.25, acc@0.5, acc@0.75: share of ALL predictions, readable or not, whose IoU is strictly greater than the
            threshold. `>` as in most released scorers; some papers count `>=`, which differs only on exact ties.
        mean_iou: over all predictions, 0 for a failure.
        count: predictions scored.
        failure_none, failure_malformed, ...: predictions without exactly one readable box, by class
            (`mllm.types.Failure`); always all five. Of several boxes none is credited: that is `wrong_count`.
        constant_box_acc@0.5: with `constant_box=True`, the acc@0.5 of the best box that ignores picture and phrase. It
            is the floor: a model near it has learnt where objects tend to be, not to look. Candidates are the truth
            boxes (at most 512, evenly spaced), in pixels, since sizes of pictures are not known here; a box that
            lies between them, or one relative to the picture's size, may do slightly better.

    Source: Yu et al. 2016 (RefCOCO); IoU > 0.5 counts as correct.
    """

    headline = "acc@0.5"
    meanings: Mapping[str, str] = {
        "acc@0.25": "share of all answers with IoU > 0.25",
        "acc@0.5": "share of all answers with IoU > 0.5",
        "acc@0.75": "share of all answers with IoU > 0.75",
        "mean_iou": "mean IoU over all answers, 0 where unreadable",
        "failure_none": "no box in the answer",
        "failure_malformed": "numbers that cannot be read",
        "failure_out_of_range": "numbers outside the frame",
        "failure_wrong_count": "several boxes where one was asked for",
        "failure_inverted": "corners swapped: x1 > x2 or y1 > y2",
        "constant_box_acc@0.5": "what the best single box would score, whatever the picture and the phrase",
    }

    def __init__(self, *, constant_box: bool = False) -> None:
        self.constant_box = constant_box

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that is not exactly one box.
        """
        predictions = by_index(predictions)
        ious = [iou_of(prediction) for prediction in predictions]
        failures = Counter(failure_of(prediction) for prediction in predictions)
        count = len(predictions)
        scores: dict[str, float] = {
            f"acc@{threshold}": sum(value > threshold for value in ious) / count for threshold in THRESHOLDS
        }
        scores["mean_iou"] = fsum(ious) / count
        scores["count"] = count
        for failure in FAILURES:
            scores[f"failure_{failure}"] = failures[failure]
        if self.constant_box:
            truths = [truth_of(prediction) for prediction in predictions]
            scores["constant_box_acc@0.5"] = constant_box_accuracy(truths, threshold=0.5)
        return scores


def truth_of(prediction: Prediction) -> Box:
    """The one box that was asked for.

    Raises:
        DataError: the truth holds no box, or several.
    """
    boxes = prediction.truth.boxes
    if len(boxes) != 1:
        raise DataError(where=prediction.key, expected="exactly one box as the truth", found=str(len(boxes)))
    return boxes[0]


def failure_of(prediction: Prediction) -> Failure | None:
    """Why the answer does not give exactly one box; None when it does."""
    if prediction.failure is not None:
        return prediction.failure
    if not prediction.boxes:
        return "none"
    return None if len(prediction.boxes) == 1 else "wrong_count"


def iou_of(prediction: Prediction) -> float:
    """IoU of the answer's box and the true one in original pixels; 0 on any failure, and on different pictures.

    Raises:
        DataError: the truth is not exactly one box.
    """
    truth = truth_of(prediction)
    if failure_of(prediction) is not None:
        return 0.0
    answer = prediction.boxes[0]
    return iou(answer, truth) if answer.image == truth.image else 0.0


def constant_box_accuracy(truths: Sequence[Box], *, threshold: float) -> float:
    """The largest share of `truths` that one of them (at most `MAX_CANDIDATES` tried) overlaps with IoU > threshold."""
    boxes: NDArray[np.float64] = np.array([box.xyxy for box in truths], dtype=np.float64)  # [N, 4]
    tried = np.linspace(0, len(boxes) - 1, min(len(boxes), MAX_CANDIDATES), dtype=np.int64)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    best = 0
    for candidate, area in zip(boxes[tried], areas[tried], strict=True):
        sides = np.minimum(boxes[:, 2:], candidate[2:]) - np.maximum(boxes[:, :2], candidate[:2])
        overlaps = sides.clip(min=0).prod(axis=1)
        # compared without dividing, for boxes without area
        best = max(best, int(np.count_nonzero(overlaps > threshold * (area + areas - overlaps))))
    return best / len(boxes)
