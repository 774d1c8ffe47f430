"""LRV-Instruction -> lrv_{name of the file}.jsonl, for the dataset Instruct.

    python tools/convert/lrv.py data/originals/filter_cap1.json --images data/originals/image_data.json
    python tools/convert/lrv.py data/originals/chart_release_update.json

`[{image_id, question, answer, task}]`. An `image_id` is a number of Visual Genome: with its image_data.json the picture
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
from mllm.convert.visual_genome import vg_pictures
from mllm.fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="filter_cap*.json or chart_release_update.json")
    parser.add_argument("--images", type=Path, help="image_data.json of Visual Genome")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    known = vg_pictures(given.images) if given.images else None
    for where, record in out.progress(read_records(given.file), given.file.stem):
        picture = str(field(record, "image_id", object, where=where))
        if not Path(picture).suffix:
            if known is not None and picture not in known:
                out.skip("records of a picture that is not in image_data.json")
                continue
            picture = known[picture].name if known else f"{picture}.jpg"
        said = [
            ("human", field(record, "question", str, where=where)),
            ("gpt", field(record, "answer", str, where=where)),
        ]
        turns = turns_of([{"from": role, "value": words} for role, words in said], where, out)
        if turns is not None:
            out.write(f"lrv_{given.file.stem}.jsonl", {"image": picture, "conversations": turns})


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
