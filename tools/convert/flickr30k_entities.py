"""Flickr30k Entities -> CWB_flickr30k_{split}.jsonl, for the datasets GroundedCaption and GroundedPhrase.

    python tools/convert/flickr30k_entities.py data/originals/flickr30k_entities --split train val test
    python tools/convert/flickr30k_entities.py data/originals/flickr30k_entities --split test --phrases

The folder holds Annotations/*.xml, Sentences/*.txt and, for each split, the ids of its images in SPLIT.txt, as the
public repository does. Phrases without a box stay in the sentence unmarked. Shikra calls the split val `eval`.
With `--phrases` each phrase that has boxes is a line of PG_flickr30k_{split}.jsonl, for the dataset BoxList, with its
types (`people/bodyparts`) as `group`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from mllm.convert.conversion import Outputs, main
from mllm.convert.visual_genome import read_ids
from mllm.errors import DataError
from mllm.fields import show
from mllm.files import read_text, read_xml

PHRASE = re.compile(r"\[/EN#(\d+)/(\S+) ([^\]]*)\]")
"""`[/EN#137644/people A group of friends]`"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds Annotations, Sentences and a list of ids for each split")
    parser.add_argument("--phrases", action="store_true", help="a line for each phrase, for phrase grounding")
    parser.add_argument("--split", nargs="+", default=["train", "val", "test"], help="names of the lists, without .txt")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    for split in given.split:
        name = f"{'PG' if given.phrases else 'CWB'}_flickr30k_{'eval' if split == 'val' else split}.jsonl"
        for image in out.progress(sorted(read_ids(given.folder / f"{split}.txt")), split):
            sentences = given.folder / "Sentences" / f"{image}.txt"
            boxes = read_boxes(given.folder / "Annotations" / f"{image}.xml", out)
            for line in read_text(sentences).splitlines():
                if given.phrases:
                    write_phrases(line, boxes, image, name, out)
                    continue
                sentence, found, groups = grounded(line, boxes)
                if groups:
                    out.write(name, {"image_id": image, "sentence": sentence, "boxes": found, "boxes_seq": groups})
                else:
                    out.skip("sentences without a phrase that has a box")


def write_phrases(line: str, boxes: dict[str, list[list[int]]], image: str, name: str, out: Outputs) -> None:
    """A line for each phrase of a sentence that has boxes; as often as it stands there, as the benchmark counts."""
    for entity, types, phrase in PHRASE.findall(line):
        own = boxes.get(entity, [])
        if own:
            record = {"img_path": f"{image}.jpg", "expression": phrase, "boxes": own, "group": {"type": types}}
            out.write(name, record)
        else:
            out.skip("phrases without a box")


def grounded(line: str, boxes: dict[str, list[list[int]]]) -> tuple[str, list[list[int]], list[list[int]]]:
    """The sentence with its phrases marked, all their boxes, and the places there of the boxes of each phrase."""
    found: list[list[int]] = []
    groups: list[list[int]] = []

    def mark(match: re.Match[str]) -> str:
        own = boxes.get(match[1], [])
        if not own:
            return match[3]
        for box in own:
            if box not in found:
                found.append(box)
        groups.append([found.index(box) for box in own])
        return f"<ph_st>{match[3]}<ph_ed>"

    return PHRASE.sub(mark, line).strip(), found, groups


def read_boxes(path: Path, out: Outputs) -> dict[str, list[list[int]]]:
    """Boxes by entity, xyxy with 0 as the left edge: the files count pixels from 1 and include the last.

    Raises:
        DataError: it cannot be read.
    """
    boxes: dict[str, list[list[int]]] = {}
    for thing in read_xml(path).iter("object"):
        frame = thing.find("bndbox")
        if frame is not None:
            left, top, right, bottom = (edge(frame, n, path) for n in ("xmin", "ymin", "xmax", "ymax"))
            if left > right or top > bottom:
                out.skip("boxes with edges the wrong way round")
                continue
            for name in thing.findall("name"):
                boxes.setdefault(name.text or "", []).append([max(left - 1, 0), max(top - 1, 0), right, bottom])
    return boxes


def edge(frame: ElementTree.Element, name: str, path: Path) -> int:
    """The number that an element of a box holds."""
    text = frame.findtext(name, "").strip()
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise DataError(where=str(path), field=f"bndbox.{name}", expected="a whole number", found=show(text))
    return int(text)


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
