"""NLVR2 -> nlvr2_{split}.jsonl, for the dataset InstructFlamingo: two images, a sentence, true or false.

    python tools/convert/nlvr2.py data/originals/train.json

The files hold an object a line. Images are named as the public archives unpack, by the identifier:
images/train/39/train-10171-0-img0.png (39 is its `directory`), dev/dev-850-0-img0.png, test1/test1-0-1-img0.png.

Source: the README and nlvr2/data of lil-lab/nlvr for the fields; write_nlvr2.py of dandelin/ViLT for the folders.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, main, read_records
from mllm.errors import DataError
from mllm.fields import show
from mllm.json_fields import field

IDENTIFIER = re.compile(r"\w+-\d+-\d+-\d+")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sentences", type=Path, help="train.json, dev.json, test1.json or test2.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.sentences
    for where, record in out.progress(read_records(path), path.stem):
        identifier = field(record, "identifier", str, where=where)
        if not IDENTIFIER.fullmatch(identifier):
            expected, found = "one such as train-10171-0-0", show(identifier)
            raise DataError(where=where, field="identifier", expected=expected, found=found)
        name = identifier.rpartition("-")[0]
        label = field(record, "label", str, where=where)
        if label not in ("True", "False"):
            raise DataError(where=where, field="label", expected="True or False", found=show(label))
        split = name.partition("-")[0]
        folder = f"images/train/{field(record, 'directory', int, where=where)}" if split == "train" else split
        images = "".join(f"<img_path>{folder}/{name}-img{side}.png<img_path>" for side in (0, 1))
        said = field(record, "sentence", str, where=where)
        asked = f"{images}\nTrue or false of the left and the right image: {said}"
        out.write(f"nlvr2_{path.stem}.jsonl", {"input": asked, "output": label.lower()})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
