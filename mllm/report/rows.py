"""The answers of an evaluation as a report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mllm.dataset.base import Dataset
from mllm.images import VideoFrame, image_ref
from mllm.images.contact_sheet import ContactSheet
from mllm.images.video import spread_evenly
from mllm.metrics.base import Metric, Tallied
from mllm.metrics.outcome import ImageIds, iou_or_none
from mllm.report.report import AnswerRow
from mllm.types import Box, Item, Point, Prediction

SHOWN_FRAMES = 9
"""Frames of a video that are shown, beside those that regions lie on."""


def answer_rows(predictions: Iterable[Prediction], items: Dataset, metric: Metric | None) -> Iterator[AnswerRow]:
    """Each answer beside its question and the image that this is about; where regions lie on others, all of these."""
    name_of = ImageIds()
    for prediction in predictions:
        item = items[prediction.index]
        turn = item.prompt[-1]
        asked = (
            *(item.boxes[i] for group in turn.boxes_seq for i in group),
            *(item.points[i] for group in turn.points_seq for i in group),
        )
        number, picture = item.answer_image, _picture(item, prediction, asked)
        yield AnswerRow(
            prediction=prediction,
            question=turn.text,
            image=picture or (item.images[number] if item.images else None),
            image_name=name_of(item)
            if len(item.own_images) < 2
            else f"{name_of(item)}: image {number - item.demonstrated_images}"
            if picture is None
            else f"{name_of(item)}: images {', '.join(map(str, picture.numbers))}",
            places={number: (0, 0)} if picture is None else picture.places,
            asked=asked,
            iou=_iou(prediction),
            score=_score(prediction, metric),
        )


def _picture(item: Item, prediction: Prediction, asked: Sequence[Box | Point]) -> ContactSheet | None:
    """The images that regions lie on, side by side, and frames of the video; None where that is none but the one of
    the question."""
    truth = prediction.truth
    regions = (*prediction.boxes, *prediction.points, *truth.boxes, *truth.points, *asked)
    named = {region.image for region in regions}
    frames = [number for number, ref in enumerate(item.images) if isinstance(ref, VideoFrame)]
    about = set(spread_evenly(frames, SHOWN_FRAMES)) if frames else {item.answer_image}
    numbers = sorted(named | about)
    if len(numbers) < 2:
        return None
    shown = [item.images[number] for number in numbers]
    names = tuple(
        f"{ref.time:g} s" if isinstance(ref, VideoFrame) else f"image {number + 1}"
        for number, ref in zip(numbers, shown, strict=True)
    )
    return ContactSheet(tuple(shown), tuple(numbers), names)


def rows_without_items(
    predictions: Sequence[Prediction], images: Sequence[str], questions: Sequence[str], metric: Metric | None
) -> Iterator[AnswerRow]:
    """Each answer beside its question and its image, which is drawn where a file has its name."""
    for prediction, name, question in zip(predictions, images, questions, strict=True):
        yield AnswerRow(
            prediction=prediction,
            question=question,
            image=image_ref(name) if Path(name).is_file() else None,
            image_name=name,
            iou=_iou(prediction),
            score=_score(prediction, metric),
        )


def _iou(prediction: Prediction) -> float | None:
    return None if prediction.truth.no_target else iou_or_none(prediction)


def _score(prediction: Prediction, metric: Metric | None) -> float | None:
    return metric.value(prediction) if isinstance(metric, Tallied) else None
