"""Ref-L4: referring expressions at strict thresholds, by the size of the object and by its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, sqrt

from mllm.errors import DataError
from mllm.metrics.base import BOX_SIZE, MeanHeadline, sort_by_index, split_by_group
from mllm.metrics.failures import FAILURES, MEANINGS, failure_of
from mllm.metrics.overlaps import COCO_THRESHOLDS
from mllm.metrics.rec import iou_of, truth_of
from mllm.registry import METRICS
from mllm.types import Prediction

SIZES = ("small", "medium", "large")
SMALL, LARGE = 128, 256
"""Sides in pixels of a square of the object's area: below the first it is small, above the second large."""


@METRICS.register_module()
class RefL4(MeanHeadline):
    """Accuracy of one predicted box against one true box, as `REC` counts it (IoU > threshold), by size and class.

    Args:
        group: the name in the records' `group` that holds the class of the object; None: no class average.

    Scores:
        acc@0.5, acc@0.75, acc@0.9: share of ALL predictions, readable or not, with IoU > threshold.
        macc: the mean accuracy over the thresholds 0.50, 0.55, ... 0.95.
        acc@0.5/small, macc/small, .../medium, .../large: by the square root of the box's area in pixels: below 128, up
            to 256, above. Missing where there is no such object; `count/small`, ...: how many there are.
        class_acc@0.5, class_macc: the means over classes, so that rare ones weigh as much.
        count: predictions scored.
        clipped, failure_none, failure_malformed, ...: as in `REC`.

    Source: Chen et al. 2024 (Ref-L4, arXiv 2406.16866).
    """

    headline = "macc"
    meanings: Mapping[str, str] = {
        **{f"acc@{threshold}": f"share of all answers with IoU > {threshold}" for threshold in (0.5, 0.75, 0.9)},
        "macc": "share of all answers with IoU > threshold, mean over 0.50 to 0.95",
        **{f"acc@0.5/{size}": f"share of the answers about {size} objects with IoU > 0.5" for size in SIZES},
        **{f"macc/{size}": f"the same, mean over 0.50 to 0.95, {size} objects" for size in SIZES},
        "class_acc@0.5": "acc@0.5 of each class, mean over the classes",
        "class_macc": "macc of each class, mean over the classes",
        **MEANINGS,
    }

    def __init__(self, *, group: str | None = "category") -> None:
        self.group = group

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth that is not exactly one box, or a record without that
                group.
        """
        predictions = sort_by_index(predictions)
        ious = {prediction.index: iou_of(prediction) for prediction in predictions}
        values = list(ious.values())
        scores = {f"acc@{threshold}": accuracy(values, threshold) for threshold in (0.5, 0.75, 0.9)}
        scores["macc"] = mean_accuracy(values)
        sizes = [object_size(prediction) for prediction in predictions]
        for size in SIZES:
            own = [value for value, found in zip(values, sizes, strict=True) if found == size]
            if own:
                scores |= {f"acc@0.5/{size}": accuracy(own, 0.5), f"macc/{size}": mean_accuracy(own)}
                scores[f"count/{size}"] = len(own)
        if self.group is not None:
            classes = [[ious[one.index] for one in own] for own in split_by_group(predictions, self.group).values()]
            scores["class_acc@0.5"] = fsum(accuracy(own, 0.5) for own in classes) / len(classes)
            scores["class_macc"] = fsum(map(mean_accuracy, classes)) / len(classes)
        scores["count"] = len(predictions)
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        failures = [failure_of(prediction) for prediction in predictions]
        return {**scores, **{f"failure_{name}": failures.count(name) for name in FAILURES}}

    def parts_of(self, prediction: Prediction) -> dict[str, list[str]]:
        return {BOX_SIZE: [object_size(prediction)]}

    def value(self, prediction: Prediction) -> float:
        return mean_accuracy([iou_of(prediction)])


def accuracy(ious: Sequence[float], threshold: float) -> float:
    """The share of IoUs above a threshold."""
    return sum(value > threshold for value in ious) / len(ious)


def mean_accuracy(ious: Sequence[float]) -> float:
    """The mean of the shares above 0.50, 0.55, ... 0.95."""
    return fsum(accuracy(ious, threshold) for threshold in COCO_THRESHOLDS) / len(COCO_THRESHOLDS)


def object_size(prediction: Prediction) -> str:
    """The size of the object that was meant: small, medium or large.

    Raises:
        DataError: the truth is not exactly one box.
    """
    box = truth_of(prediction)
    if box is None:
        raise DataError(where=prediction.key, field="truth.boxes", expected="exactly one box", found="none")
    side = sqrt((box.x2 - box.x1) * (box.y2 - box.y1))
    return "small" if side < SMALL else "medium" if side <= LARGE else "large"
