"""Karpathy's splits of COCO and Flickr30k -> CAP_{dataset}_karpathy_{split}.jsonl, for the dataset Caption.

    python tools/convert/karpathy.py data/originals/dataset_coco.json
    python tools/convert/karpathy.py data/originals/dataset_flickr30k.json

The file is `{dataset, images: [{filename, filepath, split, sentences: [{raw, ...}]}]}`. Its splits are train, restval
(of COCO), val and test; each is a file, all captions of an image in one line. Images of COCO have their folder before
their name, `val2014/COCO_val2014_000000391895.jpg`.

Source: Karpathy and Fei-Fei 2015, Deep Visual-Semantic Alignments, arXiv 1412.2306.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mllm.convert.conversion import Outputs, entries, main
from mllm.files import read_json
from mllm.json_fields import field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("splits", type=Path, help="dataset_coco.json or dataset_flickr30k.json")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.splits
    found = read_json(path, dict)
    dataset = field(found, "dataset", str, where=path)
    images = field(found, "images", list, where=path)
    for where, image in entries(out.progress(images, "images"), f"{path}: images"):
        said = entries(field(image, "sentences", list, where=where), f"{where}: sentences")
        captions = [text for at, one in said if (text := field(one, "raw", str, where=at).strip())]
        if not captions:
            out.skip("images without a caption")
            continue
        folder = f"{field(image, 'filepath', str, where=where)}/" if "filepath" in image else ""
        line = {"img_path": folder + field(image, "filename", str, where=where), "caption": captions}
        out.write(f"CAP_{dataset}_karpathy_{field(image, 'split', str, where=where)}.jsonl", line)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
