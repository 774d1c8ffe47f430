"""gRefCOCO -> GREC_grefcoco_{by}_{split}.jsonl, for the dataset BoxList.

    python tools/convert/grefcoco.py data/originals/grefcoco --by unc

The folder is that of the public archive: `grefs(unc).json` and `instances.json`. An expression without a target has
the annotation -1 there, and no box in its line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, Placed, entries, image_size, index_by_id, main, xywh_to_xyxy
from mllm.errors import DataError
from mllm.files import read_json
from mllm.json_fields import ID, field

NOTHING = -1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds grefs(BY).json and instances.json")
    parser.add_argument("--by", default="unc", help="whose splits")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    source = given.folder / "instances.json"
    instances = read_json(source, dict)
    images = index_by_id(instances, "images", source)
    annotations = index_by_id(instances, "annotations", source)
    path = given.folder / f"grefs({given.by}).json"
    for where, ref in entries(out.progress(read_json(path, list), "expressions"), path):
        image = images.get(field(ref, "image_id", ID, where=where))
        if image is None:
            out.skip("expressions whose image is not in instances.json")
            continue
        size = image_size(image[1], image[0])
        boxes = boxes_of(ref, annotations, size, where, out)
        if boxes is None:
            continue
        line = {"img_path": field(image[1], "file_name", str, where=image[0]), "boxes": boxes}
        line |= {"width": size[0], "height": size[1]}
        name = f"GREC_grefcoco_{given.by}_{field(ref, 'split', str, where=where)}.jsonl"
        for place, sentence in entries(field(ref, "sentences", list, where=where), f"{where}: sentences"):
            expression = field(sentence, "sent", str, where=place).strip()
            if expression:
                out.write(name, {**line, "expression": expression})
            else:
                out.skip("expressions without a word")


def boxes_of(
    ref: dict[str, Any], annotations: dict[int | str, Placed], size: tuple[int, int], where: str, out: Outputs
) -> list[list[float]] | None:
    """The boxes that a reference means; None, which is counted, where one of them is not known.

    Raises:
        DataError: `ann_id` is neither a number nor a list of them.
    """
    found = field(ref, "ann_id", int | list[int], where=where)
    numbers = found if isinstance(found, list) else [found]
    if not numbers or (NOTHING in numbers and len(numbers) > 1):
        expected = "numbers of annotations, or -1 alone"
        raise DataError(where=where, field="ann_id", expected=expected, found=str(numbers)[:60])
    boxes: list[list[float]] = []
    for number in numbers if numbers != [NOTHING] else []:
        if number not in annotations:
            out.skip("expressions whose box is not in instances.json")
            return None
        place, annotation = annotations[number]
        box = xywh_to_xyxy(field(annotation, "bbox", list, where=place), size, place, "bbox")
        if box is None:
            out.skip("expressions with a box without area")
            return None
        boxes.append(box)
    return boxes


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
