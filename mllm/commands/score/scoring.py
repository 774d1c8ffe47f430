"""Answers of a file as predictions: joined to a dataset where one is given, read by a codec where one is named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from mllm.commands.score.layouts import LAYOUTS, FileAnswer
from mllm.conversation.convention import Convention
from mllm.dataset.base import Dataset
from mllm.errors import ConfigError, DataError
from mllm.fields import show
from mllm.images import ImageRef
from mllm.json_fields import describe_absent
from mllm.metrics.outcome import ImageIds
from mllm.pipeline.remote import read_answer_in
from mllm.pipeline.splits import line_of
from mllm.types import Item, Prediction

MAX_NAMED_KEYS = 5
"""Keys that a message lists."""
_DIGITS = re.compile(r"(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What can be scored: predictions, and the name of each one's image, and its question, as far as it is known.

    `items` are those of the predictions, where there is a dataset and they are in its order. `left_out` says what of
    the file is not scored, and why; else empty.
    """

    predictions: list[Prediction]
    images: list[str]
    questions: list[str]
    items: Dataset | None = None
    left_out: str = ""


def from_answers(answers: Sequence[FileAnswer], convention: Convention | None) -> Scored:
    """Predictions of a file that holds its own truths.

    Raises:
        DataError: it does not, or has two answers of one name; a size is missing that the codec needs.
    """
    check_distinct([str(answer.number) for answer in answers if answer.number is not None], "two answers")
    predictions: list[Prediction] = []
    for index, answer in enumerate(answers):
        if answer.truth is None:
            raise DataError(
                "name the config of the questions with --data",
                where=answer.where,
                expected="the ground truth: texts, or a box and the size of its image",
                found="none",
            )
        key = answer.key if isinstance(answer.key, str) else answer.where
        known = Prediction(
            key=key,
            index=index,
            text=answer.text,
            truth=answer.truth,
            group=answer.group or {},
            expression=answer.expression,
            image_size=answer.size,
        )
        predictions.append(_read(answer, known, convention))
    return Scored(
        predictions=predictions,
        images=[answer.image or answer.where for answer in answers],
        questions=[answer.question for answer in answers],
    )


def join_with_items(
    answers: Sequence[FileAnswer], items: Dataset, layout: str, key: str | None, convention: Convention | None
) -> Scored:
    """Predictions for every item of a dataset.

    Args:
        key: the field of the annotation lines that names a question; None: the layout's own. Where it has none, answers
            are in the order of the dataset.

    Raises:
        DataError: answers are missing, doubled, or belong to no item; names them.
    """
    items.set_epoch(None)
    order = _order(answers, items, layout, key)
    name = ImageIds()
    predictions: list[Prediction] = []
    images: list[str] = []
    questions: list[str] = []
    for index, answer in enumerate(order):
        item = items[index]
        known = Prediction(
            key=item.key,
            index=index,
            text=answer.text,
            truth=item.truth,
            group=item.group,
            expression=item.expression,
            image_size=_size_of(item),
        )
        predictions.append(_read(answer, known, convention, item))
        images.append(name(item))
        questions.append(item.prompt[-1].text)
    return Scored(predictions=predictions, images=images, questions=questions, items=items)


def _order(answers: Sequence[FileAnswer], items: Dataset, layout: str, key: str | None) -> list[FileAnswer]:
    """The answer of each item."""
    key = key or LAYOUTS[layout].key
    if layout == "mllm" and key is None:
        keys = [items[index].key for index in range(len(items))]
    elif key is not None:
        keys = [field_of(items, index, key) for index in range(len(items))]
    elif layout == "lmms_eval":  # doc_id counts the dataset's rows
        keys = [str(index) for index in range(len(items))]
    else:
        if len(answers) != len(items):
            expected = f"{len(items)} answers, in the order of the dataset"
            raise DataError(where=answers[0].where, expected=expected, found=str(len(answers)))
        return list(answers)
    given = [str(answer.key) for answer in answers]
    if layout == "mllm" and len(set(keys)) < len(keys):  # a dataset that asks twice about its lines
        keys, given = _numbered(keys), _numbered(given)
    check_distinct(keys, "two items of the dataset")
    check_distinct(given, "two answers to one item")
    known = set(keys)
    unknown = [name for name in given if name not in known]
    by_key = dict(zip(given, answers, strict=True))
    missing = [name for name in keys if name not in by_key]
    for kind, names in (("answers to no item of the dataset", unknown), ("items without an answer", missing)):
        if names:
            where = answers[0].where.rsplit(":", 1)[0]
            raise DataError(where=where, message=f"{len(names)} {kind}: {_listed(names)}", kind="unknown-field")
    return [by_key[name] for name in keys]


def _numbered(names: Sequence[str]) -> list[str]:
    """The same, with how often each has come before."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})")
    return found


def check_distinct(names: Sequence[str], what: str) -> None:
    """
    Raises:
        DataError: a name comes twice; `what` says of what.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(message=f"{what} have the same key, {show(name)}", kind="duplicate")
        seen.add(name)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_KEYS} more" if len(names) > MAX_NAMED_KEYS else ""
    return ", ".join(map(show, names[:MAX_NAMED_KEYS])) + more


def field_of(items: Dataset, index: int, key: str) -> str:
    """A field of an item's annotation line; `image_id` also as the number at the end of an image's name."""
    found = line_of(items, index)
    if found is not None and key in found[0]:
        return str(found[0][key])
    if key == "image_id" and (number := _number_of(items[index].images)) is not None:
        return number
    if found is None:
        raise ConfigError(f"--key {key}: this dataset has no annotation lines; leave --key out")
    raise DataError(where=found[1], field=key, expected="the key of a question", found=describe_absent(found[0]))


def _number_of(images: Sequence[ImageRef]) -> str | None:
    path = getattr(images[0], "path", None) if images else None
    digits = _DIGITS.search(PurePath(path).stem) if path else None
    return str(int(digits[1])) if digits else None


def _size_of(item: Item) -> tuple[int, int] | None:
    return item.images[item.answer_image].size if item.images else None


def _read(answer: FileAnswer, known: Prediction, convention: Convention | None, item: Item | None = None) -> Prediction:
    """The prediction with its scores of candidates and its regions: those of the file, or read from the text by a
    codec."""
    known = replace(known, candidate_scores=answer.candidate_scores)
    if convention is None:
        return replace(
            known,
            boxes=answer.boxes,
            points=answer.points,
            failure=answer.failure,
            time_spans=answer.time_spans,
            time_failure=answer.failure if answer.truth is not None and answer.truth.time_spans else None,
            duration=answer.duration,
            clipped=answer.clipped,
            read_by=answer.read_by,
        )
    if item is not None:
        return read_answer_in(known.text, item, known.index, convention)
    if known.image_size is None:
        raise DataError(where=answer.where, expected="the size of its image, which a codec needs", found="none")
    return convention.on(known.image_size).read_into(known)
