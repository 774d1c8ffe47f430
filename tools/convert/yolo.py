"""YOLO -> DET_{name}.jsonl, for the dataset BoxList: every box of a category as one answer.

    python tools/convert/yolo.py data/originals/coco8/images/val data/originals/coco8/labels/val \\
        --names data/originals/coco8/data.yaml --name coco8_val

Of each image of the first folder the file of the same name in the second holds `class x y width height`, fractions of
the image, or `class x1 y1 x2 y2 x3 y3 ...`, an outline, of which the box around it is taken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from mllm.convert.conversion import Outputs, main
from mllm.convert.detection import Labelled, around, class_names, decimal, write_boxes
from mllm.errors import DataError
from mllm.files import read_text
from mllm.images import image_ref

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("labels", type=Path, help="a folder with a .txt for each")
    parser.add_argument("--names", type=Path, required=True, help="data.yaml, or the classes, one a line")
    parser.add_argument("--name", help="of the file that is written; by default that of the folder of images")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    names = class_names(given.names)
    images = sorted(path for path in given.images.glob("*") if path.suffix.lower() in SUFFIXES)
    if not images:
        raise DataError(where=str(given.images), expected=f"images ({', '.join(SUFFIXES)})", found="none")
    for image in out.progress(images, "images"):
        labels = given.labels / f"{image.stem}.txt"
        if not labels.exists():
            out.skip("images without a file of labels")
            continue
        size = image_ref(str(image)).size
        name = f"DET_{given.name or given.images.resolve().name}.jsonl"
        write_boxes(out, name, image.name, size, objects(labels, size, names))


def objects(path: Path, size: tuple[int, int], names: list[str]) -> Iterator[Labelled]:
    """The objects of a file of labels, in pixels."""
    width, height = size
    for number, line in enumerate(read_text(path).splitlines(), 1):
        where = f"{path}:{number}"
        words = line.split()
        if not words:
            continue
        if not words[0].isdecimal() or int(words[0]) >= len(names):
            expected = f"the number of one of {len(names)} classes"
            raise DataError(where=where, field="class", expected=expected, found=repr(words[0][:20]))
        values = [decimal(word, where, "coordinates") for word in words[1:]]
        if len(values) == 4:
            x, y, w, h = values
            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        elif len(values) >= 6 and len(values) % 2 == 0:
            box = around(list(zip(values[::2], values[1::2], strict=True)), where, "coordinates")
        else:
            expected = "4 numbers, or pairs of an outline"
            raise DataError(where=where, field="coordinates", expected=expected, found=str(len(values)))
        yield names[int(words[0])], [round(v * s, 3) for v, s in zip(box, (width, height) * 2, strict=True)]


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
