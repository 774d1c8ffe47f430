"""Generalised referring expressions: a phrase that means no object, one, or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

import numpy as np

from mllm.metrics.base import MeanHeadline, sort_by_index
from mllm.metrics.failures import LIST_MEANINGS, list_failures, says_nothing_is_there, unreadable_reason
from mllm.metrics.overlaps import Matrix, Overlap, overlaps, true_boxes
from mllm.registry import METRICS
from mllm.types import Prediction

THRESHOLD = 0.5


@METRICS.register_module()
class GREC(MeanHeadline):
    """gRefCOCO: an answer is right if it has all the true boxes and no other, or none if there is no such object.

    Boxes are matched one to one, the pair that overlaps most first, as long as it overlaps by at least 0.5. All boxes
    of an answer count, whatever their scores: the 0.7 of the public code is for detectors.

    Args:
        overlap: what must reach 0.5. `"iou"` as the paper says; `"giou"` (generalised IoU) as the public code does,
            which is stricter.

    Scores:
        pr@f1=1: share of ALL predictions that are right, items without a target included: Pr@(F1=1, IoU>=0.5).
        n_acc: N-acc, the share of the items without a target whose answer has no box. An answer that could not be
            read to its end (`failure_malformed`, ...) says nothing and is wrong.
        t_acc: T-acc, the share of the items with a target whose answer has a readable box, wherever it lies.
        no_target_count, target_count: how many items these are; `n_acc` or `t_acc` is missing where there are none.
        count: predictions scored.
        clipped, failure_none, failure_malformed, ...: see `mllm.metrics.failures`.

    Source: Liu et al. 2023 (GRES, arXiv 2306.00968), He et al. 2023 (GREC, arXiv 2308.16182).
    """

    headline = "pr@f1=1"
    failure = staticmethod(unreadable_reason)

    def __init__(self, *, overlap: Overlap = "iou") -> None:
        self.overlap: Overlap = overlap
        name = {"iou": "IoU", "giou": "generalised IoU"}[overlap]
        self.meanings: Mapping[str, str] = {
            "pr@f1=1": f"share of all answers with exactly the boxes that were meant ({name} >= 0.5)",
            "n_acc": "share of the items without a target that were answered without a box",
            "t_acc": "share of the items with a target that were answered with a box",
            "no_target_count": "items without a target",
            "target_count": "items with a target",
            **LIST_MEANINGS,
        }

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that does not speak of boxes.
        """
        predictions = sort_by_index(predictions)
        right = fsum(map(self.value, predictions))
        empty: list[bool] = []
        answered: list[bool] = []
        for prediction in predictions:
            if not true_boxes(prediction):
                empty.append(says_nothing_is_there(prediction))
            else:
                answered.append(bool(prediction.boxes))
        scores: dict[str, float] = {"pr@f1=1": right / len(predictions), "count": len(predictions)}
        for name, values in (("n_acc", empty), ("t_acc", answered)):
            if values:
                scores[name] = sum(values) / len(values)
        scores |= {"no_target_count": len(empty), "target_count": len(answered)}
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        return {**scores, **list_failures(predictions)}

    def value(self, prediction: Prediction) -> float:
        true = true_boxes(prediction)
        if not true:
            return float(says_nothing_is_there(prediction))
        if len(prediction.boxes) != len(true):
            return 0.0
        return float(greedy_pairs(overlaps(prediction.boxes, true, self.overlap)) == len(true))


def greedy_pairs(values: Matrix) -> int:
    """How many pairs are matched one to one, the greatest value first, while it reaches `THRESHOLD`."""
    values = values.copy()
    pairs = 0
    while values.size and values.max() >= THRESHOLD:
        row, column = np.unravel_index(values.argmax(), values.shape)
        values[row], values[:, column] = -1, -1
        pairs += 1
    return pairs
