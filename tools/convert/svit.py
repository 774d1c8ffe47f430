"""SVIT -> svit_{name of the file}.jsonl, for the dataset Instruct.

    python tools/convert/svit.py data/originals/conversation.json --images data/originals/image_data.json
    python tools/convert/svit.py data/originals/referring_qa.json --images data/originals/image_data.json

conversation.json, complex_reasoning.json, detail_description.json, referring_qa.json:
`[{image_id, conversations: [{content: [{from: user|gpt, value}]}]}]`, each conversation a line. Images are those of
Visual Genome, named as its archives unpack, VG_100K/2.jpg. In referring_qa.json words point,
`<st>man<ed> [x1, y1, x2, y2]` with fractions of the image; here `man<boxes>`, with boxes in pixels. (The files of
format/llava-v1.5: see llava.)

Source: the README and prompts/referring_qa.txt of BAAI-DCAI/Visual-Instruction-Tuning for marks and boxes; for the
fields, public code that reads the files.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversations import turns_of
from mllm.convert.conversion import Outputs, entries, main, read_records
from mllm.convert.visual_genome import vg_images
from mllm.json_fields import field
from mllm.types import BOXES

REFERENCE = re.compile(r"<st>(.*?)<ed>((?:[\s,]*\[[^\[\]]*\])+)")
"""`<st>men<ed> [0.1, 0.2, 0.3, 0.4], [0.5, 0.2, 0.7, 0.4]`"""
BOX = re.compile(r"\[([^\[\]]*)\]")
LEFT_OVER = re.compile(r"<st>|<ed>|\[\s*[01]?\.\d")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="one of the files of its folder data")
    parser.add_argument("--images", type=Path, required=True, help="image_data.json of Visual Genome")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    known = vg_images(given.images)
    for where, record in out.progress(read_records(given.file), given.file.stem):
        image = known.get(str(field(record, "image_id", object, where=where)))
        if image is None:
            out.skip("records of an image that is not in image_data.json")
            continue
        told = entries(field(record, "conversations", list, where=where), f"{where}: conversations")
        for place, conversation in told:
            turns = turns_of(field(conversation, "content", list, where=place), f"{place}: content", out)
            if turns is None:
                continue
            boxes: list[list[float]] = []
            pointing = [pointed(turn, image.size, boxes) for turn in turns]
            if any(turn is None for turn in pointing):
                out.skip("conversations with a box that is not four fractions after <st> <ed>")
                continue
            line: dict[str, Any] = {"image": image.name, "conversations": pointing}
            out.write(f"svit_{given.file.stem}.jsonl", {**line, "target": {"boxes": boxes}} if boxes else line)


def pointed(turn: dict[str, str], size: tuple[int, int], boxes: list[list[float]]) -> dict[str, Any] | None:
    """The turn with `<boxes>` for what it points at, which is added to `boxes`; None where a box cannot be read."""
    groups: list[list[int]] = []
    readable = True

    def mark(match: re.Match[str]) -> str:
        nonlocal readable
        group: list[int] = []
        for text in BOX.findall(match[2]):
            box = pixels(text, size)
            if box is None:
                readable = False
                return match[0]
            if box not in boxes:
                boxes.append(box)
            group.append(boxes.index(box))
        groups.append(group)
        return f"{match[1]}{BOXES}"

    words = REFERENCE.sub(mark, turn["value"])
    if not readable or LEFT_OVER.search(words):
        return None
    return {**turn, "value": words, "boxes_seq": groups} if groups else turn


def pixels(text: str, size: tuple[int, int]) -> list[float] | None:
    """`0.1, 0.2, 0.3, 0.4` of an image of this size; None where these are not the corners of a box."""
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError:
        return None
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        return None
    width, height = size
    return [round(value, 2) for value in (x1 * width, y1 * height, x2 * width, y2 * height)]


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
