"""COCO -> captions for Caption, "the only <category>" expressions for REC and REG, all boxes of a category for BoxList.

    python tools/convert/coco.py captions data/originals/captions_train2014.json
    python tools/convert/coco.py detection data/originals/instances_val2017.json
    python tools/convert/coco.py instances data/originals/instances_val2017.json --boxes masks

`captions` writes CAP_coco2014_train.jsonl, all captions of an image in one line. `instances` writes
REC_coco2017_val.jsonl: where an image holds exactly one object of a category, `the only dog` means its box.
`detection` writes DET_coco2017_val.jsonl: every box of a category as one answer, where none is a crowd.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mllm.convert.conversion import Outputs, Placed, entries, image_size, index_by_id, main, xywh_to_xyxy
from mllm.convert.detection import Labelled, write_boxes
from mllm.errors import DataError
from mllm.files import read_json
from mllm.json_fields import ID, field


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("captions", "instances", "detection"))
    parser.add_argument("annotations", type=Path, help="captions_*.json or instances_*.json")
    parser.add_argument("--boxes", choices=("given", "masks"), default="given", help="masks: boxes around the masks")
    parser.add_argument("--min-side", type=float, default=8, help="smallest side of a box, in pixels")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    path: Path = given.annotations
    found = read_json(path, dict)
    images = index_by_id(found, "images", path)
    by_image: dict[int | str, list[Placed]] = defaultdict(list)
    for where, annotation in entries(field(found, "annotations", list, where=path), f"{path}: annotations"):
        by_image[field(annotation, "image_id", ID, where=where)].append((where, annotation))
    split = re.fullmatch(r"[a-z]+_(train|val|test)(\d{4})", path.stem)
    name = f"coco{split[2]}_{split[1]}" if split else f"coco_{path.stem}"
    names: dict[int | str, str] = {}
    if given.kind != "captions":
        names = {
            n: field(one, "name", str, where=where)
            for n, (where, one) in index_by_id(found, "categories", path).items()
        }
    for number, own in out.progress(list(by_image.items()), "images"):
        image = images.get(number)
        if image is None:
            out.skip("images that are not in the list of images")
        elif given.kind == "captions":
            captions = [text for where, one in own if (text := field(one, "caption", str, where=where).strip())]
            if captions:
                img_path = field(image[1], "file_name", str, where=image[0])
                out.write(f"CAP_{name}.jsonl", {"img_path": img_path, "caption": captions})
            else:
                out.skip("images without a caption")
        elif given.kind == "detection":
            name_of_image = field(image[1], "file_name", str, where=image[0])
            objects = all_boxes(own, names, image_size(image[1], image[0]), given, out)
            write_boxes(out, f"DET_{name}.jsonl", name_of_image, image_size(image[1], image[0]), objects)
        else:
            for line in only(image, own, names, given, out):
                out.write(f"REC_{name}.jsonl", line)


def all_boxes(
    objects: list[Placed], names: dict[int | str, str], size: tuple[int, int], given: argparse.Namespace, out: Outputs
) -> Iterator[Labelled]:
    """The boxes of the categories of which no object is a crowd."""
    crowds = {one.get("category_id") for _, one in objects if one.get("iscrowd")}
    for where, thing in objects:
        category = field(thing, "category_id", int, where=where)
        if category not in names:
            expected, found = "one of the list of categories", str(category)
            raise DataError(where=where, field="category_id", expected=expected, found=found)
        if category in crowds:
            out.skip("objects of a category with a crowd in the image")
            continue
        given_box = given.boxes == "given"
        xywh = field(thing, "bbox", list, where=where) if given_box else around(thing, size, where)
        box = xywh_to_xyxy(xywh, size, where, "bbox" if given_box else "segmentation")
        if box is None or min(box[2] - box[0], box[3] - box[1]) < given.min_side:
            out.skip("objects too small")
        else:
            yield names[category], box


def only(
    image: Placed,
    objects: list[Placed],
    names: dict[int | str, str],
    given: argparse.Namespace,
    out: Outputs,
) -> list[dict[str, Any]]:
    """An expression for each category of which the image holds one object, and no crowd."""
    size = image_size(image[1], image[0])
    lines: list[dict[str, Any]] = []
    for category in sorted({field(one, "category_id", int, where=where) for where, one in objects}):
        own = [placed for placed in objects if placed[1]["category_id"] == category]
        where, thing = own[0]
        if len(own) > 1 or thing.get("iscrowd"):
            out.skip("categories with several objects in an image")
            continue
        name = names.get(category)
        if name is None:
            expected, found = "one of the list of categories", str(category)
            raise DataError(where=where, field="category_id", expected=expected, found=found)
        xywh = field(thing, "bbox", list, where=where) if given.boxes == "given" else around(thing, size, where)
        box = xywh_to_xyxy(xywh, size, where, "bbox" if given.boxes == "given" else "segmentation")
        if box is None or min(box[2] - box[0], box[3] - box[1]) < given.min_side:
            out.skip("objects too small")
            continue
        line = {
            "img_path": field(image[1], "file_name", str, where=image[0]),
            "expression": f"the only {name}",
            "bbox": box,
        }
        lines.append({**line, "width": size[0], "height": size[1]})
    return lines


def around(annotation: dict[str, Any], size: tuple[int, int], where: str) -> list[float]:
    """[x, y, width, height] around a mask: polygons, or run lengths, compressed or not."""
    from pycocotools import mask

    outline: Any = field(annotation, "segmentation", object, where=where)
    width, height = size
    try:
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            runs = mask.frPyObjects(outline, height, width)
        else:
            runs = outline
        return [float(value) for value in mask.toBbox(mask.merge(runs) if isinstance(runs, list) else runs)]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"not a mask: {error}", where=where, field="segmentation") from error


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
