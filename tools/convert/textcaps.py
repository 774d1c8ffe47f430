"""TextCaps -> CAP_textcaps_{split}.jsonl, for the dataset Caption: all captions of a picture in one line.

python -m tools.convert.textcaps data/originals/TextCaps_0.1_train.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.convert.conversion import Outputs, main, need, read_json


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("captions", type=Path, help="TextCaps_0.1_*.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    by_picture: dict[str, list[str]] = {}
    for record in need(read_json(given.captions, dict), "data", given.captions, list):
        caption = record.get("caption_str")
        if isinstance(caption, str) and caption.strip():
            by_picture.setdefault(need(record, "image_id", given.captions, str), []).append(caption.strip())
        else:
            out.skip("records without a caption")
    name = f"CAP_textcaps_{given.captions.stem.rpartition('_')[2]}.jsonl"
    for picture, captions in out.progress(list(by_picture.items()), "pictures"):
        out.write(name, {"img_path": f"{picture}.jpg", "caption": captions})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
