"""GQA -> gqa_{name}.jsonl, for the dataset GQA.

    python tools/convert/gqa.py data/originals/train_balanced_questions.json
    python tools/convert/gqa.py data/originals/train_all_questions/*.json

`{id: {imageId, question, answer, fullAnswer, semanticStr, annotations, ...}}`. GQA reads such a file as it is; here the
parts train_all_questions_0.json to _9.json become one gqa_train_all.jsonl, with the fields that GQA reads. The boxes of
objects stay in train_sceneGraphs.json, the dataset's `scene_graphs`.

Source: the files of cs.stanford.edu/people/dorarad/gqa.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, main
from mllm.files import read_json
from mllm.json_fields import field

NEEDED = ("imageId", "question", "answer")
READ = {"fullAnswer": str, "semanticStr": str, "annotations": dict}
"""Fields that only some versions of the dataset read."""
PART = re.compile(r"_questions(_\d+)?$")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, nargs="+", help="*_questions.json, or all parts of one")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for path in given.questions:
        file = f"gqa_{PART.sub('', path.stem)}.jsonl"
        records = read_json(path, dict)
        for key in out.progress(list(records), path.stem):
            where, record = f"{path}: {key}", field(records, key, dict, where=path)
            if "answer" not in record:
                out.skip("questions without answer (a test split)")
                continue
            line: dict[str, Any] = {"id": key, **{name: field(record, name, str, where=where) for name in NEEDED}}
            line |= {name: field(record, name, kind, where=where) for name, kind in READ.items() if name in record}
            out.write(file, line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
