"""A-OKVQA -> {name of the file}.jsonl, for the dataset AOKVQA.

    python tools/convert/aokvqa.py data/originals/aokvqa_v1p0_train.json

`[{image_id, question_id, question, choices, difficult_direct_answer, correct_choice_idx, direct_answers, rationales}]`;
the test split has no answers and no rationales. AOKVQA reads this file as well; the lines hold what it needs, checked.

Source: the files of allenai/aokvqa.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, main, need, read_records, texts
from mllm.errors import DataError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, help="aokvqa_v1p0_*.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for where, record in out.progress(read_records(given.questions), given.questions.stem):
        choices = texts(record, "choices", where)
        line: dict[str, Any] = {
            "image_id": need(record, "image_id", where, int),
            "question_id": need(record, "question_id", where, str),
            "question": need(record, "question", where, str),
            "choices": choices,
            "difficult_direct_answer": need(record, "difficult_direct_answer", where, bool),
        }
        if "correct_choice_idx" in record:
            index = need(record, "correct_choice_idx", where, int)
            if not 0 <= index < len(choices):
                raise DataError(
                    f"{where}: correct_choice_idx: expected an index of {len(choices)} choices, found {index}"
                )
            line["correct_choice_idx"] = index
            line |= {name: texts(record, name, where) for name in ("direct_answers", "rationales")}
        if line["question"].strip():
            out.write(f"{given.questions.stem}.jsonl", line)
        else:
            out.skip("questions without a word")


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
