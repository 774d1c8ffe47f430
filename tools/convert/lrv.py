"""LRV-Instruction -> lrv_{name of the file}.jsonl, for the dataset Instruct.

    python tools/convert/lrv.py data/originals/filter_cap1.json --images data/originals/image_data.json
    python tools/convert/lrv.py data/originals/chart_release_update.json

`[{image_id, question, answer, task}]`. An `image_id` is a number of Visual Genome: with its image_data.json the image
is named as Visual Genome's archives unpack, VG_100K/2.jpg; without it 2.jpg, as LRV's own archive does. That of a chart
is the name of its file. filter_cap1.json and filter_cap_more1.json are filter_cap.json and filter_cap_more.json without
coordinates in the words.

Source: the README of FuxiaoLiu/LRV-Instruction; lrv_instruct.py of TRI-ML/prismatic-vlms for files and charts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversations import turns_of
from mllm.convert.conversion import Outputs, main, read_records
from mllm.convert.visual_genome import vg_images
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="filter_cap*.json or chart_release_update.json")
    parser.add_argument("--images", type=Path, help="image_data.json of Visual Genome")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    known = vg_images(given.images) if given.images else None
    for where, record in out.progress(read_records(given.file), given.file.stem):
        image = str(field(record, "image_id", object, where=where))
        if not Path(image).suffix:
            if known is not None and image not in known:
                out.skip("records of an image that is not in image_data.json")
                continue
            image = known[image].name if known else f"{image}.jpg"
        said = [
            ("human", field(record, "question", str, where=where)),
            ("gpt", field(record, "answer", str, where=where)),
        ]
        turns = turns_of([{"from": role, "value": words} for role, words in said], where, out)
        if turns is not None:
            out.write(f"lrv_{given.file.stem}.jsonl", {"image": image, "conversations": turns})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
