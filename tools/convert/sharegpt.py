"""ShareGPT's layout -> sharegpt_{name of the file}.jsonl, for the dataset Instruct: text alone.

    python tools/convert/sharegpt.py data/originals/ShareGPT_V3_unfiltered_cleaned_split.json

`[{id?, conversations: [{from: human|gpt|system|..., value}]}]`; user, chatgpt and assistant are understood as well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversations import turns_of
from mllm.convert.conversion import Outputs, main, read_records
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="json or jsonl")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for where, record in out.progress(read_records(given.file), given.file.stem):
        turns = turns_of(field(record, "conversations", list, where=where), f"{where}: conversations", out)
        if turns is not None:
            out.write(f"sharegpt_{given.file.stem}.jsonl", {"conversations": turns})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
