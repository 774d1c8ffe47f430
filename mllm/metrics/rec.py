"""Referring expression comprehension: one phrase, one box, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mllm.errors import DataError
from mllm.fields import OneOf
from mllm.geometry import iou
from mllm.metrics.base import MeanHeadline, sort_by_index
from mllm.metrics.failures import FAILURES, MEANINGS, failure_of
from mllm.metrics.rec_readings import READINGS
from mllm.registry import METRICS
from mllm.types import Box, Failure, Prediction

CODEC = "codec"
ReadingName = Annotated[str, OneOf((CODEC, *READINGS))]
THRESHOLDS = (0.25, 0.5, 0.75)
MAX_CANDIDATES = 512
"""Truth boxes tried as the constant box, evenly spaced over the dataset: a bound on time for large sets."""


@METRICS.register_module()
class REC(MeanHeadline):
    """Accuracy of one predicted box against one true box, in pixels of the original image.

    Args:
        constant_box: adds the score of the best single box.
        reading: "codec", the default: any form that the model's codec reads, marked or bare, cut at the edge of the
            image, and right only where there is one box. Or the name of a public scorer, which then reads the text in
            its own way and frame, whatever the codec: see `mllm.metrics.rec_readings`. Published numbers of a family
            are those of its own reading.

    An item whose truth says that there is no such object is answered right by an answer without a region, in whatever
    words; its IoU is then 1, else 0.

    Scores:
        acc@0.25, acc@0.5, acc@0.75: share of ALL predictions, readable or not, whose IoU is strictly greater than the
            threshold. `>` as in most released scorers; some papers count `>=`, which differs only on exact ties.
        mean_iou: over all predictions, 0 for a failure.
        count: predictions scored.
        clipped: answers with a box that reached out of the image, and was cut off at its edge.
        failure_none, failure_malformed, ...: predictions without exactly one readable box, by class
            (`mllm.types.Failure`); always all five. Of several boxes none is credited: that is `wrong_count`, as is a
            box where there is nothing.
        wrong_object: wrong answers that lie on another object of the image (IoU > 0.5): items whose truth has
            `candidates`, the right box first.
        no_target_acc, no_target_count: where some items have no object, the share of these answered without a region
            (gRefCOCO's N-acc), and how many there are.
        constant_box_acc@0.5: with `constant_box=True`, the acc@0.5 of the best box that ignores image and phrase. It
            is the floor: a model near it has learnt where objects tend to be, not to look. Candidates are the truth
            boxes (at most 512, evenly spaced), in pixels, since sizes of images are not known here; a box that
            lies between them, or one relative to the image's size, may do slightly better.

    Source: Yu et al. 2016 (RefCOCO); IoU > 0.5 counts as correct. Liu et al. 2023 (arXiv 2306.00968): items without a
    target.
    """

    headline = "acc@0.5"
    meanings: Mapping[str, str] = {
        "acc@0.25": "share of all answers with IoU > 0.25",
        "acc@0.5": "share of all answers with IoU > 0.5",
        "acc@0.75": "share of all answers with IoU > 0.75",
        "mean_iou": "mean IoU over all answers, 0 where unreadable",
        "wrong_object": "wrong answers on another object of the image, where these are known (IoU > 0.5)",
        "no_target_acc": "share of the items without an object that were answered without a box",
        "no_target_count": "items without an object",
        **MEANINGS,
        "failure_none": "no box in the answer",
        "failure_wrong_count": "several boxes where one was asked for, or a box where there is nothing",
        "constant_box_acc@0.5": "what the best single box would score, whatever the image and the phrase",
    }

    def __init__(self, *, constant_box: bool = False, reading: ReadingName = CODEC) -> None:
        self.constant_box = constant_box
        self.reading = None if reading == CODEC else READINGS[reading]
        self.depth = None if reading == CODEC else reading

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, or a truth that is neither exactly one box nor none.
        """
        predictions = sort_by_index(predictions)
        truths = [truth_of(prediction) for prediction in predictions]
        judged = [self._judged(prediction) for prediction in predictions]
        ious = [iou for iou, _ in judged]
        failures = Counter(failure for _, failure in judged)
        count = len(predictions)
        scores: dict[str, float] = {
            f"acc@{threshold}": sum(self._is_right(value, threshold) for value in ious) / count
            for threshold in THRESHOLDS
        }
        scores["mean_iou"] = fsum(ious) / count
        scores["count"] = count
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        absent = [value for value, truth in zip(ious, truths, strict=True) if truth is None]
        if absent:
            scores["no_target_acc"] = sum(absent) / len(absent)
            scores["no_target_count"] = len(absent)
        for failure in FAILURES:
            scores[f"failure_{failure}"] = failures[failure]
        if any(prediction.truth.candidates for prediction in predictions):
            scores["wrong_object"] = sum(map(is_on_another, predictions))
        if self.constant_box:
            boxes = [truth for truth in truths if truth is not None]
            hits = constant_box_accuracy(boxes, threshold=0.5) * len(boxes) if boxes else 0.0
            scores["constant_box_acc@0.5"] = hits / count
        return scores

    def value(self, prediction: Prediction) -> float:
        return float(self._is_right(self._judged(prediction)[0], 0.5))

    def _is_right(self, iou: float, threshold: float) -> bool:
        return iou > threshold if self.reading is None else self.reading.is_right(iou, threshold)

    def _judged(self, prediction: Prediction) -> tuple[float, Failure | None]:
        """The IoU of an answer, and why it has none."""
        if self.reading is None:
            return iou_of(prediction), failure_of(prediction)
        truth = truth_of(prediction)
        if truth is None:
            expected = "an object (public readings know no item without)"
            raise DataError(where=prediction.key, field="truth.boxes", expected=expected, found="none")
        if prediction.image_size is None:
            raise DataError(where=prediction.key, field="image_size", expected="width and height", found="none")
        text = prediction.text
        if self.reading.prompt:
            if prediction.expression is None:
                expected = "the expression, which this reading compares phrases with"
                raise DataError(where=prediction.key, field="expression", expected=expected, found="none")
            prompt = self.reading.prompt.format(prediction.expression)
            text = prompt + text.removeprefix(prompt)
        iou = self.reading.iou(text, truth.xyxy, prediction.image_size)
        return (0.0, "none") if iou is None else (iou, None)


def truth_of(prediction: Prediction) -> Box | None:
    """The one box that was asked for; None where the truth says that there is none.

    Raises:
        DataError: the truth holds several boxes, or says nothing of any.
    """
    truth = prediction.truth
    if truth.no_target:
        return None
    if len(truth.boxes) != 1:
        raise DataError(
            where=prediction.key, field="truth.boxes", expected="exactly one box", found=str(len(truth.boxes))
        )
    return truth.boxes[0]


def iou_of(prediction: Prediction) -> float:
    """IoU of the answer's box and the true one in original pixels; 0 on any failure, and on different images.

    Where there is no object: 1 for an answer without a region, else 0.

    Raises:
        DataError: the truth is neither exactly one box nor none.
    """
    truth = truth_of(prediction)
    if failure_of(prediction) is not None:
        return 0.0
    if truth is None:
        return 1.0
    answer = prediction.boxes[0]
    return iou(answer, truth) if answer.image == truth.image else 0.0


def is_on_another(prediction: Prediction) -> bool:
    """Whether an answer's box lies on another object of the image, where these are known, rather than on the right one.

    It does where their IoU is above 0.5, and that with the true box is not.
    """
    others = prediction.truth.candidates[1:]
    if not others or failure_of(prediction) is not None or iou_of(prediction) > 0.5:
        return False
    return any(box.image == other.image and iou(box, other) > 0.5 for box in prediction.boxes for other in others)


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
