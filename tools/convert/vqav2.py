"""VQAv2 -> {name of the questions}.jsonl, for the dataset VQAv2.

    python tools/convert/vqav2.py data/originals/v2_OpenEnded_mscoco_train2014_questions.json \\
        --annotations data/originals/v2_mscoco_train2014_annotations.json

Without annotations, as for the test split, the lines are questions alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Id, Outputs, Placed, by_id, entries, main, need, need_id, read_json


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, help="v2_OpenEnded_mscoco_*_questions.json")
    parser.add_argument("--annotations", type=Path, help="v2_mscoco_*_annotations.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    questions = read_json(given.questions, dict)
    # test-dev2015 is a part of the pictures of test2015
    pictures = need(questions, "data_subtype", given.questions, str).replace("test-dev", "test")
    answers: dict[Id, Placed] | None = None
    if given.annotations:
        answers = by_id(read_json(given.annotations, dict), "annotations", given.annotations, "question_id")
    found = need(questions, "questions", given.questions, list)
    for where, asked in entries(out.progress(found, "questions"), f"{given.questions}: questions"):
        number = need_id(asked, "question_id", where)
        line: dict[str, Any] = {
            "image_path": f"COCO_{pictures}_{need(asked, 'image_id', where, int):012}.jpg",
            "question": need(asked, "question", where, str),
            "question_id": number,
        }
        if answers is not None:
            if number not in answers:
                out.skip("questions without annotation")
                continue
            line["annotation"] = checked(*answers[number])
        out.write(f"{given.questions.stem}.jsonl", line)


def checked(where: str, annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation with the texts that the dataset reads."""
    need(annotation, "multiple_choice_answer", where, str)
    for place, answer in entries(need(annotation, "answers", where, list), f"{where}: answers"):
        need(answer, "answer", place, str)
    return annotation


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
