"""YOLO -> DET_{name}.jsonl, for the dataset BoxList: every box of a category as one answer.

    python tools/convert/yolo.py data/originals/coco8/images/val data/originals/coco8/labels/val \\
        --names data/originals/coco8/data.yaml --name coco8_val

Of each image of the first folder, and of the folders in it, the file of the same name in the second holds `class x y
width height`, fractions of the image, or `class x1 y1 x2 y2 x3 y3 ...`, an outline, of which the box around is taken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from mllm.convert.conversion import Outputs, main
from mllm.convert.detection import Labelled, class_names, decimal, enclosing_box, write_boxes
from mllm.errors import DataError
from mllm.files import read_text
from mllm.images import image_ref

BEYOND = 1.01
"""Above it a number is no fraction of the image, not even one that was rounded."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("labels", type=Path, help="a folder with a .txt for each")
    parser.add_argument("--names", type=Path, required=True, help="data.yaml, or the classes, one a line")
    parser.add_argument("--name", help="of the file that is written; by default that of the folder of images")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    names = class_names(given.names)
    images = sorted(path for path in given.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not images:
        raise DataError(where=str(given.images), expected=f"images ({', '.join(SUFFIXES)})", found="none")
    known = {image.relative_to(given.images).with_suffix(".txt") for image in images}
    listed = given.names.resolve()  # the list of classes may lie among the labels
    for labels in given.labels.rglob("*.txt"):
        if labels.relative_to(given.labels) not in known and labels.resolve() != listed:
            out.skip("files of labels without an image")
    for image in out.progress(images, "images"):
        place = image.relative_to(given.images)
        labels = given.labels / place.with_suffix(".txt")
        if not labels.exists():
            out.skip("images without a file of labels")
            continue
        size = image_ref(str(image)).size
        name = f"DET_{given.name or given.images.resolve().name}.jsonl"
        write_boxes(out, name, place.as_posix(), size, objects(labels, size, names))


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
        if values and max(map(abs, values)) > BEYOND:
            found = f"{max(values, key=abs):g}"
            raise DataError(where=where, field="coordinates", expected="fractions of the image, 0 to 1", found=found)
        if len(values) == 4:
            x, y, w, h = values
            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        elif len(values) >= 6 and len(values) % 2 == 0:
            box = enclosing_box(list(zip(values[::2], values[1::2], strict=True)), where, "coordinates")
        else:
            expected = "4 numbers, or pairs of an outline"
            raise DataError(where=where, field="coordinates", expected=expected, found=str(len(values)))
        yield names[int(words[0])], [round(v * s, 3) for v, s in zip(box, (width, height) * 2, strict=True)]


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
