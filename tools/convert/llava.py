"""LLaVA's layout -> {name of the file}.jsonl, for the dataset Instruct.

    python tools/convert/llava.py data/originals/llava_instruct_150k.json
    python tools/convert/llava.py data/originals/llava_instruct_150k_llavar_20k.json

`[{id, image?, conversations: [{from: human|gpt, value}]}]`: LLaVA-Instruct, the mix of LLaVA-1.5, LLaVAR, ShareGPT4V,
and SVIT in its folder format/llava-v1.5. Instruct reads such a file as it is, up to the first record that cannot be
trained on; here these are counted and left out. Boxes that stand as numbers in the words stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversations import turns_of
from mllm.convert.conversion import Outputs, main, read_records
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="json or jsonl")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for where, record in out.progress(read_records(given.file), given.file.stem):
        line: dict[str, Any] = {name: record[name] for name in ("id",) if name in record}
        if record.get("image") is not None:
            line["image"] = field(record, "image", str, where=where)
        said = field(record, "conversations", list, where=where)
        turns = turns_of(said, f"{where}: conversations", out, images=int("image" in line))
        if turns is not None:
            out.write(f"{given.file.stem}.jsonl", {**line, "conversations": turns})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
