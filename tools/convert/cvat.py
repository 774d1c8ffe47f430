"""CVAT for images 1.1 -> DET_{name}.jsonl, for the dataset BoxList: every box of a category as one answer.

    python tools/convert/cvat.py data/originals/annotations.xml --name my_boxes

Of polygons and turned boxes the box around them is taken; points, polylines and tags are left out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from mllm.convert.conversion import Outputs, main
from mllm.convert.detection import Labelled, attribute, decimal, enclosing_box, side, write_boxes
from mllm.errors import DataError
from mllm.files import read_xml


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="annotations.xml")
    parser.add_argument("--name", help="of the file that is written; by default that of the annotations")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.annotations
    images = list(read_xml(path).iter("image"))
    if not images:
        raise DataError(where=str(path), expected="an element 'image' (CVAT for images 1.1)", found="none")
    for image in out.progress(images, "images"):
        where = f"{path}: {attribute(image, 'name', str(path))}"
        width, height = (side(attribute(image, n, where), where, f"image.{n}") for n in ("width", "height"))
        name = f"DET_{given.name or path.stem}.jsonl"
        write_boxes(out, name, image.attrib["name"], (width, height), objects(image, where, out))


def objects(image: ElementTree.Element, where: str, out: Outputs) -> Iterator[Labelled]:
    for thing in image:
        if thing.tag == "box":
            edges = ("xtl", "ytl", "xbr", "ybr")
            box = [decimal(attribute(thing, edge, where), where, f"box.{edge}") for edge in edges]
            box = turned(box, decimal(thing.get("rotation", "0"), where, "box.rotation"))
        elif thing.tag == "polygon":
            pairs = [pair.split(",") for pair in attribute(thing, "points", where).split(";")]
            box = enclosing_box(
                [[decimal(v, where, "polygon.points") for v in pair] for pair in pairs], where, "points"
            )
        else:
            out.skip(f"elements {thing.tag!r:.20}")
            continue
        yield attribute(thing, "label", where), box


def turned(box: list[float], degrees: float) -> list[float]:
    """The box around a box that is turned about its centre."""
    if not degrees % 360:
        return box
    x1, y1, x2, y2 = box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    across, down = ((x2 - x1) * cos + (y2 - y1) * sin) / 2, ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return [round(value, 3) for value in (x - across, y - down, x + across, y + down)]


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
