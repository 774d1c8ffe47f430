"""Lists of boxes: which share of the objects was found, and which share of the answered boxes is one of them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Annotated

import numpy as np

from mllm.fields import FULL, Range
from mllm.metrics.base import Totals, sort_by_index
from mllm.metrics.failures import LIST_MEANINGS, list_failures, unreadable_reason
from mllm.metrics.overlaps import Matrix, best_pairs, overlaps, true_boxes
from mllm.registry import METRICS
from mllm.types import Box, Prediction

Threshold = Annotated[float, Range(above=0, most=1)]


@METRICS.register_module()
class BoxesF1:
    """F1, precision and recall of lists of boxes, which are matched one to one, in pixels of the original image.

    At each threshold as many pairs as possible are matched (Hungarian method). A pair needs an IoU of at least the
    threshold, and the same label if the true box has one (whatever the case of its letters): a box that the answer
    does not name fits no labelled one. `labels=False` compares places only. Where several boxes were asked for, a
    region that cannot be read takes nothing from those that can.

    Args:
        thresholds: of IoU; the first is the headline's.
        labels: whether labels must agree.

    Scores, for each threshold:
        micro_f1@0.5, micro_precision@0.5, micro_recall@0.5: over the boxes of all answers together, so that images
            with many objects weigh more. Precision is 0 if no answer has a box, recall if no image has an object.
        macro_f1@0.5, macro_precision@0.5, macro_recall@0.5: the means over answers. Where there is no object, an answer
            without a box has 1 in all three, any other 0. Where there is one, an answer without a box has 0.
        count: predictions scored. boxes, true_boxes: how many boxes were answered, and how many there are.
        unlabelled: boxes without a label in answers whose truth has labels, only with `labels`.
        clipped, failure_none, failure_malformed, ...: see `mllm.metrics.failures`.

    Source: the matching of Carion et al. 2020 (DETR, arXiv 2005.12872) in place of COCO's greedy one; `>=` as COCO.
    """

    failure = staticmethod(unreadable_reason)

    def __init__(self, *, thresholds: Annotated[Sequence[Threshold], FULL] = (0.5, 0.75), labels: bool = True) -> None:
        self.thresholds = tuple(dict.fromkeys(thresholds))
        self.labels = labels
        self.headline = f"micro_f1@{self.thresholds[0]:g}"
        meanings = {
            f"{kind}_{name}@{threshold:g}": f"{what}, IoU >= {threshold:g}, {how}"
            for threshold in self.thresholds
            for kind, how in (("micro", "over all boxes together"), ("macro", "mean over the answers"))
            for name, what in (
                ("f1", "harmonic mean of precision and recall"),
                ("precision", "share of the answered boxes that are right"),
                ("recall", "share of the objects that were found"),
            )
        }
        meanings |= {"boxes": "boxes in the answers", "true_boxes": "objects in the images", **LIST_MEANINGS}
        if labels:
            meanings["unlabelled"] = "boxes without a label, where labels are compared"
        self.meanings: Mapping[str, str] = meanings

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that does not speak of boxes.
        """
        predictions = sort_by_index(predictions)
        pairs = [(prediction.boxes, true_boxes(prediction)) for prediction in predictions]
        values = [self._overlaps(prediction) for prediction in predictions]
        sizes = [(len(found), len(true)) for found, true in pairs]
        scores: dict[str, float] = {}
        for threshold in self.thresholds:
            matched = [best_pairs(value, threshold) for value in values]
            total = (sum(matched), sum(found for found, _ in sizes), sum(true for _, true in sizes))
            each = [f1(hits, found, true) for hits, (found, true) in zip(matched, sizes, strict=True)]
            means = [fsum(column) / len(each) for column in zip(*each, strict=True)]
            for kind, three in (("micro", f1(*total)), ("macro", means)):
                for name, value in zip(("f1", "precision", "recall"), three, strict=True):
                    scores[f"{kind}_{name}@{threshold:g}"] = value
        scores["count"] = len(predictions)
        scores["boxes"], scores["true_boxes"] = (sum(column) for column in zip(*sizes, strict=True))
        if self.labels:
            named = [found for found, true in pairs if any(box.label is not None for box in true)]
            scores["unlabelled"] = sum(box.label is None for found in named for box in found)
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        return {**scores, **list_failures(predictions)}

    def value(self, prediction: Prediction) -> float:
        return f1(*self._matched(prediction))[0]

    def tally(self, prediction: Prediction) -> tuple[float, ...]:
        """Twice the matched pairs, and how many boxes there are in the answer and the truth."""
        matched, found, true = self._matched(prediction)
        return 2.0 * matched, float(found + true)

    def headline_of(self, totals: Totals) -> Totals:
        hits, boxes = totals[..., 0], totals[..., 1]
        return np.divide(hits, boxes, out=np.ones_like(hits), where=boxes > 0)

    def _matched(self, prediction: Prediction) -> tuple[int, int, int]:
        """At the headline's threshold: pairs, boxes of the answer and of the truth."""
        values = self._overlaps(prediction)
        return (best_pairs(values, self.thresholds[0]), *values.shape)

    def _overlaps(self, prediction: Prediction) -> Matrix:
        found, true = prediction.boxes, true_boxes(prediction)
        return labelled_overlaps(found, true) if self.labels else overlaps(found, true)


def f1(matched: int, found: int, true: int) -> tuple[float, float, float]:
    """F1, precision and recall of `matched` pairs of `found` boxes and `true` ones; all 1 where there are neither."""
    if not found and not true:
        return 1.0, 1.0, 1.0
    precision = matched / found if found else 0.0
    recall = matched / true if true else 0.0
    return 2 * matched / (found + true), precision, recall


def labelled_overlaps(found: Sequence[Box], true: Sequence[Box]) -> Matrix:
    """As `overlaps`, but -1 where the true box has a label and the answered one has another, or none."""
    names = [normal_label(box.label) for box in found]
    agree = np.array(
        [[box.label is None or name == normal_label(box.label) for box in true] for name in names], dtype=np.bool_
    )
    return np.where(agree.reshape(len(found), len(true)), overlaps(found, true), -1.0)


def normal_label(label: str | None) -> str | None:
    """A label without case and without white space around and between its words; None where there is none."""
    return None if label is None else " ".join(label.casefold().split())
