"""NLVR2 -> nlvr2_{split}.jsonl, for the dataset InstructFlamingo: two pictures, a sentence, true or false.

    python tools/convert/nlvr2.py data/originals/train.json

The files hold an object a line. Pictures are named as the public archives unpack, by the identifier:
images/train/39/train-10171-0-img0.png (39 is its `directory`), dev/dev-850-0-img0.png, test1/test1-0-1-img0.png.

Source: the README and nlvr2/data of lil-lab/nlvr for the fields; write_nlvr2.py of dandelin/ViLT for the folders.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, main, need, read_records
from mllm.errors import DataError

IDENTIFIER = re.compile(r"\w+-\d+-\d+-\d+")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sentences", type=Path, help="train.json, dev.json, test1.json or test2.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.sentences
    for where, record in out.progress(read_records(path), path.stem):
        identifier = need(record, "identifier", where, str)
        if not IDENTIFIER.fullmatch(identifier):
            raise DataError(f"{where}: identifier: expected one such as train-10171-0-0, found {identifier!r:.60}")
        name = identifier.rpartition("-")[0]
        label = need(record, "label", where, str)
        if label not in ("True", "False"):
            raise DataError(f"{where}: label: expected True or False, found {label!r}")
        split = name.partition("-")[0]
        folder = f"images/train/{need(record, 'directory', where, int)}" if split == "train" else split
        pictures = "".join(f"<img_path>{folder}/{name}-img{side}.png<img_path>" for side in (0, 1))
        asked = f"{pictures}\nTrue or false of the left and the right picture: {need(record, 'sentence', where, str)}"
        out.write(f"nlvr2_{path.stem}.jsonl", {"input": asked, "output": label.lower()})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
