"""The answers of an evaluation as a report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mllm.dataset.base import Dataset
from mllm.images import image_ref
from mllm.metrics.base import Metric, Tallied
from mllm.metrics.outcome import ImageNames
from mllm.metrics.rec import iou_of
from mllm.report.report import Row
from mllm.types import Prediction


def rows(predictions: Iterable[Prediction], items: Dataset, metric: Metric | None) -> Iterator[Row]:
    """Each answer beside its question and the image that the question is about, which its truth lies on."""
    name_of = ImageNames()
    for prediction in predictions:
        item = items[prediction.index]
        turn = item.prompt[-1]
        number = item.answer_image
        yield Row(
            prediction=prediction,
            question=turn.text,
            image=item.images[number] if item.images else None,
            image_name=name_of(item)
            if len(item.own_images) < 2
            else f"{name_of(item)}: image {number - item.demonstrated_images}",
            image_number=number,
            asked=(
                *(item.boxes[i] for group in turn.boxes_seq for i in group),
                *(item.points[i] for group in turn.points_seq for i in group),
            ),
            iou=_iou(prediction),
            score=_score(prediction, metric),
        )


def rows_without_items(
    predictions: Sequence[Prediction], images: Sequence[str], questions: Sequence[str], metric: Metric | None
) -> Iterator[Row]:
    """Each answer beside its question and its image, which is drawn where a file has its name."""
    for prediction, name, question in zip(predictions, images, questions, strict=True):
        yield Row(
            prediction=prediction,
            question=question,
            image=image_ref(name) if Path(name).is_file() else None,
            image_name=name,
            iou=_iou(prediction),
            score=_score(prediction, metric),
        )


def _iou(prediction: Prediction) -> float | None:
    return iou_of(prediction) if len(prediction.truth.boxes) == 1 else None


def _score(prediction: Prediction, metric: Metric | None) -> float | None:
    return metric.value(prediction) if isinstance(metric, Tallied) else None
