"""People's own boxes -> lines for the dataset BoxList: each category that an image shows is asked for once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mllm.convert.conversion import Outputs, Side, clip_box
from mllm.errors import DataError
from mllm.fields import is_finite, show
from mllm.json_fields import field

Labelled = tuple[str, Sequence[float]]
"""The category of an object and its box, [x1, y1, x2, y2] in pixels."""


def write_boxes(out: Outputs, name: str, image: str, size: tuple[int, int], objects: Iterable[Labelled]) -> None:
    """Add a line to the file `name` for each category, with all its boxes; those without area are left out."""
    by_category: dict[str, list[list[float]]] = {}
    for category, xyxy in objects:
        box = clip_box(xyxy, size)
        if not category.strip():
            out.skip("boxes without a category")
        elif box is None:
            out.skip("boxes without area in the image")
        else:
            by_category.setdefault(category.strip(), []).append(box)
    if not by_category:
        out.skip("images without a box")
    for category, boxes in by_category.items():
        line = {"img_path": image, "expression": category, "boxes": boxes, "labels": [category] * len(boxes)}
        out.write(name, {**line, "width": size[0], "height": size[1]})


def enclosing_box(points: Sequence[Sequence[float]], where: str, at: str) -> list[float]:
    """The box around points [x, y].

    Raises:
        DataError: there is none, or one is not two numbers; `at` names the field.
    """
    for number, point in enumerate(points):
        if not isinstance(point, Sequence) or len(point) != 2 or not all(map(is_finite, point)):
            place = f"{at}[{number}]"
            raise DataError(where=where, field=place, expected="2 numbers", found=show(point), kind="coordinates")
    if not points:
        raise DataError(where=where, field=at, expected="points", found="none", kind="coordinates")
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def decimal(text: str | None, where: str, at: str) -> float:
    """The finite number that a text of XML or of a table holds.

    Raises:
        DataError: it holds none; `at` names the field.
    """
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(where=where, field=at, expected="a number", found=show(text), kind="coordinates")
    return number


def side(text: str | None, where: str, at: str) -> int:
    """The width or height in pixels that a text of XML holds."""
    number = decimal(text, where, at)
    return field({at: int(number) if number.is_integer() else number}, at, Side, where=where)


def attribute(element: ElementTree.Element, name: str, where: str) -> str:
    """An attribute of an XML element.

    Raises:
        DataError: it has none of that name.
    """
    if name not in element.attrib:
        raise DataError(where=where, field=f"{element.tag}.{name}", expected="a value", found="nothing")
    return element.attrib[name]


def class_names(path: Path) -> list[str]:
    """The classes of a YOLO dataset in their order: one a line, or the list or dict `names` of a data.yaml.

    Raises:
        DataError: it cannot be read, or holds no such list.
    """
    import yaml

    from mllm.files import read_text

    text = read_text(path)
    if path.suffix not in (".yaml", ".yml"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        found: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"not YAML: {error}".replace("\n", " "), where=str(path)) from error
    names = field(found, "names", object, where=path)
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    return field({"names": names}, "names", list[str], where=path)
