"""VQAv2, OK-VQA -> {name of the questions}.jsonl, for the dataset VQAv2.

    python tools/convert/vqav2.py data/originals/v2_OpenEnded_mscoco_train2014_questions.json \\
        --annotations data/originals/v2_mscoco_train2014_annotations.json

Without annotations, as for the test split, the lines are questions alone. OK-VQA's files,
OpenEnded_mscoco_*_questions.json and mscoco_*_annotations.json, name no most frequent answer: it is counted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.answers import vqa_annotation as counted
from mllm.convert.conversion import Outputs, Placed, entries, index_by_id, main
from mllm.files import read_json
from mllm.json_fields import ID, field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, help="v2_OpenEnded_mscoco_*_questions.json, OK-VQA's without v2_")
    parser.add_argument("--annotations", type=Path, help="v2_mscoco_*_annotations.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    questions = read_json(given.questions, dict)
    # test-dev2015 is a part of the images of test2015
    images = field(questions, "data_subtype", str, where=given.questions).replace("test-dev", "test")
    answers: dict[int | str, Placed] | None = None
    if given.annotations:
        answers = index_by_id(read_json(given.annotations, dict), "annotations", given.annotations, "question_id")
    found = field(questions, "questions", list, where=given.questions)
    for where, asked in entries(out.progress(found, "questions"), f"{given.questions}: questions"):
        number = field(asked, "question_id", ID, where=where)
        line: dict[str, Any] = {
            "image_path": f"COCO_{images}_{field(asked, 'image_id', int, where=where):012}.jpg",
            "question": field(asked, "question", str, where=where),
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
    given = entries(field(annotation, "answers", list, where=where), f"{where}: answers")
    answers = [field(answer, "answer", str, where=place) for place, answer in given]
    if "multiple_choice_answer" not in annotation and answers:
        return {**counted(answers), **annotation}
    field(annotation, "multiple_choice_answer", str, where=where)
    return annotation


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
