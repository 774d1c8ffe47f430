"""VizWiz-VQA -> vizwiz_{split}.jsonl, for the dataset VQAv2.

    python tools/convert/vizwiz.py data/originals/vizwiz/val.json

The file is `[{image, question, answers: [{answer, answer_confidence}], answer_type, answerable}]`; questions of the
test split have no answers. Images are in a folder of the split's name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.answers import vqa_annotation
from mllm.convert.conversion import Outputs, entries, main, read_records
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, help="train.json, val.json or test.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for where, record in out.progress(read_records(given.questions), "questions"):
        image = field(record, "image", str, where=where)
        line: dict[str, Any] = {
            "image_path": image,
            "question": field(record, "question", str, where=where),
            "image": image,
        }
        answers = field(record, "answers", list, where=where) if "answers" in record else []
        if answers:
            said = [field(each, "answer", str, where=at) for at, each in entries(answers, f"{where}: answers")]
            line["annotation"] = vqa_annotation(said)
        out.write(f"vizwiz_{given.questions.stem}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
