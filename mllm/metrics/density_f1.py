"""HumanRef: all people that a phrase means, and no crowd of guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum

import numpy as np

from mllm.metrics.base import Totals, sort_by_index, split_by_group
from mllm.metrics.failures import LIST_MEANINGS, list_failures, says_nothing_is_there, unreadable_reason
from mllm.metrics.overlaps import COCO_THRESHOLDS, Matrix, overlaps, true_boxes
from mllm.registry import METRICS
from mllm.types import Prediction

SCORES = ("recall", "precision", "density_f1")
BINS = (("1", 1, 1), ("2-5", 2, 5), ("6-10", 6, 10), (">10", 11, 1 << 31))
"""Ranges of the number of boxes that are meant, as the benchmark reports them."""


@METRICS.register_module()
class DensityF1:
    """HumanRef: recall, precision and F1 of lists of boxes, where answering more boxes than there are costs twice.

    The boxes of the truth take in their order the answered box, of those left, that overlaps most, with an IoU of at
    least the threshold. DensityF1 is F1 times min(1, true boxes / answered boxes). Items without a target (the domain
    "rejection") count in nothing but `rejection_acc`.

    Args:
        group: the name in the records' `group` that scores are broken down by; None: no break-down.

    Scores, means over ALL predictions whose item has a target; missing where no item has one:
        recall@0.5, precision@0.5, density_f1@0.5: at IoU 0.5.
        recall, precision, density_f1: means over the thresholds 0.50, 0.55, ... 0.95.
        density_f1/DOMAIN, density_f1@0.5/DOMAIN, ...: of each group, with `count/DOMAIN`.
        density_f1/boxes=1, .../boxes=2-5, boxes=6-10, boxes=>10: by how many boxes are meant.
        rejection_acc, rejection_correct, rejection_count: of the items without a target, the share and the number of
            answers without a region, and how many items these are. The benchmark prints the number.
        count: predictions scored, with and without a target.
        clipped, failure_none, failure_malformed, ...: see `mllm.metrics.failures`.

    Source: Jiang et al. 2025 (RexSeek and HumanRef, arXiv 2503.08507). The density is the one of its code, which does
    not depend on the number of people in the image. Points instead of boxes are not scored here.
    """

    headline = "density_f1"
    failure = staticmethod(unreadable_reason)
    meanings: Mapping[str, str] = {
        "recall@0.5": "share of the boxes that were meant and found, IoU >= 0.5, mean over the answers",
        "precision@0.5": "share of the answered boxes that are right, IoU >= 0.5, mean over the answers",
        "density_f1@0.5": "F1 times min(1, true boxes / answered boxes), IoU >= 0.5, mean over the answers",
        "recall": "recall, mean over IoU 0.50 to 0.95",
        "precision": "precision, mean over IoU 0.50 to 0.95",
        "density_f1": "F1 times min(1, true boxes / answered boxes), mean over IoU 0.50 to 0.95",
        "rejection_acc": "share of the items without a target that were answered without a region",
        "rejection_correct": "items without a target that were answered without a region",
        "rejection_count": "items without a target",
        **LIST_MEANINGS,
    }

    def __init__(self, *, group: str | None = "domain") -> None:
        self.group = group

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth that does not speak of boxes, or a record without that
                group.
        """
        predictions = sort_by_index(predictions)
        aimed = [prediction for prediction in predictions if true_boxes(prediction)]
        each = {prediction.index: _scores(prediction) for prediction in aimed}
        scores = _means(aimed, each) if aimed else {}
        groups = split_by_group(predictions, self.group) if self.group is not None else {}
        groups = {name: [one for one in own if one.index in each] for name, own in groups.items()}
        for name, low, high in BINS:
            groups[f"boxes={name}"] = [one for one in aimed if low <= len(one.truth.boxes) <= high]
        for name, own in groups.items():
            if own:
                scores |= {f"{score}/{name}": value for score, value in _means(own, each).items()}
                scores[f"count/{name}"] = len(own)
        absent = [says_nothing_is_there(one) for one in predictions if one.truth.no_target]
        if absent:
            scores["rejection_acc"] = sum(absent) / len(absent)
            scores |= {"rejection_correct": sum(absent), "rejection_count": len(absent)}
        scores["count"] = len(predictions)
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        return {**scores, **list_failures(predictions)}

    def parts_of(self, prediction: Prediction) -> dict[str, list[str]]:
        boxes = len(prediction.truth.boxes)
        parts = {"boxes": [name for name, low, high in BINS if low <= boxes <= high]}
        return parts if self.group is None else {**parts, self.group: [str(prediction.group[self.group])]}

    def value(self, prediction: Prediction) -> float:
        """The DensityF1 of an answer; where there is no target, whether it has no region."""
        if not true_boxes(prediction):
            return float(says_nothing_is_there(prediction))
        return _scores(prediction)[self.headline]

    def tally(self, prediction: Prediction) -> tuple[float, ...]:
        aimed = bool(true_boxes(prediction))
        return self.value(prediction) if aimed else 0.0, float(aimed)

    def headline_of(self, totals: Totals) -> Totals:
        values, aimed = totals[..., 0], totals[..., 1]
        return np.divide(values, aimed, out=np.zeros_like(values), where=aimed > 0)


def _scores(prediction: Prediction) -> dict[str, float]:
    values = overlaps(prediction.truth.boxes, prediction.boxes)
    true, found = values.shape
    each = [density_f1(count_matches(values, threshold), true, found) for threshold in COCO_THRESHOLDS]
    means = [fsum(column) / len(each) for column in zip(*each, strict=True)]
    at_half = {f"{name}@0.5": value for name, value in zip(SCORES, each[0], strict=True)}
    return {**at_half, **dict(zip(SCORES, means, strict=True))}


def count_matches(values: Matrix, threshold: float) -> int:
    """How many rows, in their order, find a column that no row before took and whose value reaches the threshold."""
    values = values.copy()
    matched = 0
    for row in values:
        if row.size and row.max() >= threshold:
            values[:, row.argmax()] = -1
            matched += 1
    return matched


def density_f1(matched: int, true: int, found: int) -> tuple[float, float, float]:
    """Recall, precision and DensityF1 of an answer with `found` boxes, where there is at least one true box."""
    if not found:
        return 0.0, 0.0, 0.0
    return matched / true, matched / found, 2 * matched / (true + found) * min(1.0, true / found)


def _means(own: Sequence[Prediction], each: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    found = [each[prediction.index] for prediction in own]
    return {name: fsum(one[name] for one in found) / len(found) for name in found[0]}
