"""PixMo -> points for PointList, counts for Instruct.

    python tools/convert/pixmo.py points data/originals/pixmo-points-eval/test-00000-of-00001.parquet
    python tools/convert/pixmo.py count data/originals/pixmo-count/test-00000-of-00001.parquet

Takes the tables of allenai/pixmo-points-eval, allenai/pixmo-points and allenai/pixmo-count (`pip install pyarrow`), or
their rows as JSON lines. They name images by URL and SHA-256. What is not in `--images` yet is fetched into it, named
by its SHA-256 (`pip install 'mllm[remote]'`); a row whose image is gone or has changed is left out, and counted.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mllm.convert.conversion import Outputs, main, read_table
from mllm.errors import DataError, ImageError
from mllm.fields import Count, is_finite, show
from mllm.images import image_ref
from mllm.images.fetch import check_url, fetch
from mllm.json_fields import field
from mllm.types import IMAGE

SCALE = 100
"""The points are percentages of the width and height of the image, as the code of Molmo reads them."""
AT_ONCE = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("points", "count"))
    parser.add_argument("table", type=Path, help="{split}-*.parquet")
    parser.add_argument("--images", type=Path, default=Path("data/images/pixmo"), help="where images are and will be")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    name = (
        f"{'PT_pixmo_points' if given.kind == 'points' else 'CNT_pixmo_count'}_{given.table.stem.split('-')[0]}.jsonl"
    )
    known = {path.stem: path for path in given.images.glob("*") if path.is_file()}
    wanted = {
        field(row, "image_sha256", str, where=where): field(row, "image_url", str, where=where)
        for where, row in read_table(given.table, ("image_sha256", "image_url"))
    }
    missing = {digest: url for digest, url in wanted.items() if digest not in known}
    why = dict(tqdm(fetched(missing, given.images), "images", len(missing), disable=None))
    known |= {path.stem: path for path in given.images.glob("*") if path.stem in missing}
    for where, row in read_table(given.table):
        digest, label = row["image_sha256"], field(row, "label", str, where=where).strip()
        if digest not in known:
            out.skip(why[digest])
        elif not label:
            out.skip("rows without a label")
        elif given.kind == "count":
            count = field(row, "count", Count, where=where)
            turns = [{"from": "human", "value": f"{IMAGE}\nHow many {label} are there?"}]
            turns.append({"from": "gpt", "value": str(count)})
            out.write(name, {"image": known[digest].name, "conversations": turns})
        else:
            write_points(out, name, known[digest], label, row, where)


def fetched(missing: dict[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """Fetch images into the folder; why an image is not there: its digest, and the reason."""
    folder.mkdir(parents=True, exist_ok=True)

    def one(pair: tuple[str, str]) -> tuple[str, str]:
        digest, url = pair
        try:
            check_url(url)
            data = fetch(url)
            if hashlib.sha256(data).hexdigest() != digest:
                return digest, "images that have changed"
            with Image.open(io.BytesIO(data)) as image:
                suffix = (image.format or "image").lower()
        except (ImageError, DataError, OSError):
            return digest, "images that cannot be fetched"
        (folder / f"{digest}.{suffix}").write_bytes(data)
        return digest, ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(one, missing.items())


def write_points(out: Outputs, name: str, image: Path, label: str, row: dict[str, Any], where: str) -> None:
    outlines = field(row, "masks", list, where=where) if row.get("masks") else []
    masks = [mask_of(rows, f"{where}: masks[{number}]") for number, rows in enumerate(outlines)]
    size = image_ref(str(image)).size
    points = list(points_of(field(row, "points", list, where=where), size, where))
    if any(mask.shape != size[::-1] for mask in masks):
        out.skip("images of another size than their masks")
    elif masks and points and len(masks) != len(points):
        out.skip("rows with other than one mask for each point")
    else:
        line = {"img_path": image.name, "expression": label, "points": points}
        runs = [encoded(mask) for mask in masks] if points else []
        out.write(name, {**line, "masks": runs} if runs else line)


def points_of(points: Iterable[Any], size: tuple[int, int], where: str) -> Iterator[list[float]]:
    """In pixels."""
    for number, point in enumerate(points):
        xy: list[Any] = [point.get("x"), point.get("y")] if isinstance(point, dict) else []
        if len(xy) != 2 or not all(map(is_finite, xy)) or not all(0 <= value <= SCALE for value in xy):
            expected = f"x and y from 0 to {SCALE}"
            raise DataError(where=where, field=f"points[{number}]", expected=expected, found=show(point))
        yield [round(value / SCALE * side, 2) for value, side in zip(xy, size, strict=True)]


def mask_of(rows: Any, where: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool [height, width]"""
    try:
        mask = np.array(rows, dtype=np.bool_)
    except ValueError:
        mask = np.zeros(0, dtype=np.bool_)
    if mask.ndim != 2:
        raise DataError(where=where, expected="rows of equally many true and false", found=show(rows))
    return mask


def encoded(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    from pycocotools import mask as masks

    coco: Any = masks
    runs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": runs["counts"].decode("ascii")}


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))
