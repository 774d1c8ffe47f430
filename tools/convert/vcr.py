"""VCR -> vcr_{train,val}.jsonl, for the dataset VCR.

    python -m tools.convert.vcr data/originals/vcr1annots/train.jsonl data/images/vcr1images

The boxes of the objects are in a file for each picture, beside it; they are put into the lines.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.errors import DataError
from tools.convert.conversion import Outputs, main, need, read_json, read_records

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
        line = {name: record[name] for name in FIELDS if name in record}
        line["boxes"] = need(read_json(path, dict), "boxes", path, list)
        out.write(f"vcr_{given.annotations.stem}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
