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

from mllm.convert.conversion import Outputs, entry, main, need, read_json

NEEDED = ("imageId", "question", "answer")
READ = {"fullAnswer": str, "semanticStr": str, "annotations": dict}
"""Fields that only some versions of the dataset read."""
PART = re.compile(r"_questions(_\d+)?$")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", type=Path, nargs="+", help="*_questions.json, or all parts of one")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for path in given.questions:
        name = f"gqa_{PART.sub('', path.stem)}.jsonl"
        for key, question in out.progress(list(read_json(path, dict).items()), path.stem):
            where = f"{path}: {key}"
            record = entry(question, where)
            if "answer" not in record:
                out.skip("questions without answer (a test split)")
                continue
            line: dict[str, Any] = {"id": key, **{field: need(record, field, where, str) for field in NEEDED}}
            line |= {field: need(record, field, where, kind) for field, kind in READ.items() if field in record}
            out.write(name, line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
