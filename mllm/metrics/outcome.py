"""What is known of a set of answers once they are scored: the scores, how sure they are, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from mllm.errors import DataError
from mllm.fields import Count, NonNegative, Positive, Probability, Reads, check, in_field
from mllm.images import IN_MEMORY, ImageRef
from mllm.images.names import name_of
from mllm.json_fields import field as field_of
from mllm.metrics.base import Metric, Tallied, read_by
from mllm.metrics.breakdown import Part, breakdown
from mllm.metrics.failures import failure_of
from mllm.metrics.rec import iou_of
from mllm.metrics.statistics import Interval, interval
from mllm.metrics.temporal_iou import temporal_iou_of
from mllm.records import mask_of
from mllm.types import Category, Failure, Item, Prediction

PREDICTIONS, RESULTS = "extra_prediction.jsonl", "results.json"
"""The files that hold the answers of a test set and their scores, behind its name and `_`."""

Boxes = list[tuple[float, float, float, float]]
Pairs = list[tuple[float, float]]
NEEDED = ("key", "index", "text", "pred", "target")
"""Fields that every line of a predictions file has."""
FIELDS: Mapping[str, object] = {
    "key": str,
    "index": int,
    "image": str,
    "image_size": tuple[Positive, Positive] | None,
    "expression": str | None,
    "question": str,
    "text": str,
    "pred": Boxes,
    "target": Boxes | list[str],
    "failure": Failure | None,
    "read_by": list[str],
    "clipped": Count,
    "pred_labels": list[str | None],
    "pred_scores": list[float | None],
    "pred_points": Pairs,
    "target_points": Pairs,
    "pred_images": list[Count],
    "target_images": list[Count],
    "pred_point_images": list[Count],
    "target_point_images": list[Count],
    "candidate_images": list[Count],
    "target_texts": list[str],
    "target_labels": list[str | None],
    "options": list[str],
    "candidates": Boxes,
    "masks": list[Annotated[dict[str, Any], Reads("a mask", mask_of)]],
    "pred_spans": Pairs,
    "target_spans": Pairs,
    "duration": NonNegative,
    "iou": Probability,
    "candidate_scores": dict[str, float] | None,
    "score": float | None,
    "group": dict[str, Category] | None,
    "demonstrations": list[str],
}
"""What `as_record` writes, and what each of it may be."""
OF_EACH = {
    "pred_labels": "pred",
    "pred_scores": "pred",
    "pred_images": "pred",
    "target_labels": "target",
    "target_images": "target",
    "pred_point_images": "pred_points",
    "target_point_images": "target_points",
    "candidate_images": "candidates",
}
"""Lists that have an entry for each region of another."""

WITHOUT_METRIC = {"loss": "cross entropy per token of the true answers"}
"""The meaning of scores that every test set may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one test set.

    Attributes:
        scores: what the metric returns.
        headline: the name of the score to compare runs by; None without a metric.
        interval: of the headline, 95 %; None where the metric has no tally, or there is one image.
        parts: the headline by name and value, see `breakdown`.
        read_by: how many answers each rule read, or several one after another; "" for those without anything to read.
    """

    scores: Mapping[str, float]
    headline: str | None = None
    interval: Interval | None = None
    parts: Mapping[str, Sequence[Part]] = field(default_factory=dict[str, Sequence[Part]])
    read_by: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def apart(self) -> dict[str, float]:
        """The scores but for those of parts, which have tables of their own."""
        shown = {
            f"{self.headline}{mark}{prefix}{part.value}"
            for name, parts in self.parts.items()
            for part in parts
            for mark, prefix in (("/", ""), ("_", ""), ("/", f"{name}="))
        }
        return {name: value for name, value in self.scores.items() if name not in shown}

    def as_json(self, prefix: str) -> dict[str, object]:
        """The scores, keys prefixed; `intervals` and `parts` beside them where there are any."""
        record: dict[str, Any] = {f"{prefix}_{name}": value for name, value in self.scores.items()}
        if self.headline is not None:
            record["headline"] = f"{prefix}_{self.headline}"
        if self.headline is not None and self.interval is not None:
            record["intervals"] = {f"{prefix}_{self.headline}": [self.interval.low, self.interval.high]}
        if self.read_by:
            record["read_by"] = dict(self.read_by)
        if self.parts:
            record["parts"] = {name: [asdict(part) for part in parts] for name, parts in self.parts.items()}
        return record


def outcome(metric: Metric | None, predictions: Sequence[Prediction], images: Sequence[str]) -> Outcome:
    """Score the answers, without a metric count them; `images` names the image of each, see `ImageIds`.

    Raises:
        DataError: as the metric.
    """
    if metric is None:
        return Outcome(scores={"count": float(len(predictions))})
    return Outcome(
        scores=metric(predictions),
        headline=metric.headline,
        interval=interval(metric, predictions, images),
        parts=breakdown(metric, predictions, images),
        read_by=dict(Counter(" ".join(read_by(metric, prediction)) for prediction in predictions).most_common()),
    )


def iou_or_none(prediction: Prediction) -> float | None:
    """The IoU of the one true box, or of the true time spans; None where the truth is neither."""
    truth = prediction.truth
    if truth.time_spans and not truth.boxes:
        return temporal_iou_of(prediction)
    return iou_of(prediction) if len(truth.boxes) == 1 or truth.no_target else None


class ImageIds:
    """A name for the images of each item, the same for items about the same ones; an item without has its own."""

    def __init__(self) -> None:
        self._unnamed: dict[tuple[ImageRef, ...], str] = {}

    def __call__(self, item: Item) -> str:
        if not item.own_images:
            return item.key
        names = [name_of(ref) for ref in item.own_images]
        if IN_MEMORY not in names:
            return ", ".join(names)
        return self._unnamed.setdefault(item.own_images, f"the image of {item.key}")


def as_record(prediction: Prediction, *, image: str, question: str = "", metric: Metric | None) -> dict[str, object]:
    """A line of the predictions file. Boxes are xyxy in pixels of the original image; no target is an empty list.

    `score` is what the metric gives for this answer alone.
    """
    return dict(_fields(prediction, image, question, metric))


def check_record(record: Mapping[str, Any], where: str) -> None:
    """Check a line of a predictions file, whoever wrote it; fields that `as_record` does not write may be anything.

    Raises:
        DataError: names `where` and the field.
    """
    try:
        for name in NEEDED:
            field_of(record, name, FIELDS[name])
        for name, kind in FIELDS.items():
            if name in record:
                in_field(name, check, record[name], kind, DataError)
        for name, regions in OF_EACH.items():
            texts = regions == "target" and any(isinstance(each, str) for each in record["target"])
            count = 0 if texts else len(record.get(regions, ()))
            if name in record and len(record[name]) != count:
                expected = f"{count} entries, one for each region of {regions}"
                raise DataError(field=name, expected=expected, found=str(len(record[name])), kind="region-index")
    except DataError as error:
        raise error.at(where) from None


def _fields(prediction: Prediction, image: str, question: str, metric: Metric | None) -> Iterator[tuple[str, object]]:
    truth = prediction.truth
    yield "key", prediction.key
    yield "index", prediction.index
    yield "image", image
    if prediction.image_size is not None:
        yield "image_size", prediction.image_size
    if prediction.expression is not None:
        yield "expression", prediction.expression
    if question:
        yield "question", question
    yield "text", prediction.text
    yield "pred", [box.xyxy for box in prediction.boxes]
    yield "target", [] if truth.no_target else [box.xyxy for box in truth.boxes] or list(truth.texts)
    yield "failure", getattr(metric, "failure", failure_of)(prediction)
    yield "read_by", read_by(metric, prediction)
    if prediction.clipped:
        yield "clipped", prediction.clipped
    if any(box.label is not None for box in prediction.boxes):
        yield "pred_labels", [box.label for box in prediction.boxes]
    if any(box.score is not None for box in prediction.boxes):
        yield "pred_scores", [box.score for box in prediction.boxes]
    if prediction.points or truth.points:
        yield "pred_points", [point.xy for point in prediction.points]
        yield "target_points", [point.xy for point in truth.points]
    yield from _image_fields(prediction)
    yield from _truth_fields(prediction)
    if prediction.time_spans or truth.time_spans:
        yield "pred_spans", [[span.start, span.end] for span in prediction.time_spans]
        yield "target_spans", [[span.start, span.end] for span in truth.time_spans]
    if prediction.duration is not None:
        yield "duration", prediction.duration
    if (iou := iou_or_none(prediction)) is not None:
        yield "iou", iou
    if prediction.candidate_scores:
        yield "candidate_scores", dict(prediction.candidate_scores)
    if isinstance(metric, Tallied):
        yield "score", metric.value(prediction)
    if prediction.group:
        yield "group", dict(prediction.group)
    if prediction.demonstrations:
        yield "demonstrations", prediction.demonstrations


def _image_fields(prediction: Prediction) -> Iterator[tuple[str, object]]:
    """The number of the image of each region, where they are not all on one."""
    truth = prediction.truth
    regions = {
        "pred_images": prediction.boxes,
        "target_images": truth.boxes,
        "pred_point_images": prediction.points,
        "target_point_images": truth.points,
        "candidate_images": truth.candidates,
    }
    if len({region.image for some in regions.values() for region in some}) > 1:
        yield from ((name, [region.image for region in some]) for name, some in regions.items() if some)


def _truth_fields(prediction: Prediction) -> Iterator[tuple[str, object]]:
    """What else a metric compares with, so that `mllm score` needs no dataset to score the file again."""
    truth = prediction.truth
    if truth.texts and (truth.boxes or truth.no_target):
        yield "target_texts", truth.texts
    if any(box.label is not None for box in truth.boxes):
        yield "target_labels", [box.label for box in truth.boxes]
    if truth.options:
        yield "options", truth.options
    if truth.candidates:
        yield "candidates", [box.xyxy for box in truth.candidates]
    if truth.masks:
        yield "masks", truth.masks
