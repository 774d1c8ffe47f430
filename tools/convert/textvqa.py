"""TextVQA -> textvqa_{split}.jsonl, for the dataset VQAv2.

    python tools/convert/textvqa.py data/originals/TextVQA_0.5.1_val.json \\
        --ocr data/originals/TextVQA_Rosetta_OCR_v0.2_val.json

The file is `{data: [{image_id, question, question_id, answers: [ten texts], ...}]}`; questions of the test split have
no answers. With `--ocr`, `{data: [{image_id, ocr_tokens}]}`, the words that were read in the image follow the question,
as in LLaVA's prompts. Images are `{image_id}.jpg` in train_images, for both train and val.

Source: the published files; of the words behind the question docs/Evaluation.md of haotian-liu/LLaVA.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.answers import vqa_annotation
from mllm.convert.conversion import Outputs, entries, index_by_id, main
from mllm.files import read_json
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, help="TextVQA_0.5.1_*.json")
    parser.add_argument("--ocr", type=Path, help="TextVQA_Rosetta_OCR_v0.2_*.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.questions
    words: dict[int | str, str] = {}
    if given.ocr:
        for image, (where, record) in index_by_id(read_json(given.ocr, dict), "data", given.ocr, "image_id").items():
            words[image] = ", ".join(field(record, "ocr_tokens", list[str], where=where))
    name = f"textvqa_{path.stem.rpartition('_')[2]}{'_ocr' if given.ocr else ''}.jsonl"
    found = field(read_json(path, dict), "data", list, where=path)
    for where, record in entries(out.progress(found, "questions"), f"{path}: data"):
        image = field(record, "image_id", str, where=where)
        question = field(record, "question", str, where=where)
        if given.ocr:
            question += f"\nReference OCR token: {words.get(image, '')}"
        line: dict[str, Any] = {
            "image_path": f"{image}.jpg",
            "question": question,
            "question_id": field(record, "question_id", int, where=where),
        }
        if answers := field(record, "answers", list[str], where=where) if "answers" in record else []:
            line["annotation"] = vqa_annotation(answers)
        out.write(name, line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
