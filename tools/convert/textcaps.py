"""TextCaps -> CAP_textcaps_{split}.jsonl, for the dataset Caption: all captions of an image in one line.

    python tools/convert/textcaps.py data/originals/TextCaps_0.1_train.json

The file is `{data: [{image_id, caption_str, ...}]}`, a record for each caption; those of the test split have none.
Images are `{image_id}.jpg` in train_images, of the archive train_val_images.zip, for both train and val.

Source: the preprocessing of google-research/pix2struct (textcaps), which reads the published files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, entries, main
from mllm.files import read_json
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("captions", type=Path, help="TextCaps_0.1_*.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    by_image: dict[str, list[str]] = {}
    path: Path = given.captions
    found = field(read_json(path, dict), "data", list, where=path)
    for where, record in entries(out.progress(found, "captions"), f"{path}: data"):
        caption = field(record, "caption_str", str, where=where).strip() if "caption_str" in record else ""
        if caption:
            by_image.setdefault(field(record, "image_id", str, where=where), []).append(caption)
        else:
            out.skip("records without a caption")
    name = f"CAP_textcaps_{path.stem.rpartition('_')[2]}.jsonl"
    for image, captions in by_image.items():
        out.write(name, {"img_path": f"{image}.jpg", "caption": captions})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
