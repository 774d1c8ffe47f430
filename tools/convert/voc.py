"""Pascal VOC xml -> DET_{name}.jsonl, for the dataset BoxList: every box of a category as one answer.

    python tools/convert/voc.py data/originals/VOCdevkit/VOC2012 --split val --name voc2012_val

The folder holds Annotations/*.xml, or the xml files themselves; with `--split`, the names of ImageSets/Main/SPLIT.txt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from mllm.convert.conversion import Outputs, main
from mllm.convert.detection import Labelled, decimal, side, write_boxes
from mllm.errors import DataError
from mllm.files import read_text, read_xml


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds Annotations/*.xml, or *.xml")
    parser.add_argument("--split", help="a list in ImageSets/Main, without .txt")
    parser.add_argument("--name", help="of the file that is written; by default the folder's")
    parser.add_argument("--origin", type=int, choices=(0, 1), default=1, help="of the first pixel: VOC counts from 1")
    parser.add_argument("--difficult", action="store_true", help="take the objects marked difficult, too")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    folder: Path = given.folder
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    if given.split:
        names = read_text(folder / "ImageSets" / "Main" / f"{given.split}.txt").split("\n")
        files = [annotations / f"{line.split()[0]}.xml" for line in names if line.strip()]
    else:
        files = sorted(annotations.glob("*.xml"))
    if not files:
        raise DataError(where=str(annotations), expected="xml files", found="none")
    name = f"DET_{given.name or folder.resolve().name}.jsonl"
    for path in out.progress(files, "images"):
        root = read_xml(path)
        size = tuple(side(root.findtext(f"size/{n}"), str(path), f"size.{n}") for n in ("width", "height"))
        image = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
        write_boxes(out, name, image, (size[0], size[1]), objects(root, given, str(path), out))


def objects(root: ElementTree.Element, given: argparse.Namespace, where: str, out: Outputs) -> Iterator[Labelled]:
    """The objects of a file. Where pixels count from 1 the last pixel belongs to the box."""
    for thing in root.iter("object"):
        if not given.difficult and (thing.findtext("difficult") or "0").strip() == "1":
            out.skip("objects marked difficult")
            continue
        edges = ("xmin", "ymin", "xmax", "ymax")
        x1, y1, x2, y2 = (decimal(thing.findtext(f"bndbox/{n}"), where, f"bndbox.{n}") for n in edges)
        yield thing.findtext("name") or "", (x1 - given.origin, y1 - given.origin, x2, y2)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
