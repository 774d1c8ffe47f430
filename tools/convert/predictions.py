"""Predictions of `mllm predict` or `mllm eval` -> a COCO result file, or labels of YOLO.

    python tools/convert/predictions.py coco outputs/run/predict_extra_prediction.jsonl --instances instances_val.json
    python tools/convert/predictions.py yolo outputs/run/predict_extra_prediction.jsonl --names data.yaml

The file may also be what `mllm predict --images FOLDER` wrote.

`coco` writes {name}_coco.json, `[{image_id, category_id, bbox, score}]`; images and categories are those of
`--instances`. `yolo` writes a .txt for each image, `class x y width height`, fractions of the image. Boxes have the
score 1 where the prediction has none. Images are told apart by the names of their files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mllm.convert.conversion import Outputs, Placed, Side, index_by_id, main, read_records
from mllm.convert.detection import class_names
from mllm.errors import ConfigError, DataError
from mllm.fields import is_finite, show
from mllm.files import read_json
from mllm.json_fields import field

Found = tuple[str, str | None, list[float], float]
"""The image, label, box [x1, y1, x2, y2] and score of an answered box."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("coco", "yolo"))
    parser.add_argument("predictions", type=Path, help="*_extra_prediction.jsonl")
    parser.add_argument("--instances", type=Path, help="coco: a file with the images and categories")
    parser.add_argument("--names", type=Path, help="yolo: data.yaml, or the classes, one a line")
    parser.add_argument("--label", help="the class of boxes without a label")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    needed = {"coco": "instances", "yolo": "names"}[given.kind]
    if getattr(given, needed) is None:
        raise ConfigError(field=f"--{needed}", expected=f"a file, which {given.kind} needs", found="nothing")
    records: list[Placed] = []
    for where, record in read_records(given.predictions):
        if "error" in record:
            out.skip("images of a folder that could not be read")
        else:
            records.append((where, record))
    (write_coco if given.kind == "coco" else write_yolo)(given, records, out)


def write_coco(given: argparse.Namespace, records: list[Placed], out: Outputs) -> None:
    source: Path = given.instances
    instances = read_json(source, dict)
    images: dict[str, int | str] = {}
    for number, (where, image) in index_by_id(instances, "images", source).items():
        name = base_name(field(image, "file_name", str, where=where))
        if name in images:
            raise DataError(where=where, field="file_name", expected="a name of its own", found=f"a second {name!r}")
        images[name] = number
    categories = {
        field(one, "name", str, where=where): n
        for n, (where, one) in index_by_id(instances, "categories", source).items()
    }
    lines: list[str] = []
    for where, record in records:
        for image, label, (x1, y1, x2, y2), score in boxes_of(record, given.label, where):
            if image not in images:
                out.skip("boxes on an image that is not in the instances")
            elif label not in categories:
                out.skip("boxes without a known category")
            else:
                box = [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)]
                result = {"image_id": images[image], "category_id": categories[label], "bbox": box, "score": score}
                lines.append(json.dumps(result))
    out.write_text(f"{given.predictions.stem}_coco.json", "[" + ",\n ".join(lines) + "]\n", len(lines))


def write_yolo(given: argparse.Namespace, records: list[Placed], out: Outputs) -> None:
    names = class_names(given.names)
    seen: dict[str, str] = {}
    lines: dict[str, list[str]] = {}
    for where, record in records:
        path = field(record, "image", str, where=where)
        file = f"{PurePosixPath(base_name(path)).stem}.txt"
        if seen.setdefault(file, path) != path:
            raise DataError(where=where, field="image", expected=f"one image for {file}", found=f"a second, {path}")
        sides = field(record, "image_size", list[Side], where=where)
        if len(sides) != 2:
            raise DataError(where=where, field="image_size", expected="[width, height]", found=show(sides))
        width, height = sides
        own = lines.setdefault(file, [])
        for _, label, (x1, y1, x2, y2), _ in boxes_of(record, given.label, where):
            if label not in names:
                out.skip("boxes without a known class")
                continue
            values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            own.append(f"{names.index(label)} {' '.join(f'{value:.6f}' for value in values)}\n")
    for file, own in lines.items():
        out.write_text(file, "".join(own), len(own))


def boxes_of(record: dict[str, Any], label: str | None, where: str) -> Iterator[Found]:
    """The boxes of a line of predictions.

    Raises:
        DataError: the line has other fields.
    """
    image = base_name(field(record, "image", str, where=where))
    name, of_labels = ("boxes", "labels") if "prompt" in record else ("pred", "pred_labels")
    boxes = field(record, name, list, where=where)
    none: list[None] = [None] * len(boxes)
    labels = field(record, of_labels, list[str | None], where=where) if record.get(of_labels) else none
    scores = field(record, "pred_scores", list[float | None], where=where) if record.get("pred_scores") else none
    if not len(labels) == len(scores) == len(boxes):
        expected, found = f"{len(boxes)} labels and scores", f"{len(labels)} and {len(scores)}"
        raise DataError(where=where, field=of_labels, expected=expected, found=found)
    for number, (box, own, score) in enumerate(zip(boxes, labels, scores, strict=True)):
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, box)):
            raise DataError(where=where, field=f"{name}[{number}]", expected="4 numbers", found=show(box))
        yield image, label if own is None else own, box, 1.0 if score is None else score


def base_name(path: str) -> str:
    """The name of a file, without its folders."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
