"""VCR -> vcr_{train,val}.jsonl, for the dataset VCR.

    python tools/convert/vcr.py data/originals/vcr1annots/train.jsonl data/images/vcr1images

The boxes of the objects are in a file for each image, beside it; they are put into the lines.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, main, read_records
from mllm.errors import DataError
from mllm.fields import PathName, is_finite, show
from mllm.files import read_json
from mllm.json_fields import field

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
    parser.add_argument("images", type=Path, help="the folder vcr1images")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    root = given.images.resolve()
    for where, record in out.progress(read_records(given.annotations), given.annotations.stem):
        if "answer_label" not in record:
            out.skip("questions without answer (a test split)")
            continue
        path = (root / field(record, "metadata_fn", PathName, where=where)).resolve()
        if not path.is_relative_to(root):
            raise DataError(where=where, field="metadata_fn", expected=f"a file under {root}", found=str(path))
        if not path.exists():
            out.skip("questions whose file of boxes is missing")
            continue
        boxes = field(read_json(path, dict), "boxes", list, where=path)
        for number, box in enumerate(boxes):
            if not isinstance(box, list) or len(box) < 4 or not all(map(is_finite, box)):
                found = show(box)
                raise DataError(where=str(path), field=f"boxes[{number}]", expected="4 numbers", found=found)
        check(record, where, len(boxes))
        line = {**{name: record[name] for name in FIELDS if name in record}, "boxes": boxes}
        out.write(f"vcr_{given.annotations.stem}.jsonl", line)


def check(record: dict[str, Any], where: str, boxes: int) -> None:
    """Words and indices of boxes, and labels of the choices.

    Raises:
        DataError: there is something else; names the field.
    """
    field(record, "img_fn", str, where=where)
    check_words(field(record, "question", list, where=where), where, "question", boxes)
    for kind in ("answer", "rationale"):
        choices = field(record, f"{kind}_choices", list, where=where)
        for number, choice in enumerate(choices):
            check_words(choice, where, f"{kind}_choices[{number}]", boxes)
        label = field(record, f"{kind}_label", int, where=where)
        if not 0 <= label < len(choices):
            expected = f"an index of {len(choices)} choices"
            raise DataError(where=where, field=f"{kind}_label", expected=expected, found=str(label))


def check_words(words: object, where: str, at: str, boxes: int) -> None:
    if not isinstance(words, list) or not words:
        expected = "a list of words and lists of indices"
        raise DataError(where=where, field=at, expected=expected, found=show(words))
    for word in words:
        if isinstance(word, str):
            continue
        if not isinstance(word, list) or not word or not all(n in range(boxes) for n in word):
            expected = f"words and lists of indices of {boxes} boxes"
            raise DataError(where=where, field=at, expected=expected, found=show(word))


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
