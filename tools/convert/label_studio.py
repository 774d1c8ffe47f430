"""Label Studio json -> DET_{name}.jsonl, for the dataset BoxList: every box of a category as one answer.

    python tools/convert/label_studio.py data/originals/project-1.json --image-key image --name my_boxes

The export "JSON": an array of tasks. Of each the first annotation that was not cancelled is taken. Turned rectangles
are left out, and regions of other kinds. Images in local storage (`/data/local-files/?d=a/b.jpg`) are named by their
path there, uploaded ones (`/data/upload/1/a.jpg`) by their name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mllm.convert.conversion import Outputs, Placed, Side, entries, main
from mllm.convert.detection import Labelled, write_boxes
from mllm.files import read_json
from mllm.json_fields import field

SIDES = ("x", "y", "width", "height")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", type=Path, help="the export as JSON")
    parser.add_argument("--image-key", default="image", help="the field of `data` that names the image")
    parser.add_argument("--name", help="of the file that is written; by default that of the export")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.tasks
    for where, task in entries(out.progress(read_json(path, list), "tasks"), path):
        image = image_name(field(field(task, "data", dict, where=where), given.image_key, str, "data", where=where))
        found = entries(field(task, "annotations", list, where=where), f"{where}: annotations")
        done = [(place, one) for place, one in found if not one.get("was_cancelled")]
        if not done:
            out.skip("tasks without an annotation")
            continue
        place, annotation = done[0]
        results = list(entries(field(annotation, "result", list, where=place), f"{place}: result"))
        rectangles = [one for one in results if is_rectangle(one[1], out)]
        if not rectangles:
            out.skip("images without a box")
            continue
        at, first = rectangles[0]
        size = field(first, "original_width", Side, where=at), field(first, "original_height", Side, where=at)
        write_boxes(out, f"DET_{given.name or path.stem}.jsonl", image, size, objects(rectangles, size))


def is_rectangle(result: dict[str, Any], out: Outputs) -> bool:
    """Whether a result is an upright rectangle; others are counted."""
    if result.get("type") != "rectanglelabels":
        out.skip(f"regions of type {result.get('type')!r:.30}")
        return False
    if isinstance(result.get("value"), dict) and result["value"].get("rotation"):
        out.skip("turned rectangles")
        return False
    return True


def objects(results: list[Placed], size: tuple[int, int]) -> Iterator[Labelled]:
    """Boxes in pixels; Label Studio has them in percent of the image."""
    for where, result in results:
        value = field(result, "value", dict, where=where)
        x, y, width, height = (field(value, name, float, "value", where=where) for name in SIDES)
        box = [round(v * s / 100, 3) for v, s in zip((x, y, x + width, y + height), size * 2, strict=True)]
        for label in field(value, "rectanglelabels", list[str], "value", where=where):
            yield label, box


def image_name(source: str) -> str:
    """The path of an image below the folder of images."""
    parts = urlsplit(source)
    if parts.path.startswith("/data/local-files"):
        return parse_qs(parts.query).get("d", [source])[0].lstrip("/")
    return parts.path.rsplit("/", 1)[-1] if parts.path.startswith("/data/upload/") else source


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
