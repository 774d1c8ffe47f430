"""Files of answers, whoever wrote them: each layout is a function from a record to a `FileAnswer`.

Facts on the layouts: the writers of OpenGVLab/InternVL (evaluate_grounding.py), lmms-eval (`--log_samples`), VLMEvalKit
(result tables), shikras/shikra (`_extra_prediction.jsonl`), LLaVA (answers files), the servers of COCO captions, COCO
detection and VQAv2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from typing import Any, TypeVar, cast

from mllm.answers import short_answer, whole_answer
from mllm.commands.score.answer_files import records_of
from mllm.errors import DataError, nearest
from mllm.fields import is_finite, show
from mllm.json_fields import ID, describe_absent, field
from mllm.metrics.failures import failure_of
from mllm.metrics.outcome import check_record
from mllm.time_spans import TimeSpan
from mllm.types import Box, Failure, GroundTruth, Point, Prediction

Region = TypeVar("Region", Box, Point)

UNIT = 1000
"""Side of the image that fractions are taken of where the file does not say how large it was: IoU is the same."""
LARGEST_FRACTION = 1.1
"""Above it a corner is in pixels: the task refcoco_grounding of lmms-eval writes these, its others fractions."""
_SHIKRA = re.compile(r"\[(\d(?:\.\d*)?(?:,\d(?:\.\d*)?){3})\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAnswer:
    """One answer of a file.

    Attributes:
        where: the record, for messages.
        key: what names its question: a field of the annotation, see `AnswerLayout.key`; None: the place in the file.
        number: what no other answer of the file has, where its layout numbers them.
        truth, size, image, group, expression: None where only the dataset says it.
        boxes, points, failure, clipped, read_by: as they were read already; empty where only the text is there.
        candidate_scores: see `Prediction`; empty where answers were generated.
    """

    where: str
    text: str
    question: str = ""
    key: str | int | None = None
    number: str | int | None = None
    truth: GroundTruth | None = None
    size: tuple[int, int] | None = None
    image: str | None = None
    group: Mapping[str, Any] | None = None
    expression: str | None = None
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    failure: Failure | None = None
    time_spans: tuple[TimeSpan, ...] = ()
    duration: float | None = None
    clipped: int = 0
    read_by: tuple[str, ...] = ()
    candidate_scores: Mapping[str, float] = attribute(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLayout:
    """How one kind of file is recognised and read.

    Attributes:
        fields: those that its first record has, and no other layout's.
        key: the field of the annotation lines that `FileAnswer.key` is.
    """

    fields: tuple[str, ...]
    read: Callable[[Mapping[str, Any], str], FileAnswer]
    key: str | None = None


def _mllm(record: Mapping[str, Any], where: str) -> FileAnswer:
    check_record(record, where)
    boxes = _boxes(record["pred"], f"{where}: pred", record.get("pred_labels"), record.get("pred_scores"))
    points = _points(record.get("pred_points", []), f"{where}: pred_points")
    known = Prediction(
        key=record["key"],
        index=0,
        text=record["text"],
        boxes=_on_images(record, "pred_images", boxes),
        points=_on_images(record, "pred_point_images", points),
        time_spans=tuple(_spans(record.get("pred_spans", []), f"{where}: pred_spans")),
        truth=_own_truth(record, where),
    )
    failure: Failure | None = record.get("failure")
    size = record.get("image_size")
    return FileAnswer(
        where=where,
        text=known.text,
        question=record.get("question", ""),
        key=known.key,
        number=record["index"],
        truth=known.truth,
        size=None if size is None else _size(size, f"{where}: image_size"),
        image=record.get("image"),
        group=record.get("group") or {},
        expression=record.get("expression"),
        boxes=known.boxes,
        points=known.points,
        failure=None if failure == failure_of(known) else failure,  # what follows from the counts says nothing new
        time_spans=known.time_spans,
        duration=record.get("duration"),
        clipped=record.get("clipped", 0),
        read_by=tuple(record.get("read_by", ())),
        candidate_scores=record.get("candidate_scores") or {},
    )


def _own_truth(record: Mapping[str, Any], where: str) -> GroundTruth:
    target, texts = record["target"], tuple(record.get("target_texts", ()))
    if target and isinstance(target[0], str):
        target, texts = [], tuple(target)
    boxes = _on_images(record, "target_images", _boxes(target, f"{where}: target", record.get("target_labels")))
    points = _points(record.get("target_points", []), f"{where}: target_points")
    candidates = _boxes(record.get("candidates", []), f"{where}: candidates")
    return GroundTruth(
        boxes=boxes,
        points=_on_images(record, "target_point_images", points),
        time_spans=tuple(_spans(record.get("target_spans", []), f"{where}: target_spans")),
        texts=texts,
        options=tuple(record.get("options", ())),
        candidates=_on_images(record, "candidate_images", candidates),
        masks=tuple(record.get("masks", ())),
        no_target="iou" in record and not record["target"] and not record.get("target_spans"),
    )


def _on_images(record: Mapping[str, Any], name: str, regions: Iterable[Region]) -> tuple[Region, ...]:
    """The regions on the images whose numbers the field `name` holds, where it is there."""
    found = tuple(regions)
    images = record.get(name, [region.image for region in found])
    return tuple(replace(region, image=image) for region, image in zip(found, images, strict=True))


def _internvl(record: Mapping[str, object], where: str) -> FileAnswer:
    height, width = _size(field(record, "hw", list, where=where), f"{where}: hw")
    (box,) = _boxes([record["gt_bbox"]], f"{where}: gt_bbox")
    return FileAnswer(
        where=where,
        text=field(record, "answer", str, where=where),
        truth=GroundTruth(boxes=(box,)),
        size=(width, height),
    )


def _vlmevalkit(record: Mapping[str, object], where: str) -> FileAnswer:
    text, key = _cell(record, "prediction", where) or "", _cell(record, "index", where) or ""
    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "width", "height")
    if not all(name in record for name in names):
        reference = _cell(record, "answer", where)
        truth = None if reference is None else GroundTruth(texts=(reference,))
        return FileAnswer(where=where, text=text, key=key, number=key, truth=truth)
    *corners, width, height = (_number(record[name], f"{where}: {name}") for name in names)
    (box,) = _boxes([corners], f"{where}: bbox_x1")
    split = _cell(record, "split", where)
    return FileAnswer(
        where=where,
        text=text,
        key=key,
        number=key,
        truth=GroundTruth(boxes=(box,)),
        size=_size([width, height], f"{where}: width, height"),
        group={"split": split} if split else {},
    )


def _lmms_eval(record: Mapping[str, Any], where: str) -> FileAnswer:
    responses = record.get("filtered_resps", record.get("resps"))
    while isinstance(responses, list) and responses:
        responses = cast("list[object]", responses)[0]
    if not isinstance(responses, str):
        raise DataError(where=where, field="filtered_resps", expected="a text", found=show(responses))
    named = [cast("dict[str, Any]", value) for value in record.values() if isinstance(value, dict)]
    regions = [value for value in named if {"bbox", "pred"} <= value.keys()]
    truth = size = None
    if regions:
        corners = [_number(value, f"{where}: bbox") for value in field(regions[0], "bbox", list, where=where)]
        if not any(value > LARGEST_FRACTION for value in corners):  # else pixels of an image whose size is not there
            box = [value * UNIT for value in corners]
            truth, size = GroundTruth(boxes=tuple(_boxes([box], f"{where}: bbox"))), (UNIT, UNIT)
    elif isinstance(record.get("target"), str):
        truth = GroundTruth(texts=(record["target"],))
    number = field(record, "doc_id", int, where=where)
    return FileAnswer(where=where, text=responses, key=number, number=number, truth=truth, size=size)


def _shikra(record: Mapping[str, object], where: str) -> FileAnswer:
    """Texts alone: their numbers are fractions of the padded square, which is taken for the image.

    The truth is the whole target, and where it says `The answer is ...`, what follows.
    """
    target = field(record, "target", str, where=where)
    boxes = [[float(value) * UNIT for value in box.split(",")] for box in _SHIKRA.findall(target)]
    truth = GroundTruth(boxes=tuple(_boxes(boxes, f"{where}: target")), texts=() if boxes else _texts_of(target))
    return FileAnswer(where=where, text=field(record, "pred", str, where=where), truth=truth, size=(UNIT, UNIT))


def _texts_of(target: str) -> tuple[str, ...]:
    short = short_answer(target)
    return (target,) if short == whole_answer(target) else (short, target)


def _by(key: str, text: str) -> Callable[[Mapping[str, Any], str], FileAnswer]:
    def read(record: Mapping[str, Any], where: str) -> FileAnswer:
        return FileAnswer(
            where=where, text=field(record, text, str, where=where), key=field(record, key, ID, where=where)
        )

    return read


def _detection(record: Mapping[str, object], where: str) -> FileAnswer:
    """One box, its category's id as the label."""
    image, category = (field(record, name, ID, where=where) for name in ("image_id", "category_id"))
    ((x, y, width, height),) = _rows([record["bbox"]], 4, f"{where}: bbox")
    corners = [x, y, x + width, y + height]
    score = field(record, "score", float, where=where)
    boxes = _boxes([corners], f"{where}: bbox", [str(category)], [score])
    return FileAnswer(where=where, text="", key=image, boxes=tuple(boxes))


def _plain(record: Mapping[str, object], where: str) -> FileAnswer:
    return FileAnswer(where=where, text=field(record, "text", str, where=where))


LAYOUTS: Mapping[str, AnswerLayout] = {
    "mllm": AnswerLayout(fields=("key", "index", "text", "pred"), read=_mllm),
    "internvl": AnswerLayout(fields=("answer", "gt_bbox", "hw"), read=_internvl),
    "lmms_eval": AnswerLayout(fields=("doc_id",), read=_lmms_eval),
    "vlmevalkit": AnswerLayout(fields=("index", "prediction"), read=_vlmevalkit, key="index"),
    "shikra": AnswerLayout(fields=("pred", "target"), read=_shikra),
    "llava": AnswerLayout(fields=("question_id", "text"), read=_by("question_id", "text"), key="question_id"),
    "vqa": AnswerLayout(fields=("question_id", "answer"), read=_by("question_id", "answer"), key="question_id"),
    "gqa": AnswerLayout(fields=("questionId", "prediction"), read=_by("questionId", "prediction"), key="questionId"),
    "coco_captions": AnswerLayout(fields=("image_id", "caption"), read=_by("image_id", "caption"), key="image_id"),
    "coco_detection": AnswerLayout(fields=("image_id", "category_id", "bbox", "score"), read=_detection),
    "vizwiz": AnswerLayout(fields=("image", "answer"), read=_by("image", "answer"), key="image"),
    "texts": AnswerLayout(fields=("text",), read=_plain),
}


def read_answers(path: str, layout: str | None) -> tuple[str, list[FileAnswer]]:
    """The name of the file's layout, and its answers.

    Args:
        layout: None recognises it by the fields of the first record.

    Raises:
        DataError: names file, record and field.
    """
    if layout is not None and layout not in LAYOUTS:
        raise DataError(nearest(layout, LAYOUTS), where="--layout", expected="a layout of answers", found=show(layout))
    answers: list[FileAnswer] = []
    for record, where in records_of(path):
        layout = layout or _recognised(record, where)
        for name in LAYOUTS[layout].fields:
            if name not in record:
                found = describe_absent(record)
                raise DataError(where=where, field=name, expected=f"a value (layout '{layout}')", found=found)
        answers.append(LAYOUTS[layout].read(record, where))
    if layout is None:
        raise DataError(where=path, expected="answers", found="an empty file")
    return layout, answers


def _recognised(record: Mapping[str, object], where: str) -> str:
    for name, layout in LAYOUTS.items():
        if all(each in record for each in layout.fields):
            return name
    known = "; ".join(f"{name}: {', '.join(layout.fields)}" for name, layout in LAYOUTS.items())
    raise DataError(where=where, expected=f"the fields of a known layout ({known})", found=describe_absent(record))


def _cell(record: Mapping[str, object], name: str, where: str) -> str | None:
    """What a cell says; None where there is none, or an empty one, which pandas writes as null or NaN."""
    value = record.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(field(record, name, str | float, where=where))


def _number(value: object, where: str) -> float:
    try:
        if isinstance(value, str) or is_finite(value):
            return float(value)
    except ValueError:
        pass
    raise DataError(where=where, expected="a number", found=show(value))


def _size(value: object, where: str) -> tuple[int, int]:
    sides = cast("list[object]", value) if isinstance(value, list) else []
    if len(sides) != 2 or not all(isinstance(side, (int, float)) and 0 < side < math.inf for side in sides):
        raise DataError(where=where, expected="two sides in pixels", found=show(value))
    first, second = cast("list[float]", sides)
    return int(first), int(second)


def _boxes(
    values: object,
    where: str,
    labels: Sequence[str | None] | None = None,
    scores: Sequence[float | None] | None = None,
) -> Iterator[Box]:
    for number, (x1, y1, x2, y2) in enumerate(_rows(values, 4, where)):
        try:
            label, score = labels[number] if labels else None, scores[number] if scores else None
            yield Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label, score=score)
        except DataError as error:
            raise error.at(f"{where}[{number}]") from None


def _spans(values: object, where: str) -> Iterator[TimeSpan]:
    for start, end in _rows(values, 2, where):
        yield TimeSpan(start=start, end=end)


def _points(values: object, where: str) -> Iterator[Point]:
    for x, y in _rows(values, 2, where):
        yield Point(x=x, y=y)


def _rows(values: object, width: int, where: str) -> Iterator[list[float]]:
    for number, row in enumerate(cast("list[object]", values if isinstance(values, list) else [values])):
        numbers = cast("list[object]", row) if isinstance(row, list) else []
        if len(numbers) != width:
            raise DataError(where=f"{where}[{number}]", expected=f"{width} numbers", found=show(row))
        yield [_number(value, f"{where}[{number}]") for value in numbers]
