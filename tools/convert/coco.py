"""COCO -> captions for the dataset Caption, or "the only <category>" expressions for REC and REG.

    python -m tools.convert.coco captions data/originals/captions_train2014.json
    python -m tools.convert.coco instances data/originals/instances_val2017.json --boxes masks

`captions` writes CAP_coco_{name}.jsonl, all captions of a picture in one line. `instances` writes
REC_coco_{name}.jsonl: where a picture holds exactly one object of a category, `the only dog` means its box.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from mllm.errors import DataError
from tools.convert.conversion import Outputs, corners, main, need, read_json, size_of


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("captions", "instances"))
    parser.add_argument("annotations", type=Path, help="captions_*.json or instances_*.json")
    parser.add_argument("--boxes", choices=("given", "masks"), default="given", help="masks: boxes around the masks")
    parser.add_argument("--min-side", type=float, default=8, help="smallest side of a box, in pixels")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.annotations
    found = read_json(path, dict)
    pictures: dict[int, dict[str, Any]] = {
        need(picture, "id", path): picture for picture in need(found, "images", path, list)
    }
    by_picture: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in need(found, "annotations", path, list):
        by_picture[need(annotation, "image_id", path)].append(annotation)
    name = path.stem.partition("_")[2] or path.stem
    names = {} if given.kind == "captions" else {c["id"]: c["name"] for c in need(found, "categories", path, list)}
    for number, own in out.progress(list(by_picture.items()), "pictures"):
        picture = pictures.get(number)
        if picture is None:
            out.skip("pictures that are not in the list of images")
        elif given.kind == "captions":
            captions = [text for one in own if (text := need(one, "caption", path, str).strip())]
            if captions:
                out.write(
                    f"CAP_coco_{name}.jsonl", {"img_path": need(picture, "file_name", path, str), "caption": captions}
                )
            else:
                out.skip("pictures without a caption")
        else:
            for line in only(picture, own, names, given, out):
                out.write(f"REC_coco_{name}.jsonl", line)


def only(
    picture: dict[str, Any],
    objects: list[dict[str, Any]],
    names: dict[int, str],
    given: argparse.Namespace,
    out: Outputs,
) -> list[dict[str, Any]]:
    """An expression for each category of which the picture holds one object, and no crowd."""
    size = size_of(picture, given.annotations)
    lines: list[dict[str, Any]] = []
    for category in sorted({need(one, "category_id", given.annotations) for one in objects}):
        own = [one for one in objects if one["category_id"] == category]
        if len(own) > 1 or own[0].get("iscrowd"):
            out.skip("categories with several objects in a picture")
            continue
        name = names.get(category)
        if name is None:
            raise DataError(f"{given.annotations}: category_id {category} is not in the list of categories")
        xywh = need(own[0], "bbox", given.annotations, list) if given.boxes == "given" else around(own[0], size)
        box = corners(xywh, size)
        if box is None or min(box[2] - box[0], box[3] - box[1]) < given.min_side:
            out.skip("objects too small")
            continue
        line = {
            "img_path": need(picture, "file_name", given.annotations, str),
            "expression": f"the only {name}",
            "bbox": box,
        }
        lines.append({**line, "width": size[0], "height": size[1]})
    return lines


def around(annotation: dict[str, Any], size: tuple[int, int]) -> list[float]:
    """[x, y, width, height] around a mask: polygons, or run lengths, compressed or not."""
    from pycocotools import mask

    outline: Any = need(annotation, "segmentation", f"annotation {annotation.get('id')}")
    width, height = size
    try:
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            runs = mask.frPyObjects(outline, height, width)
        else:
            runs = outline
        return [float(value) for value in mask.toBbox(mask.merge(runs) if isinstance(runs, list) else runs)]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"annotation {annotation.get('id')}: segmentation: not a mask: {error}") from error


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
