"""ScienceQA -> scienceqa_{split}.jsonl, for the dataset ScienceQA.

    python tools/convert/scienceqa.py data/originals/problems.json data/originals/pid_splits.json --split train val test

problems.json: `{id: {question, choices, answer, hint, image, lecture, solution, split, ...}}`, pid_splits.json:
`{split: [ids]}`. ScienceQA reads these two as well; here is a file for each split. Images are named as the public
archives unpack, train/1/image.png.

Source: the files of lupantech/ScienceQA.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, main
from mllm.errors import DataError, nearest
from mllm.files import read_json
from mllm.json_fields import field

TEXTS = ("question", "hint", "lecture", "solution", "split")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("problems", type=Path, help="problems.json")
    parser.add_argument("splits", type=Path, help="pid_splits.json")
    parser.add_argument("--split", nargs="+", default=["train", "val", "test"], help="keys of pid_splits.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    problems, splits = read_json(given.problems, dict), read_json(given.splits, dict)
    for split in given.split:
        if split not in splits:
            raise DataError(f"{split!r} is not among its splits; {nearest(split, splits)}", where=str(given.splits))
        for number in out.progress(field(splits, split, list, where=given.splits), split):
            key, where = str(number), f"{given.problems}: {number}"
            if key not in problems:
                out.skip("ids that are not in problems.json")
                continue
            problem = field(problems, key, dict, where=given.problems)
            out.write(f"scienceqa_{split}.jsonl", {"id": key, **checked(problem, where)})


def checked(problem: dict[str, Any], where: str) -> dict[str, Any]:
    choices, answer = field(problem, "choices", list[str], where=where), field(problem, "answer", int, where=where)
    if not 0 <= answer < len(choices):
        expected = f"an index of {len(choices)} choices"
        raise DataError(where=where, field="answer", expected=expected, found=str(answer))
    line = {name: field(problem, name, str, where=where) for name in TEXTS}
    image = field(problem, "image", str, where=where) if problem.get("image") else None
    return {**line, "choices": choices, "answer": answer, "image": image}


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
