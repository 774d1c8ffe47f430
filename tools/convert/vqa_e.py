"""VQA-E -> vqa_E_{train,val}.jsonl, for the dataset VQAReason.

    python tools/convert/vqa_e.py data/originals/VQA-E_train_set.json

`[{img_id, question, multiple_choice_answer, explanation: [text, how sure], ...}]`, on the images of COCO 2014, of the
split that is in the name of the file. The lines have the fields of Shikra's: `file_path`, `multiple_answers`.

Source: Li et al. 2018, VQA-E; for the fields, public code that reads the files; for the lines, vqaex.py of
shikras/shikra.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, main, read_records
from mllm.errors import DataError
from mllm.fields import show
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="VQA-E_train_set.json or VQA-E_val_set.json")
    parser.add_argument("--split", choices=("train", "val"), help="whose images; by default as in the name")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    split = given.split or ("val" if "val" in given.file.stem else "train")
    for where, record in out.progress(read_records(given.file), given.file.stem):
        explanation = field(record, "explanation", list, where=where)
        if not explanation or not isinstance(explanation[0], str):
            expected, found = "a text and how sure it is", show(explanation)
            raise DataError(where=where, field="explanation", expected=expected, found=found)
        if not explanation[0].strip():
            out.skip("explanations without a word")
            continue
        line = {
            "file_path": f"{split}2014/COCO_{split}2014_{field(record, 'img_id', int, where=where):012}.jpg",
            "question": field(record, "question", str, where=where),
            "explanation": explanation,
            "multiple_answers": field(record, "multiple_choice_answer", str, where=where),
        }
        out.write(f"vqa_E_{split}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
