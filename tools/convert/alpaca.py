"""Alpaca's layout -> {name of the file}.jsonl, for the dataset TextOnly.

    python tools/convert/alpaca.py data/originals/alpaca_data.json

`[{instruction, input, output}]`; `input` may be empty or absent. TextOnly reads such a file as it is, up to the first
record that cannot be trained on; here these are counted and left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, main, read_records
from mllm.json_fields import field
from mllm.types import BOXES, IMAGE, POINTS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="json or jsonl")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for where, record in out.progress(read_records(given.file), given.file.stem):
        line = {name: field(record, name, str, where=where) for name in ("instruction", "output")}
        if record.get("input"):
            line["input"] = field(record, "input", str, where=where)
        if not line["instruction"].strip():
            out.skip("records without an instruction")
        elif not line["output"].strip():
            out.skip("records without an output")
        elif any(mark in words for mark in (IMAGE, BOXES, POINTS) for words in line.values()):
            out.skip("records with <image>, <boxes> or <points> among their words")
        else:
            out.write(f"{given.file.stem}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
