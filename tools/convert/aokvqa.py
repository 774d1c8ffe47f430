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

from mllm.convert.conversion import Outputs, main, read_records
from mllm.errors import DataError
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, help="aokvqa_v1p0_*.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for where, record in out.progress(read_records(given.questions), given.questions.stem):
        choices = field(record, "choices", list[str], where=where)
        line: dict[str, Any] = {
            "image_id": field(record, "image_id", int, where=where),
            "question_id": field(record, "question_id", str, where=where),
            "question": field(record, "question", str, where=where),
            "choices": choices,
            "difficult_direct_answer": field(record, "difficult_direct_answer", bool, where=where),
        }
        if "correct_choice_idx" in record:
            index = field(record, "correct_choice_idx", int, where=where)
            if not 0 <= index < len(choices):
                expected = f"an index of {len(choices)} choices"
                raise DataError(where=where, field="correct_choice_idx", expected=expected, found=str(index))
            line["correct_choice_idx"] = index
            line |= {name: field(record, name, list[str], where=where) for name in ("direct_answers", "rationales")}
        if line["question"].strip():
            out.write(f"{given.questions.stem}.jsonl", line)
        else:
            out.skip("questions without a word")


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
