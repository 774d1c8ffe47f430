"""Files for evaluation servers: one record for every question of a dataset, in its order.

Facts on the formats: visualqa.org (VQAv2), LLaVA's converters for VizWiz and GQA, the server of COCO captions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mllm.answers import short_answer, stated
from mllm.commands.score.scoring import check_distinct, field_of
from mllm.dataset.base import Dataset
from mllm.errors import DataError
from mllm.fields import show
from mllm.files import writing_to
from mllm.types import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What one server takes.

    Attributes:
        key: names the question; a field of the annotation lines.
        answer: the name of the answer's field.
        text: what is sent of a text.
        numbered: whether the key is a whole number.
    """

    key: str
    answer: str
    text: Callable[[str], str]
    numbered: bool = True


FORMATS: Mapping[str, Format] = {
    "vqa": Format(key="question_id", answer="answer", text=short_answer),
    "gqa": Format(key="questionId", answer="prediction", text=lambda text: short_answer(text).lower(), numbered=False),
    "vizwiz": Format(key="image", answer="answer", text=lambda text: short_answer(text).lower(), numbered=False),
    "coco_captions": Format(key="image_id", answer="caption", text=stated),
}


def write_submission(path: Path, name: str, predictions: Sequence[Prediction], items: Dataset) -> None:
    """Write the answers to every item of a dataset, joined to it before, for the server `name`.

    Raises:
        DataError: an item has no key, not a number where one is needed, or that of another.
    """
    form = FORMATS[name]
    keys = [field_of(items, prediction.index, form.key) for prediction in predictions]
    check_distinct(keys, "two items of the dataset")
    records = [
        {form.key: _number(key, prediction) if form.numbered else key, form.answer: form.text(prediction.text)}
        for key, prediction in zip(keys, predictions, strict=True)
    ]
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(records, ensure_ascii=False) + "\n", encoding="utf-8")


def _number(key: str, prediction: Prediction) -> int:
    if not key.isdecimal():
        raise DataError(where=prediction.key, expected="a whole number as the key of a question", found=show(key))
    return int(key)
