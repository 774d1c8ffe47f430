"""LabelMe -> DET_{name}.jsonl, for the dataset BoxList: every box of a category as one answer.

    python tools/convert/labelme.py data/originals/my_boxes --name my_boxes

The folder, or one in it, holds a .json for each image, which names the image from where it lies itself. Rectangles are
taken as they are, of polygons, circles and masks the box around them; points and lines are left out.
"""

from __future__ import annotations

import argparse
import math
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, Side, entries, main
from mllm.convert.detection import Labelled, enclosing_box, write_boxes
from mllm.errors import DataError
from mllm.files import read_json
from mllm.json_fields import field

WITH_AREA = ("rectangle", "polygon", "mask", "rotation")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="with a .json for each image")
    parser.add_argument("--name", help="of the file that is written; by default the folder's")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    files = sorted(given.folder.rglob("*.json"))
    if not files:
        raise DataError(where=str(given.folder), expected="json files", found="none")
    for path in out.progress(files, "images"):
        found = read_json(path, dict)
        size = field(found, "imageWidth", Side, where=path), field(found, "imageHeight", Side, where=path)
        image = field(found, "imagePath", str, where=path).replace("\\", "/")
        image = posixpath.normpath((path.parent.relative_to(given.folder) / image).as_posix())
        name = f"DET_{given.name or given.folder.resolve().name}.jsonl"
        write_boxes(out, name, image, size, objects(found, path, out))


def objects(found: dict[str, Any], path: Path, out: Outputs) -> Iterator[Labelled]:
    for where, shape in entries(field(found, "shapes", list, where=path), f"{path}: shapes"):
        kind = shape.get("shape_type") or "polygon"
        points = field(shape, "points", list, where=where)
        box = enclosing_box(points, where, "points")
        if kind == "circle" and len(points) == 2:  # its centre, and a point on it
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            box = [x - radius, y - radius, x + radius, y + radius]
        elif kind not in WITH_AREA:
            out.skip(f"shapes of kind {kind!r:.20}")
            continue
        yield field(shape, "label", str, where=where), box


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
