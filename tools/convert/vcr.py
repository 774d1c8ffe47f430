"""VCR -> vcr_{train,val}.jsonl, for the dataset VCR.

    python tools/convert/vcr.py data/originals/vcr1annots/train.jsonl data/images/vcr1images

The boxes of the objects are in a file for each picture, beside it; they are put into the lines.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, main, need, read_json, read_records
from mllm.errors import DataError
from mllm.types import is_finite

FIELDS = (
    "img_fn",
    "question",
    "answer_choices",
    "answer_label",
    "rationale_choices",
    "rationale_label",
    "objects",
    "question_number",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="train.jsonl or val.jsonl")
    parser.add_argument("pictures", type=Path, help="the folder vcr1images")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    root = given.pictures.resolve()
    for where, record in out.progress(read_records(given.annotations), given.annotations.stem):
        if "answer_label" not in record:
            out.skip("questions without answer (a test split)")
            continue
        path = (root / need(record, "metadata_fn", where, str)).resolve()
        if not path.is_relative_to(root):
            raise DataError(f"{where}: metadata_fn: expected a file under {root}, found {path}")
        if not path.exists():
            out.skip("questions whose file of boxes is missing")
            continue
        boxes = need(read_json(path, dict), "boxes", path, list)
        for number, box in enumerate(boxes):
            if not isinstance(box, list) or len(box) < 4 or not all(map(is_finite, box)):
                raise DataError(f"{path}: boxes[{number}]: expected 4 numbers, found {box!r:.60}")
        check(record, where, len(boxes))
        line = {**{name: record[name] for name in FIELDS if name in record}, "boxes": boxes}
        out.write(f"vcr_{given.annotations.stem}.jsonl", line)


def check(record: dict[str, Any], where: str, boxes: int) -> None:
    """Words and indices of boxes, and labels of the choices.

    Raises:
        DataError: there is something else; names the field.
    """
    need(record, "img_fn", where, str)
    check_words(need(record, "question", where, list), f"{where}: question", boxes)
    for kind in ("answer", "rationale"):
        choices = need(record, f"{kind}_choices", where, list)
        for number, choice in enumerate(choices):
            check_words(choice, f"{where}: {kind}_choices[{number}]", boxes)
        label = need(record, f"{kind}_label", where, int)
        if not 0 <= label < len(choices):
            raise DataError(f"{where}: {kind}_label: expected an index of {len(choices)} choices, found {label}")


def check_words(words: object, where: str, boxes: int) -> None:
    if not isinstance(words, list) or not words:
        raise DataError(f"{where}: expected a list of words and lists of indices, found {words!r:.60}")
    for word in words:
        if isinstance(word, str):
            continue
        if not isinstance(word, list) or not word or not all(n in range(boxes) for n in word):
            raise DataError(f"{where}: expected words and lists of indices of {boxes} boxes, found {word!r:.60}")


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
