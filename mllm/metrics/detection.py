"""Detection: COCO's average precision and recall of answers that list boxes with labels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from mllm.errors import DataError
from mllm.metrics.base import sort_by_index
from mllm.metrics.boxes_f1 import normal_label
from mllm.metrics.failures import LIST_MEANINGS, list_failures, unreadable_reason
from mllm.metrics.overlaps import true_boxes
from mllm.registry import METRICS
from mllm.types import Box, Prediction

STATS = (
    ("ap", "average precision, mean over IoU 0.50 to 0.95"),
    ("ap50", "average precision at IoU 0.50"),
    ("ap75", "average precision at IoU 0.75"),
    ("ap_small", "average precision of objects below 32 x 32 pixels"),
    ("ap_medium", "average precision of objects from 32 x 32 to 96 x 96 pixels"),
    ("ap_large", "average precision of objects above 96 x 96 pixels"),
    ("ar@1", "average recall with the first box of a class"),
    ("ar@10", "average recall with the first 10 boxes of a class"),
    ("ar@100", "average recall with the first 100 boxes of a class"),
    ("ar_small", "average recall of objects below 32 x 32 pixels"),
    ("ar_medium", "average recall of objects from 32 x 32 to 96 x 96 pixels"),
    ("ar_large", "average recall of objects above 96 x 96 pixels"),
)
"""The twelve numbers of COCO's evaluation, in its order."""


@METRICS.register_module()
class Detection:
    """COCO's AP and AR of lists of boxes, as `pycocotools` computes them: each item is an image of its own.

    The score of a box is 1 unless the prediction carries one (`Box.score`), so that boxes rank in the order of the
    items and of the answer. AP then knows one point of the precision-recall curve instead of the whole;
    compare it with other generated answers, not with detectors. `BoxesF1` needs no scores.

    Sizes of objects are areas of boxes, in pixels of the original image; COCO's own annotations have areas of masks.

    Args:
        labels: whether classes are told apart, by their labels (whatever the case of letters). Where no truth has a
            label places alone count, as with `labels=False`.

    Scores:
        ap, ap50, ap75, ap_small, ap_medium, ap_large, ar@1, ar@10, ar@100, ar_small, ar_medium, ar_large: COCO's
            twelve. Those of a size of which there is no object are missing; so are all where there is none.
        ap/NAME: AP of each class, with labels.
        count: predictions scored. boxes, true_boxes: how many boxes were answered, and how many there are.
        unknown_label: boxes without a label, or with one that no truth has; they count nowhere, as in COCO.
        clipped, failure_none, failure_malformed, ...: see `mllm.metrics.failures`.

    Source: Lin et al. 2014 (COCO, arXiv 1405.0312); `pycocotools.cocoeval`.
    """

    headline = "ap"
    failure = staticmethod(unreadable_reason)
    meanings: Mapping[str, str] = {
        **dict(STATS),
        "boxes": "boxes in the answers",
        "true_boxes": "objects in the images",
        "unknown_label": "boxes without a label of any object; they count nowhere",
        **LIST_MEANINGS,
    }

    def __init__(self, *, labels: bool = True) -> None:
        self.labels = labels

    def __call__(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Score the predictions; their order does not matter.

        Raises:
            DataError: no predictions, two for one item, a truth that does not speak of boxes, or objects with labels
                beside others without.
        """
        predictions = sort_by_index(predictions)
        truths = [true_boxes(prediction) for prediction in predictions]
        names = self._names(predictions, truths)
        answers = [prediction.boxes for prediction in predictions]
        unknown = [box for boxes in answers for box in boxes if names and normal_label(box.label) not in names]
        result = coco_evaluation(truths, answers, names)
        scores = {name: float(value) for (name, _), value in zip(STATS, result.stats, strict=True) if value >= 0}
        for number, name in enumerate(names):
            precision = result.eval["precision"][:, :, number, 0, -1]
            scores[f"ap/{name}"] = float(precision[precision >= 0].mean())
        scores["count"] = len(predictions)
        scores["boxes"] = sum(map(len, answers))
        scores["true_boxes"] = sum(map(len, truths))
        scores["unknown_label"] = len(unknown)
        scores["clipped"] = sum(prediction.clipped > 0 for prediction in predictions)
        return {**scores, **list_failures(predictions)}

    def _names(self, predictions: Sequence[Prediction], truths: Sequence[Sequence[Box]]) -> list[str]:
        """The labels of all objects, sorted; none where places alone count."""
        if not self.labels or all(box.label is None for boxes in truths for box in boxes):
            return []
        for prediction, boxes in zip(predictions, truths, strict=True):
            if any(box.label is None for box in boxes):
                expected = "a label for each box, since others have one (or the argument labels=False)"
                raise DataError(where=prediction.key, field="target.labels", expected=expected, found="none")
        return sorted({normal_label(box.label) or "" for boxes in truths for box in boxes})


def coco_evaluation(truths: Sequence[Sequence[Box]], answers: Sequence[Sequence[Box]], names: Sequence[str]) -> Any:
    """A COCOeval that has summarised these images; without names there is one class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {name: number for number, name in enumerate(names, 1)}

    def dataset(images: Sequence[Sequence[Box]]) -> Any:
        coco: Any = COCO()
        annotations: list[dict[str, Any]] = []
        for image, boxes in enumerate(images, 1):
            for box in boxes:
                category = numbers.get(normal_label(box.label) or "", 0) if names else 1
                if category:
                    annotations.append(coco_annotation(box, image, category, len(annotations) + 1))
        coco.dataset = {
            "images": [{"id": image} for image in range(1, len(images) + 1)],
            "categories": [{"id": number} for number in range(1, len(names) + 1 if names else 2)],
            "annotations": annotations,
        }
        coco.createIndex()
        return coco

    with redirect_stdout(io.StringIO()):
        evaluation: Any = COCOeval(dataset(truths), dataset(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_annotation(box: Box, image: int, category: int, number: int) -> dict[str, object]:
    """A box as COCO writes it: [x, y, width, height]."""
    width, height = box.x2 - box.x1, box.y2 - box.y1
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [box.x1, box.y1, width, height],
        "area": width * height,
        "iscrowd": 0,
        "score": 1.0 if box.score is None else box.score,
    }
