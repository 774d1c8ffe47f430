"""NLVR2 -> nlvr2_{split}.jsonl, for the dataset InstructFlamingo: two pictures, a sentence, true or false.

    python -m tools.convert.nlvr2 data/originals/train.json

Pictures are named as the public archives unpack: images/train/39/train-10171-0-img0.png, dev/dev-850-0-img0.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.errors import DataError
from tools.convert.conversion import Outputs, main, need, read_lines


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sentences", type=Path, help="train.json, dev.json or test1.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.sentences
    for record in out.progress(read_lines(path), path.stem):
        name = need(record, "identifier", path, str).rpartition("-")[0]
        label = need(record, "label", path, str)
        if label not in ("True", "False"):
            raise DataError(f"{path}: label: expected True or False, found {label!r}")
        folder = f"images/train/{record['directory']}" if "directory" in record else path.stem
        pictures = "".join(f"<img_path>{folder}/{name}-img{side}.png<img_path>" for side in (0, 1))
        asked = f"{pictures}\nTrue or false of the left and the right picture: {need(record, 'sentence', path, str)}"
        out.write(f"nlvr2_{path.stem}.jsonl", {"input": asked, "output": label.lower()})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
